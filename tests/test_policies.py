"""What a slot comes to under each of a job's rules: overlap, catch-up, jitter, pauses."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import holds, jobs, runs
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App
from claude_runner.attempts import conclude
from claude_runner.db import from_text
from claude_runner.errors import InvalidError
from claude_runner.holds import HoldKind
from claude_runner.hub import Topic
from claude_runner.jobs import CatchUp, Job, JobDraft, Overlap, Pause, PausedBy, Policy
from claude_runner.pausing import Pausing
from claude_runner.runs import Ending, Run, RunFilter, State, Trigger
from claude_runner.scheduler import Scheduler
from claude_runner.settings import StoredSettings
from claude_runner.waiting import waits_for
from tests.parts import Parts, open_parts, patient
from tests.support import PATIENCE, FakeAgent, FakeClock, ended, running, until

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
OVERLOADED = Ending(State.ERROR, reason="overloaded", error="no room")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def tick(parts: Parts) -> None:
    await Scheduler(parts.database, parts.hub, parts.clock).tick()


async def job_with(parts: Parts, cron: str = "0 * * * *", **rules: Any) -> Job:
    return await parts.job(cron=cron, policy=Policy(**rules))


async def fates(parts: Parts) -> list[tuple[Any, ...]]:
    return await parts.sql(
        "SELECT substr(scheduled_for, 12, 5), fate, substr(until, 12, 5), count FROM occurrences"
        " ORDER BY scheduled_for"
    )


async def claimed(parts: Parts) -> Run | None:
    return await parts.runs.claim("here", "session", parts.clock.now())


async def end(parts: Parts, run: Run) -> None:
    done = Ending(State.FINISHED, output="done")
    assert await parts.database.write(lambda c: runs.end(c, run, done, parts.clock.now()))


async def states(parts: Parts) -> list[State]:
    return [run.state for run in reversed((await parts.runs.list(RunFilter(), 200)).runs)]


async def three_slots_while_the_first_runs(parts: Parts, overlap: Overlap) -> Run:
    await job_with(parts, overlap=overlap)
    parts.clock.move(31)
    await tick(parts)
    first = await claimed(parts)
    assert first is not None
    for _ in range(2):
        parts.clock.move(HOUR)
        await tick(parts)
    return first


# Overlap


async def test_skip_lets_no_slot_run_while_one_does(parts: Parts) -> None:
    await three_slots_while_the_first_runs(parts, Overlap.SKIP)
    assert [fate for _, fate, *_ in await fates(parts)] == ["ran", "skipped_overlap", "skipped_overlap"]


async def test_queue_one_lets_one_slot_wait_and_start_once_the_other_has_ended(parts: Parts) -> None:
    first = await three_slots_while_the_first_runs(parts, Overlap.QUEUE_ONE)
    assert [fate for _, fate, *_ in await fates(parts)] == ["ran", "ran", "skipped_overlap"]
    assert await claimed(parts) is None
    await end(parts, first)
    second = await claimed(parts)
    assert second is not None
    assert second.scheduled_for == NINE + HOUR


async def test_queue_all_lets_each_slot_wait_for_its_turn(parts: Parts) -> None:
    run: Run | None = await three_slots_while_the_first_runs(parts, Overlap.QUEUE_ALL)
    order = []
    while run is not None:
        assert await claimed(parts) is None
        order.append(run.scheduled_for)
        await end(parts, run)
        run = await claimed(parts)
    assert order == [NINE, NINE + HOUR, NINE + 2 * HOUR]


async def test_a_run_that_is_tried_again_waits_for_the_slot_that_went_ahead_of_it(parts: Parts) -> None:
    await job_with(parts, "* * * * *", overlap=Overlap.QUEUE_ALL)
    parts.clock.move(31)
    await tick(parts)
    parts.clock.move(39)
    first = await claimed(parts)
    assert first is not None
    assert await parts.database.write(lambda c: conclude(c, first, OVERLOADED, parts.clock.now()))
    parts.clock.move(21)
    await tick(parts)
    second = await claimed(parts)
    assert second is not None
    assert second.id != first.id
    parts.clock.move(MINUTE)
    assert await claimed(parts) is None
    await end(parts, second)
    again = await claimed(parts)
    assert again is not None
    assert (again.id, again.attempt) == (first.id, 2)


async def test_a_slots_run_waits_for_one_by_hand_that_was_begun_before_it(parts: Parts) -> None:
    job = await job_with(parts, jitter_seconds=600)
    parts.clock.move(31)
    await tick(parts)
    await parts.runs.add(job.new_run(Trigger.MANUAL), parts.clock.now())
    by_hand = await claimed(parts)
    assert by_hand is not None
    assert by_hand.trigger is Trigger.MANUAL
    parts.clock.move(601)
    assert await claimed(parts) is None
    await end(parts, by_hand)
    assert await claimed(parts) is not None


async def test_allow_lets_slots_run_side_by_side(parts: Parts) -> None:
    await three_slots_while_the_first_runs(parts, Overlap.ALLOW)
    assert await claimed(parts) is not None
    assert await claimed(parts) is not None
    assert await states(parts) == [State.RUNNING] * 3


async def test_cancel_running_leaves_only_the_newest_slot(parts: Parts) -> None:
    first = await three_slots_while_the_first_runs(parts, Overlap.CANCEL_RUNNING)
    assert await states(parts) == [State.RUNNING, State.CANCELLED, State.PENDING]
    assert (await parts.runs.get(first.id)).superseded
    assert await claimed(parts) is None  # until the one that goes on has ended
    await end(parts, first)
    newest = await claimed(parts)
    assert newest is not None
    assert newest.scheduled_for == NINE + 2 * HOUR


async def test_a_run_whose_place_is_taken_is_stopped(app: App, agent: FakeAgent, clock: FakeClock) -> None:
    agent._act = agent.wait_for_stop
    policy = Policy(overlap=Overlap.CANCEL_RUNNING)
    await app.jobs.add(JobDraft("Hourly", "0 * * * *", "go", "UTC", policy=policy), clock.now())
    clock.move(31)
    await until(lambda: _are(app, 1), app, Topic.RUNS)
    [first] = (await app.runs.list(RunFilter(), 10)).runs
    await running(app, first.id)
    clock.jump(HOUR)  # no time passes, or it would be ended for its silence
    done = await ended(app, first.id)
    assert (done.state, done.reason) == (State.CANCELLED, "superseded")
    newest = (await app.runs.list(RunFilter(), 10)).runs[0]
    await running(app, newest.id)


async def test_whoever_follows_a_run_that_waits_is_told_that_its_place_is_taken(
    app: App, clock: FakeClock
) -> None:
    now = clock.now()
    await app.database.write(lambda c: holds.hold(c, HoldKind.USAGE_LIMIT, None, "the limit", now))
    policy = Policy(overlap=Overlap.CANCEL_RUNNING)
    await app.jobs.add(JobDraft("Hourly", "0 * * * *", "go", "UTC", policy=policy), clock.now())
    clock.jump(timedelta(seconds=31))
    await until(lambda: _are(app, 1), app, Topic.RUNS)
    [first] = (await app.runs.list(RunFilter(), 10)).runs
    assert first.state is State.PENDING
    told: set[str] = set()
    with app.hub.subscribe(Topic.RUNS) as changes:
        clock.jump(HOUR)
        async with asyncio.timeout(PATIENCE):
            while first.id not in told:
                await changes.changed.wait()
                told |= {change.key for change in changes.take()}
    assert (await app.runs.get(first.id)).reason == "superseded"


async def _are(app: App, count: int) -> bool:
    return (await app.runs.list(RunFilter(), 10)).total == count


@pytest.mark.parametrize("overlap", list(Overlap))
async def test_two_schedulers_give_a_slot_one_fate_under_each_rule(parts: Parts, overlap: Overlap) -> None:
    await job_with(parts, overlap=overlap)
    async with open_parts(parts.path, parts.clock) as others:
        await patient(parts, others)
        for _ in range(3):
            parts.clock.move(HOUR)
            await asyncio.gather(tick(parts), tick(others))
    assert len(await fates(parts)) == 3


# Catch-up


async def test_none_catches_nothing_up(parts: Parts) -> None:
    await job_with(parts, catch_up=CatchUp.NONE)
    parts.clock.move(3 * HOUR + 5 * MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "missed", "12:00", 4)]
    assert await states(parts) == []


async def test_none_runs_a_slot_that_is_on_time(parts: Parts) -> None:
    await job_with(parts, catch_up=CatchUp.NONE)
    parts.clock.move(3 * HOUR + MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "missed", "11:00", 3), ("12:00", "ran", None, 1)]


async def test_all_catches_up_what_is_not_too_old_one_after_the_other(parts: Parts) -> None:
    await job_with(parts, catch_up=CatchUp.ALL, catch_up_minutes=130, overlap=Overlap.QUEUE_ALL)
    parts.clock.move(5 * HOUR + 5 * MINUTE)
    await tick(parts)
    assert await fates(parts) == [
        ("09:00", "missed", "11:00", 3),
        ("12:00", "caught_up", None, 1),
        ("13:00", "caught_up", None, 1),
        ("14:00", "caught_up", None, 1),
    ]
    first = await claimed(parts)
    assert first is not None
    assert (first.scheduled_for, first.trigger) == (NINE + 3 * HOUR, Trigger.CATCH_UP)
    assert await claimed(parts) is None


async def test_all_catches_up_a_hundred_slots_at_most(parts: Parts) -> None:
    await job_with(parts, "* * * * *", catch_up=CatchUp.ALL, overlap=Overlap.QUEUE_ALL)
    parts.clock.move(300 * MINUTE)
    await tick(parts)
    found = await fates(parts)
    assert (found[0][1], len(found) - 1) == ("missed", 100)
    assert sum(fate in {"caught_up", "ran"} for _, fate, *_ in found) == 100


async def test_jobs_that_are_caught_up_together_start_one_after_the_other(parts: Parts) -> None:
    for number in range(40):
        await parts.job(name=f"job {number}")
    parts.clock.move(HOUR)
    await tick(parts)
    now = parts.clock.now()
    waits = sorted((run.not_before or now) - now for run in (await parts.runs.list(RunFilter(), 200)).runs)
    assert waits[:3] == [timedelta(0), timedelta(seconds=2), timedelta(seconds=4)]
    assert waits[-1] == timedelta(seconds=60)


# Jitter


async def test_jitter_lets_a_run_start_later_by_chance_but_always_alike(parts: Parts) -> None:
    made = [await job_with(parts, jitter_seconds=600) for _ in range(20)]
    parts.clock.move(30)
    await tick(parts)
    found = {run.job_id: run.not_before for run in (await parts.runs.list(RunFilter(), 50)).runs}
    assert len(found) == len(made)
    waits = [(at or NINE) - NINE for at in found.values()]
    assert all(timedelta() <= wait <= timedelta(seconds=600) for wait in waits)
    assert len(set(waits)) > 10


async def test_the_owners_default_lets_slots_start_later_but_never_after_the_next(parts: Parts) -> None:
    await StoredSettings(parts.database).change({"job_defaults": {"jitter_seconds": 3000}})
    for _ in range(20):
        await job_with(parts)
        await job_with(parts, "* * * * *")
        await job_with(parts, jitter_seconds=0)
    parts.clock.move(31)
    await tick(parts)
    late = dict.fromkeys(("0 * * * *", "* * * * *"), timedelta())
    for cron, decided, not_before in await parts.sql(
        "SELECT cron, jitter_seconds, not_before FROM runs JOIN jobs ON jobs.id = job_id"
    ):
        if not_before is not None:
            assert decided is None
            late[cron] = max(late[cron], from_text(not_before) - NINE)
    assert 10 * MINUTE < late["0 * * * *"] <= timedelta(seconds=3000)
    assert timedelta() < late["* * * * *"] < MINUTE


# Pauses


async def paused(parts: Parts, job: Job, until: datetime | None = None) -> Job:
    return await parts.jobs.pause(job.id, Pause(parts.clock.now(), until, PausedBy.OWNER, "holidays"))


async def test_the_slots_of_a_pause_are_one_row_that_says_why(parts: Parts) -> None:
    await paused(parts, await job_with(parts))
    for _ in range(4):
        parts.clock.move(HOUR)
        await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", "12:00", 4)]
    [[reason]] = await parts.sql("SELECT reason FROM occurrences")
    assert reason == "the job was paused: holidays"
    assert await parts.sql("SELECT sum(skipped) FROM slot_quarters") == [(4,)]


async def test_the_slots_of_a_pause_while_no_server_was_at_work_are_counted(parts: Parts) -> None:
    await paused(parts, await job_with(parts))
    parts.clock.move(4 * HOUR)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", "12:00", 4)]


async def test_what_waits_of_a_paused_job_waits_for_the_end_of_the_pause_but_by_hand(parts: Parts) -> None:
    job = await job_with(parts, overlap=Overlap.QUEUE_ALL)
    parts.clock.move(31)
    await tick(parts)
    now = parts.clock.now()
    await parts.jobs.pause(job.id, Pause(now, now + HOUR, PausedBy.OWNER, "we are away"))
    [waiting] = (await parts.runs.list(RunFilter(), 1)).runs
    said = await parts.database.read(lambda c: waits_for(c, waiting, now))
    assert said == "the end of its job's pause (we are away)"
    assert await claimed(parts) is None
    await parts.runs.add(job.new_run(Trigger.MANUAL), now)
    by_hand = await claimed(parts)
    assert by_hand is not None
    assert by_hand.trigger is Trigger.MANUAL
    await end(parts, by_hand)
    parts.clock.move(HOUR)
    later = await claimed(parts)
    assert later is not None
    assert later.id == waiting.id


async def test_no_more_of_a_job_begins_once_it_has_paused_itself(
    app: App, agent: FakeAgent, clock: FakeClock
) -> None:
    async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        return Ending(State.ERROR, reason="agent_crashed", error="it crashed")

    agent._act = fail
    rules = Policy(overlap=Overlap.QUEUE_ALL, catch_up=CatchUp.ALL, pause_after_failures=2)
    job = await app.jobs.add(JobDraft("Hourly", "0 * * * *", "go", "UTC", policy=rules), clock.now())
    clock.jump(5 * HOUR)

    async def is_paused() -> bool:
        return (await app.jobs.get(job.id)).is_paused(clock.now())

    await until(is_paused, app)
    clock.move(MINUTE)
    await app.pausing.resume_all()  # wakes whoever begins runs
    of_each = [run.state for run in (await app.runs.list(RunFilter(), 10)).runs]
    assert sorted(of_each) == [State.ERROR] * 2 + [State.PENDING] * 3
    agent._act = agent.say_done
    await app.resume_job(job.id)

    async def are_done() -> bool:
        return {run.state for run in (await app.runs.list(RunFilter(), 10)).runs} == {
            State.ERROR,
            State.FINISHED,
        }

    await until(are_done, app)


async def test_a_pause_ends_by_itself(parts: Parts) -> None:
    job = await paused(parts, await job_with(parts), NINE + 90 * MINUTE)
    parts.clock.move(31)
    for _ in range(3):
        await tick(parts)
        parts.clock.move(HOUR)
    assert await fates(parts) == [("09:00", "skipped_paused", "10:00", 2), ("11:00", "ran", None, 1)]
    assert (await parts.jobs.get(job.id)).pause is None


async def test_nothing_of_a_pause_is_caught_up(parts: Parts) -> None:
    job = await paused(parts, await job_with(parts))
    parts.clock.move(3 * HOUR)
    resumed = await parts.jobs.resume(job.id, parts.clock.now())
    assert (resumed.pause, resumed.next_run_at) == (None, NINE + 3 * HOUR)


async def test_a_pause_of_everything_skips_slots_and_lets_only_runs_by_hand_begin(
    app: App, clock: FakeClock
) -> None:
    job = await app.jobs.add(JobDraft("Hourly", "0 * * * *", "go", "UTC"), clock.now())
    await app.pausing.pause_all(reason="moving house")
    clock.move(31)
    waiting = await app.runs.add(replace(job.new_run(Trigger.WEBHOOK), job_id=None), clock.now())
    assert (await ended(app, (await app.trigger(job.id)).id)).state is State.FINISHED
    assert (await app.runs.get(waiting)).state is State.PENDING
    [slot] = await app.jobs.occurrences(NINE, NINE + HOUR)
    assert (slot.fate, slot.reason) == (jobs.Fate.SKIPPED_PAUSED, "everything was paused: moving house")
    assert await app.pausing.resume_all()
    assert (await ended(app, waiting)).state is State.FINISHED


async def test_a_pause_of_everything_ends_by_itself(app: App, clock: FakeClock) -> None:
    await app.pausing.pause_all(clock.now() + HOUR)
    job = await app.jobs.add(JobDraft("Hourly", "0 * * * *", "go", "UTC"), clock.now())
    waiting = await app.runs.add(replace(job.new_run(Trigger.WEBHOOK), job_id=None), clock.now())
    clock.move(HOUR + MINUTE)
    assert (await ended(app, waiting)).state is State.FINISHED


async def test_a_pause_that_is_over_before_it_begins_is_refused(parts: Parts) -> None:
    with pytest.raises(InvalidError, match="which is past") as caught:
        await Pausing(parts.database, parts.hub, parts.clock).pause_all(parts.clock.now())
    assert caught.value.field == "until"
