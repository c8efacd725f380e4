"""What follows when an attempt fails: it is made again, waits, or is over; others wait where they would fail too."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import holds
from claude_runner.agent import Listener, Order, Stop
from claude_runner.agent._endings import RULES as OF_THE_AGENT
from claude_runner.agent._endings import since
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft, OnCrash, PausedBy, Policy
from claude_runner.retrying import RULES, When
from claude_runner.runner import SILENT
from claude_runner.runs import Ending, EventKind, NewRun, Run, State, Tokens, Trigger
from tests.cli import start
from tests.scripted_model import ScriptedModel, Step
from tests.support import MORNING, PATIENCE, FakeAgent, FakeClock, ended, settled, until

OVERLOADED = Ending(
    State.ERROR, reason="overloaded", error="no room", tokens=Tokens(10, 1), cost_usd=0.01, session_usage={}
)
HOUR = timedelta(hours=1)


class Led(FakeAgent):
    """Ends its orders as it is told to, one after the other, then says "done"."""

    def __init__(self, *endings: Ending) -> None:
        super().__init__(self._next)
        self.endings = list(endings)
        self.says = False

    async def _next(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        if self.says and self.endings:
            listener.happened(EventKind.TEXT, {"block": 1, "text": "half a sen"})
        if self.endings:
            return self.endings.pop(0)
        return await self.say_done(order, listener, stop)


@pytest.fixture
def agent() -> Led:
    return Led()


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
async def alone(tmp_path: Path, agent: Led, clock: FakeClock) -> AsyncIterator[App]:
    """The application of an owner who has no login."""
    settings = Settings(home=tmp_path, environment={"HOME": str(tmp_path / "owner")})
    async with open_app(settings, agent=agent, clock=clock) as app:
        yield app


async def pending(app: App, **changes: Any) -> str:
    return await app.runs.add(NewRun("go", Trigger.WEBHOOK, **changes), app.clock.now())


async def job_with(app: App, **rules: Any) -> str:
    draft = JobDraft("Morning", "0 9 * * *", "go", "UTC", policy=Policy(**rules))
    return (await app.jobs.add(draft, app.clock.now())).id


async def again(app: App, clock: FakeClock, run: Run) -> Run:
    """The run once its time has come and another attempt at it has ended."""
    assert run.not_before is not None
    clock.move(run.not_before - clock.now() + timedelta(milliseconds=1))

    async def was_attempted() -> bool:
        now = await app.runs.get(run.id)
        return now.attempt > run.attempt and now.state is not State.RUNNING

    await until(was_attempted, app, Topic.RUNS)
    return await app.runs.get(run.id)


async def held(app: App) -> tuple[str, ...]:
    found = await app.database.read(lambda c: holds.current(c, app.clock.now()))
    return tuple(hold.kind for hold in found)


def test_each_reason_that_a_run_may_end_with_has_a_rule_with_its_why() -> None:
    written = {rule.reason for rule in OF_THE_AGENT} | {"mcp_server_failed", "agent_crashed"}
    written |= {patience.cause.reason for patience in SILENT.values()}
    written |= {"timeout", "cancelled", "server_stopped", "given_up", "internal_error", "unavailable"}
    assert written <= RULES.keys()
    assert all(rule.why for rule in RULES.values())


@pytest.mark.parametrize("reason", sorted(RULES))
async def test_only_what_may_pass_is_tried_again(app: App, agent: Led, reason: str) -> None:
    agent.endings = [replace(OVERLOADED, reason=reason)]
    run = await settled(app, await pending(app))
    passes = RULES[reason].when in {When.LATER, When.AT_RESET}
    assert run.state is (State.PENDING if passes else State.ERROR)
    assert run.reason == reason


async def test_a_run_is_tried_again_until_it_goes_through(app: App, agent: Led, clock: FakeClock) -> None:
    agent.endings = [OVERLOADED, OVERLOADED]
    run = await settled(app, await pending(app))
    first = run.not_before
    assert first is not None
    assert timedelta(seconds=24) <= first - clock.now() <= timedelta(seconds=36)
    run = await again(app, clock, run)
    assert run.not_before is not None
    assert timedelta(seconds=48) <= run.not_before - clock.now() <= timedelta(seconds=72)
    run = await again(app, clock, run)
    assert (run.state, run.attempt, run.retries, run.error) == (State.FINISHED, 3, 2, None)
    assert run.tokens == Tokens(30, 4)
    assert run.cost_usd == pytest.approx(0.03)


async def test_a_run_is_tried_again_as_often_as_its_job_says(app: App, agent: Led, clock: FakeClock) -> None:
    agent.endings = [OVERLOADED] * 5
    run = await settled(app, await pending(app, job_id=await job_with(app, max_retries=1)))
    run = await again(app, clock, run)
    assert (run.state, run.reason, run.attempt) == (State.ERROR, "overloaded", 2)
    assert len(agent.orders) == 2


async def test_a_job_may_want_no_second_attempt(app: App, agent: Led) -> None:
    agent.endings = [OVERLOADED]
    run = await settled(app, await pending(app, job_id=await job_with(app, max_retries=0)))
    assert (run.state, run.attempt) == (State.ERROR, 1)


async def test_what_had_begun_goes_on_in_its_own_session(app: App, agent: Led, clock: FakeClock) -> None:
    agent.endings, agent.says = [OVERLOADED], True
    await again(app, clock, await settled(app, await pending(app)))
    first, second = agent.orders
    assert (first.resumes, second.resumes) == (False, True)
    assert second.session_id == first.session_id
    assert second.prompt.startswith("You were interrupted")


async def test_what_had_not_begun_begins_anew(app: App, agent: Led, clock: FakeClock) -> None:
    agent.endings = [OVERLOADED]
    await again(app, clock, await settled(app, await pending(app)))
    first, second = agent.orders
    assert second.session_id != first.session_id
    assert (second.resumes, second.prompt) == (False, "go")


async def test_each_attempt_that_failed_can_be_read_in_the_run(app: App, agent: Led) -> None:
    agent.endings = [OVERLOADED]
    run = await settled(app, await pending(app))
    events = (await app.runs.events(run.id, 0, 100)).events
    [told] = [event.body for event in events if event.body.get("notice") == "attempt_failed"]
    assert (told["attempt"], told["reason"]) == (1, "overloaded")
    assert "no room; tried again (1 of 2): the service may have room again" in told["message"]


async def test_a_run_that_waits_to_be_tried_again_can_be_cancelled(app: App, agent: Led) -> None:
    agent.endings = [OVERLOADED]
    run = await app.dispatcher.cancel((await settled(app, await pending(app))).id)
    assert (run.state, run.cost_usd) == (State.CANCELLED, 0.01)


# Usage limits and holds


async def test_a_usage_limit_is_waited_for_and_no_other_run_meets_it(
    app: App, agent: Led, clock: FakeClock
) -> None:
    resets_at = clock.now() + 3 * HOUR
    agent.endings = [replace(OVERLOADED, reason="usage_limit", resets_at=resets_at)]
    run = await settled(app, await pending(app))
    assert run.not_before is not None
    assert timedelta() < run.not_before - resets_at <= timedelta(seconds=61)
    assert await held(app) == ("usage_limit",)
    other = await pending(app)
    clock.move(HOUR)
    app.hub.publish(Topic.RUNS, other)
    by_hand = await app.runs.add(NewRun("now", Trigger.MANUAL), clock.now())
    assert (await ended(app, by_hand)).state is State.FINISHED
    assert await held(app) == ()  # a model has answered
    assert (await ended(app, other)).state is State.FINISHED
    assert (await again(app, clock, run)).state is State.FINISHED


async def test_a_usage_limit_without_a_reset_time_is_looked_at_now_and_then_for_a_day(
    app: App, agent: Led, clock: FakeClock
) -> None:
    limit = replace(OVERLOADED, reason="usage_limit")
    agent.endings = [limit] * 60
    run = await settled(app, await pending(app))
    begun, pauses = clock.now(), []
    while run.state is State.PENDING:
        assert run.not_before is not None
        pauses.append(run.not_before - clock.now())
        run = await again(app, clock, run)
    assert timedelta(minutes=5) <= pauses[0] <= timedelta(minutes=6)
    assert max(pauses) <= timedelta(hours=1.2)
    assert (run.state, run.reason, run.retries) == (State.ERROR, "usage_limit", 0)
    assert timedelta(hours=24) <= clock.now() - begun <= timedelta(hours=26)


@pytest.mark.parametrize("reason", ["not_signed_in", "billing"])
async def test_who_is_refused_holds_the_others_back_instead_of_each_being_refused(
    alone: App, agent: Led, clock: FakeClock, reason: str
) -> None:
    app = alone
    refusal = replace(OVERLOADED, reason=reason, tokens=Tokens())
    agent.endings = [refusal, refusal]
    assert (await settled(app, await pending(app))).state is State.ERROR
    others = []
    for _ in range(3):
        clock.move(0.1)  # so that they wait in this order
        others.append(await pending(app))
    assert await held(app) == (reason,)
    clock.move(61)  # one is let through to see
    assert (await ended(app, others[0])).reason == reason
    assert [(await app.runs.get(each)).state for each in others[1:]] == [State.PENDING] * 2
    clock.move(121)
    for each in others[1:]:
        assert (await ended(app, each)).state is State.FINISHED
    assert await held(app) == ()


async def test_a_server_that_starts_holds_nothing_back_for_a_login(home: Settings, clock: FakeClock) -> None:
    agent = Led(replace(OVERLOADED, reason="not_signed_in", tokens=Tokens()))
    async with open_app(home, agent=agent, clock=clock) as app:
        await settled(app, await pending(app))
        other = await pending(app)
    async with open_app(home, agent=agent, clock=clock) as app:
        assert (await ended(app, other)).state is State.FINISHED


async def test_a_new_login_lets_the_others_go(alone: App, agent: Led, clock: FakeClock) -> None:
    agent.endings = [replace(OVERLOADED, reason="not_signed_in", tokens=Tokens())]
    await settled(alone, await pending(alone))
    other = await pending(alone)
    alone.settings.login.mkdir(parents=True)
    (alone.settings.login / ".credentials.json").touch()
    alone.hub.publish(Topic.RUNS, other)
    assert (await ended(alone, other)).state is State.FINISHED
    assert clock.now() == MORNING


# Failures of a job in a row


async def test_a_job_that_fails_too_often_in_a_row_is_paused(app: App, agent: Led) -> None:
    job_id = await job_with(app, pause_after_failures=2)
    agent.endings = [replace(OVERLOADED, reason="timeout", error="too long")] * 2
    await settled(app, await pending(app, job_id=job_id))
    assert not (await app.jobs.get(job_id)).is_paused(app.clock.now())
    await settled(app, await pending(app, job_id=job_id))
    job = await app.jobs.get(job_id)
    assert job.is_paused(app.clock.now())
    assert job.pause is not None
    assert job.pause.by is PausedBy.FAILURES
    assert job.pause.reason == "2 runs in a row have failed, the last with: too long"


async def test_what_is_not_the_jobs_doing_does_not_count(app: App, agent: Led) -> None:
    job_id = await job_with(app, pause_after_failures=2, max_retries=0)
    own = replace(OVERLOADED, reason="timeout")
    agent.endings = [own, OVERLOADED, replace(OVERLOADED, reason="server_stopped")]
    for _ in range(3):
        await settled(app, await pending(app, job_id=job_id))
    assert (await app.jobs.get(job_id)).failures == 1
    await settled(app, await pending(app, job_id=job_id))
    assert (await app.jobs.get(job_id)).failures == 0


# Deaths of the server


@pytest.mark.parametrize(("on_crash", "said"), [(rule, said) for rule in OnCrash for said in (True, False)])
async def test_a_run_whose_server_stops_is_decided_by_its_jobs_rules(
    home: Settings, clock: FakeClock, on_crash: OnCrash, said: bool
) -> None:
    agent = Led()
    begun = asyncio.Event()

    async def until_stopped(order: Order, listener: Listener, stop: Stop) -> Ending:
        begun.set()
        if said:
            return await agent.wait_for_stop(order, listener, stop)
        await stop.requested.wait()
        assert stop.cause is not None
        return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)

    waiting = FakeAgent(until_stopped)
    quick = replace(home, shutdown_grace_seconds=0.01)
    async with open_app(quick, agent=waiting, clock=clock) as app:
        run_id = await pending(app, job_id=await job_with(app, on_crash=on_crash))
        async with asyncio.timeout(PATIENCE):
            await begun.wait()
    async with open_app(quick, agent=agent, clock=clock) as app:
        run = await ended(app, run_id)
    if on_crash is OnCrash.FAIL:
        assert (run.state, run.reason, agent.orders) == (State.ERROR, "server_stopped", [])
        assert (run.error or "").endswith("it was not run again")
        return
    assert (run.state, run.attempt) == (State.FINISHED, 2)
    [order] = agent.orders
    assert order.resumes is (on_crash is OnCrash.RESUME and said)
    assert (order.transcripts is not None) is (on_crash is OnCrash.RESUME)


# With the real Claude Code


async def test_a_parked_run_goes_on_in_its_own_session_with_what_it_has_used(
    owner: Settings, model: ScriptedModel
) -> None:
    clock = FakeClock()
    last: Step = {"text": "Done at last.", "output_tokens": 7}
    async with open_app(owner, clock=clock) as app:
        run_id = await start(
            app,
            {"text": "I look.", "tool": "Read", "input": {"file_path": "none.txt"}, "output_tokens": 5},
            {"status": 429, "etype": "rate_limit_error", "msg": "slow down", "times": 3, "then": last},
            prompt="Do it.",
        )
        run = await settled(app, run_id)
        assert (run.state, run.reason, run.tokens.output) == (State.PENDING, "usage_limit", 5)
        asked = len(model.requests)
        done = await again(app, clock, run)
    assert (done.state, done.output, done.attempt) == (State.FINISHED, "Done at last.", 2)
    resumed = model.requests[asked]
    assert resumed.session_id == model.requests[0].session_id
    said = str(resumed.body["messages"])
    assert "Do it." in said
    assert "I look." in said
    assert done.tokens.output == 12


async def test_a_session_that_is_gone_is_not_begun_anew(owner: Settings, model: ScriptedModel) -> None:
    async with open_app(owner) as app:
        run_id = await app.runs.add(
            NewRun("go", Trigger.QUICK, not_before=app.clock.now() + HOUR), app.clock.now()
        )
        await app.database.write(
            lambda c: c.execute(
                "UPDATE runs SET resumes = 1, attempt = 1, not_before = NULL,"
                " session_id = '11111111-1111-4111-8111-111111111111'"
            ).fetchall()
        )
        app.hub.publish(Topic.RUNS, run_id)
        done = await ended(app, run_id)
    assert (done.state, done.reason) == (State.ERROR, "session_lost")
    assert model.requests == []


def test_what_a_session_used_since_is_the_difference_unless_it_was_counted_anew() -> None:
    before: dict[str, dict[str, Any]] = {"a": {"inputTokens": 10, "costUSD": 1.0, "costBasis": "list"}}
    now: dict[str, dict[str, Any]] = {
        "a": {"inputTokens": 15, "costUSD": 1.5, "costBasis": "list"},
        "b": {"inputTokens": 3},
    }
    assert since(now, before) == {
        "a": {"inputTokens": 5, "costUSD": 0.5, "costBasis": "list"},
        "b": {"inputTokens": 3},
    }
    assert since({"a": {"inputTokens": 4, "costUSD": 0.1}}, before) == {
        "a": {"inputTokens": 4, "costUSD": 0.1}
    }
