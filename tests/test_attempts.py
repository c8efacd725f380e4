"""What an attempt's end means for the others: who waits, who is let go, and that a run that waits can be ended."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import holds, runs
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.attempts import conclude
from claude_runner.config import Settings
from claude_runner.db import Connection
from claude_runner.dispatcher import PATIENCE_SECONDS
from claude_runner.holds import HoldKind
from claude_runner.hub import Topic
from claude_runner.jobs import OnCrash, Policy
from claude_runner.recovery import ENDING
from claude_runner.runs import Ending, EventKind, NewRun, Run, State, Tokens, Trigger
from tests.parts import Parts, drafted, open_parts
from tests.support import FakeAgent, FakeClock, ended, running, settled, until

OVERLOADED = Ending(State.ERROR, reason="overloaded", error="no room", tokens=Tokens(10, 1), cost_usd=0.01)
REFUSED = Ending(State.ERROR, reason="not_signed_in", error="sign in", tokens=Tokens())
MINUTE = timedelta(minutes=1)
SAID = "half a sen"


class Together(FakeAgent):
    """Lets runs go on until so many of them do, and then fail all at once."""

    def __init__(self, how_many: int, ending: Ending) -> None:
        super().__init__(self._with_others)
        self._barrier = asyncio.Barrier(how_many)
        self._ending = ending

    async def _with_others(self, _order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        await self._barrier.wait()
        return self._ending


class Deaf(FakeAgent):
    """Fails, as it would have, just when it is to stop."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(self._fail)
        self._ending = ending

    async def _fail(self, _order: Order, listener: Listener, stop: Stop) -> Ending:
        listener.started()
        listener.happened(EventKind.TEXT, {"block": 1, "text": SAID})
        await stop.requested.wait()
        return self._ending


async def pending(app: App, **changes: Any) -> str:
    return await app.runs.add(NewRun("go", Trigger.WEBHOOK, **changes), app.clock.now())


async def held(app: App) -> tuple[holds.Hold, ...]:
    return await app.database.read(lambda c: holds.current(c, app.clock.now()))


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


# Runs that wait for another attempt


async def test_a_run_whose_attempt_fails_while_it_is_cancelled_is_cancelled(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with open_app(Settings(home=tmp_path), agent=Deaf(OVERLOADED), clock=clock) as app:
        run_id = await pending(app)
        await running(app, run_id, said=SAID)
        cancelled = await app.dispatcher.cancel(run_id)
        assert (cancelled.state, cancelled.reason, cancelled.cost_usd) == (State.CANCELLED, "cancelled", 0.01)
        clock.move(MINUTE)
        assert await app.runs.get(run_id) == cancelled


async def test_a_run_whose_attempt_fails_while_another_process_cancels_it_is_cancelled(
    tmp_path: Path, clock: FakeClock
) -> None:
    settings = Settings(home=tmp_path)
    async with (
        open_app(settings, agent=Deaf(OVERLOADED), clock=clock) as app,
        open_app(settings, agent=FakeAgent(), clock=clock) as other,
    ):
        run_id = await pending(app)
        await running(app, run_id, said=SAID)
        assert (await other.dispatcher.cancel(run_id)).state is State.CANCELLED
    assert clock.elapsed() < PATIENCE_SECONDS


async def test_a_run_whose_place_is_taken_is_not_tried_again(tmp_path: Path, clock: FakeClock) -> None:
    async with open_app(Settings(home=tmp_path), agent=Deaf(OVERLOADED), clock=clock) as app:
        run_id = await pending(app)
        await running(app, run_id, said=SAID)
        await app.database.write(lambda c: c.execute("UPDATE runs SET superseded = 1").fetchall())
        app.hub.publish(Topic.CANCEL, run_id)
        assert (await ended(app, run_id)).state is State.ERROR


async def test_an_attempt_that_was_given_up_parks_nothing(parts: Parts) -> None:
    run = await parts.claimed()
    late = replace(run, attempt=run.attempt - 1)
    assert not await parts.database.write(lambda c: conclude(c, late, OVERLOADED, parts.clock.now()))
    assert await parts.runs.get(run.id) == run


async def test_a_run_that_somebody_deleted_by_hand_keeps_nobody_from_stopping_another(
    tmp_path: Path, clock: FakeClock
) -> None:
    agent = FakeAgent()
    agent._act = agent.wait_for_stop
    settings = Settings(home=tmp_path)
    async with (
        open_app(settings, agent=agent, clock=clock) as app,
        open_app(settings, agent=FakeAgent(), clock=clock) as other,
    ):
        gone, stays = await pending(app), await pending(app)
        await running(app, gone, said=SAID)
        await running(app, stays, said=SAID)
        await app.database.write(lambda c: c.execute("DELETE FROM runs WHERE id = ?", (gone,)).fetchall())
        app.hub.publish(Topic.CANCEL, gone)
        assert (await other.dispatcher.cancel(stays)).state is State.CANCELLED


# Ends that can't be told of


async def test_a_run_ends_and_is_told_of_though_nobody_knows_its_jobs_zone_any_more(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with open_app(Settings(home=tmp_path), agent=Deaf(REFUSED), clock=clock) as app:
        run_id = (await app.trigger((await app.jobs.add(drafted(), clock.now())).id)).id
        await running(app, run_id, said=SAID)
        await app.database.write(lambda c: c.execute("UPDATE jobs SET timezone = 'Mars/Olympus'").fetchall())
        assert (await app.dispatcher.cancel(run_id)).reason == "not_signed_in"


async def test_a_run_ends_though_somebody_spoiled_what_its_end_reads(
    tmp_path: Path, clock: FakeClock
) -> None:
    async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.used(Tokens(10, 1), "m", 0.25)
        return OVERLOADED

    async with open_app(Settings(home=tmp_path), agent=FakeAgent(fail), clock=clock) as app:
        run = await settled(app, await pending(app))
        await app.database.write(
            lambda c: c.execute("UPDATE runs SET model_usage = 'spoiled' WHERE id = ?", (run.id,)).fetchall()
        )
        assert run.not_before is not None
        clock.move(run.not_before - clock.now() + timedelta(seconds=1))
        run = await ended(app, run.id)
        assert (run.state, run.reason, run.error) == (State.ERROR, "overloaded", "no room")


async def test_no_run_that_was_spoiled_keeps_a_server_from_leading(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        lost = [await pending(app) for _ in range(2)]
        for each in lost:
            await ended(app, each)

        def spoil(c: Connection) -> None:
            c.execute(
                "UPDATE runs SET state = 'running', finished_at = NULL, worker = 'gone', attempt = 2,"
                " model_usage = iif(id = ?, 'spoiled', NULL)",
                (lost[0],),
            )

        await app.database.write(spoil)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        assert app.leadership.leading
        assert [(await app.runs.get(each)).reason for each in lost] == ["server_stopped"] * 2
        assert (await ended(app, await pending(app))).state is State.FINISHED


# Who waits


async def test_runs_that_are_refused_together_are_refused_once(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path, environment={"HOME": str(tmp_path / "owner")})
    async with open_app(settings, agent=Together(2, REFUSED), clock=clock) as app:
        refused = [await pending(app) for _ in range(2)]
        for each in refused:
            await ended(app, each)
        [hold] = await held(app)
    assert (hold.kind, hold.streak) == (HoldKind.NOT_SIGNED_IN, 1)
    assert hold.until == clock.now() + MINUTE


async def test_what_a_session_used_before_is_no_answer_of_a_model(tmp_path: Path, clock: FakeClock) -> None:
    usage = {
        "m": {
            "inputTokens": 10,
            "outputTokens": 1,
            "cacheReadInputTokens": 0,
            "cacheCreationInputTokens": 0,
            "costUSD": 0.01,
            "costBasis": "list",
        }
    }
    failed = replace(OVERLOADED, session_usage=usage, model_usage=usage)

    async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.happened(EventKind.TEXT, {"block": 1, "text": SAID})
        return failed

    async with open_app(Settings(home=tmp_path), agent=FakeAgent(fail), clock=clock) as app:
        run = await settled(app, await pending(app))
        now = clock.now()
        await app.database.write(
            lambda c: holds.hold(c, HoldKind.BILLING, now + timedelta(hours=9), "the bill", now)
        )
        await app.database.write(lambda c: c.execute("UPDATE runs SET trigger = 'manual'").fetchall())
        assert run.not_before is not None
        clock.move(run.not_before - now + timedelta(seconds=1))
        app.hub.publish(Topic.RUNS, run.id)

        async def tried() -> bool:
            again = await app.runs.get(run.id)
            return again.attempt == 2 and again.state is State.PENDING

        await until(tried, app, Topic.RUNS)
        assert [hold.kind for hold in await held(app)] == [HoldKind.BILLING]
        assert (await app.runs.get(run.id)).tokens == Tokens(10, 1)


async def test_what_a_model_said_before_it_refused_lets_nobody_go(parts: Parts) -> None:
    early, refused = await parts.claimed(), await parts.claimed()
    done = Ending(State.FINISHED, output="done", tokens=Tokens(10, 5))
    parts.clock.move(60)
    now = parts.clock.now()
    assert await parts.database.write(lambda c: conclude(c, refused, REFUSED, now))
    assert await parts.database.write(lambda c: conclude(c, early, done, now))
    found = await parts.database.read(lambda c: holds.current(c, parts.clock.now()))
    assert [hold.kind for hold in found] == [HoldKind.NOT_SIGNED_IN]
    parts.clock.move(1)
    later = await parts.claimed()
    assert await parts.database.write(lambda c: conclude(c, later, done, parts.clock.now()))
    assert not await parts.database.read(lambda c: holds.current(c, parts.clock.now()))


@pytest.mark.parametrize(
    ("kind", "streak"), [(HoldKind.PAUSED, 1), (HoldKind.USAGE_LIMIT, 1), (HoldKind.NOT_SIGNED_IN, 2)]
)
async def test_what_had_an_end_of_its_own_begins_anew_once_that_has_passed(
    parts: Parts, kind: HoldKind, streak: int
) -> None:
    begun = parts.clock.now()
    await parts.database.write(lambda c: holds.hold(c, kind, begun + MINUTE, "first", begun))
    parts.clock.move(2 * MINUTE)
    now = parts.clock.now()
    held = await parts.database.write(lambda c: holds.hold(c, kind, now + MINUTE, "second", now))
    assert (held.since, held.streak) == (now if streak == 1 else begun, streak)
    held = await parts.database.write(lambda c: holds.hold(c, kind, now + 5 * MINUTE, "third", now))
    assert held.streak == streak + 1


# A usage limit

LIMIT = Ending(State.ERROR, reason="usage_limit", error="the limit is reached", tokens=Tokens())


async def parked(parts: Parts, run: Run, ending: Ending) -> Run:
    assert await parts.database.write(lambda c: conclude(c, run, ending, parts.clock.now()))
    return await parts.runs.get(run.id)


async def test_a_limit_that_was_over_before_it_was_met_is_looked_at_less_and_less_often(parts: Parts) -> None:
    run = await parts.claimed()
    pauses: list[timedelta] = []
    while run.state is not State.ERROR and len(pauses) < 100:
        parked_at = parts.clock.now()
        run = await parked(parts, run, replace(LIMIT, resets_at=parked_at - MINUTE))
        if run.state is State.PENDING:
            assert run.not_before is not None
            pauses.append(run.not_before - parked_at)
            parts.clock.move(pauses[-1] + timedelta(milliseconds=1))
            again = await parts.runs.claim("here:1", "session", parts.clock.now())
            assert again is not None
            run = again
    assert pauses[0] >= 5 * MINUTE
    assert 20 < len(pauses) < 40


async def test_a_run_that_waited_for_a_day_before_it_met_a_limit_waits_for_that_too(parts: Parts) -> None:
    run_id = await parts.pending()
    parts.clock.move(timedelta(days=2))
    run = await parts.runs.claim("here:1", "session", parts.clock.now())
    assert run is not None
    assert (await parked(parts, run, LIMIT)).state is State.PENDING
    assert run.id == run_id


# What was used


def used(tokens: Tokens, cost: float, model: str = "m") -> dict[str, Any]:
    use = {"inputTokens": tokens.input, "outputTokens": tokens.output, "costUSD": cost, "costBasis": "list"}
    return {model: use | {"cacheReadInputTokens": 0, "cacheCreationInputTokens": 0}}


async def attempt(parts: Parts, tokens: Tokens, cost: float) -> Run:
    """An attempt as its server has it when it is cut off."""
    run = await parts.runs.claim("here:1", "session", parts.clock.now())
    assert run is not None
    await parts.runs.record(run, [], run.tokens + tokens, "m", cost_usd=(run.cost_usd or 0) + cost)
    return run


async def died(parts: Parts) -> Run:
    [run] = (await parts.database.read(runs.running))["here:1"]
    assert await parts.database.write(lambda c: conclude(c, run, ENDING, parts.clock.now()))
    parts.clock.move(3600)
    return await parts.runs.get(run.id)


async def test_each_attempt_counts_once_for_its_model_however_it_was_cut_off(parts: Parts) -> None:
    job = await parts.job(policy=Policy(on_crash=OnCrash.RETRY))
    await parts.pending(job_id=job.id)
    await attempt(parts, Tokens(10, 1), 0.1)
    await died(parts)
    run = await attempt(parts, Tokens(20, 2), 0.2)
    told = replace(OVERLOADED, tokens=Tokens(20, 2), cost_usd=0.2, model_usage=used(Tokens(20, 2), 0.2))
    await parked(parts, run, told)
    parts.clock.move(3600)
    run = await attempt(parts, Tokens(40, 4), 0.4)
    stopped = Ending(State.ERROR, reason="timeout", error="too long", tokens=Tokens(40, 4), cost_usd=0.4)
    done = await parked(parts, run, stopped)
    assert done.tokens == Tokens(70, 7)
    assert done.cost_usd == pytest.approx(0.7)
    sums = await parts.sql(
        "SELECT dimension, input_tokens, output_tokens, cost_usd FROM usage_shares WHERE span = 'day' ORDER BY 1"
    )
    assert sums == [(each, 70, 7, pytest.approx(0.7)) for each in ("job", "model")]


async def test_of_a_run_that_dies_in_its_second_attempt_both_count_for_their_model(parts: Parts) -> None:
    await parts.pending()
    run = await attempt(parts, Tokens(10, 1), 0.1)
    await parked(parts, run, replace(OVERLOADED, cost_usd=0.1, model_usage=used(Tokens(10, 1), 0.1)))
    parts.clock.move(3600)
    await attempt(parts, Tokens(5, 5), 0.05)
    done = await died(parts)
    assert (done.reason, done.tokens) == ("server_stopped", Tokens(15, 6))
    assert done.cost_usd == pytest.approx(0.15)
    sums = await parts.sql(
        "SELECT input_tokens, output_tokens, cost_usd FROM usage_shares WHERE span = 'day'"
    )
    assert sums == [(15, 6, pytest.approx(0.15))]
