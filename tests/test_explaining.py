"""Why a job did not run, in words: each fate, and each reason for which there is no slot at all."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_runner import explaining, holds, runs
from claude_runner.app import App
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.holds import HoldKind
from claude_runner.jobs import Job, Overlap, Policy
from claude_runner.runs import Ending, Parking, Run, State
from claude_runner.scheduler import Scheduler
from tests.parts import DRAFT, Parts, open_parts
from tests.support import FakeClock

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def tick(parts: Parts) -> None:
    await Scheduler(parts.database, parts.hub, parts.clock).tick()


async def claimed(parts: Parts) -> Run:
    run = await parts.runs.claim("worker", "session", parts.clock.now())
    assert run is not None
    return run


async def ended(parts: Parts, ending: Ending) -> Run:
    run = await claimed(parts)
    assert await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))
    return run


async def answer(parts: Parts, job: Job, around: datetime | None = None) -> str:
    explained = await parts.database.read(lambda c: explaining.explain(c, job.id, around, parts.clock.now()))
    return explained.answer


async def test_a_job_without_a_slot_up_to_now_says_when_the_first_comes(parts: Parts) -> None:
    job = await parts.job(timezone="Europe/Berlin")
    said = await answer(parts, job)
    assert "No slot of 'Morning' was planned at 2026-11-23 09:59:30 (Europe/Berlin)" in said
    assert "Its next slot is 2026-11-24 09:00 (Europe/Berlin)." in said


async def test_a_slot_that_was_skipped_says_what_was_in_the_way(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    run = await claimed(parts)
    parts.clock.move(HOUR)
    await tick(parts)
    said = await answer(parts, job, NINE + HOUR)
    assert said.startswith(
        f"The slot of 2026-11-23 10:00 (UTC) did not run: run {run.id} of this job had not ended."
    )
    assert said.endswith("Its next slot is 2026-11-23 11:00 (UTC).")


async def test_without_a_time_it_is_the_last_slot_that_did_not_run(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    run = await claimed(parts)
    parts.clock.move(HOUR)
    await tick(parts)
    done = Ending(State.FINISHED, output="done")
    await parts.database.write(lambda c: runs.end(c, run, done, parts.clock.now()))
    parts.clock.move(HOUR)
    await tick(parts)
    assert "10:00 (UTC) did not run" in await answer(parts, job)


async def test_of_a_job_that_always_ran_it_is_the_last_slot(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    run = await ended(parts, Ending(State.FINISHED, output="done"))
    said = await answer(parts, job)
    assert said.startswith(f"The slot of 2026-11-23 09:00 (UTC) did run: run {run.id} finished at")


async def test_a_run_that_failed_says_with_what(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    run = await ended(parts, Ending(State.ERROR, error="the model was not there", reason="invalid_model"))
    assert f"did run, but run {run.id} failed: the model was not there." in await answer(parts, job, NINE)


async def test_a_run_that_is_going_on_says_since_when(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    run = await claimed(parts)
    assert f"became run {run.id}, which is going on since 2026-11-23 09:00" in await answer(parts, job, NINE)


async def test_a_run_that_was_cancelled_says_so(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    await ended(parts, Ending(State.CANCELLED, error="cancelled by request", reason="cancelled"))
    assert "which was cancelled: cancelled by request." in await answer(parts, job, NINE)


async def test_a_run_that_is_parked_says_why_and_until_when(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    run = await claimed(parts)
    parking = Parking(
        not_before=NINE + HOUR,
        reason="usage_limit",
        error="the usage limit is reached",
        resumes=True,
        retries=0,
    )
    assert await parts.database.write(lambda c: runs.park(c, run, parking))
    said = await answer(parts, job, NINE)
    assert "which waits for the end of Claude's usage limit; it starts at 2026-11-23 10:00 (UTC)." in said


async def test_a_run_that_is_held_back_says_by_what(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    now = parts.clock.now()
    await parts.database.write(
        lambda c: holds.hold(c, HoldKind.NOT_SIGNED_IN, now + HOUR, "Claude is not signed in", now)
    )
    said = await answer(parts, job, NINE)
    assert "which waits for somebody to sign Claude in (Claude is not signed in)." in said
    assert "All runs are held back now: Claude is not signed in, until" in said


async def test_a_run_that_waits_for_another_of_its_job_names_it(parts: Parts) -> None:
    job = await parts.job(policy=Policy(overlap=Overlap.QUEUE_ALL))
    other = await parts.pending(job_id=job.id)
    assert (await claimed(parts)).id == other
    parts.clock.move(30)
    await tick(parts)
    assert f"which waits for the end of run {other}." in await answer(parts, job, NINE)


async def test_a_run_that_waits_for_a_place_says_so(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    assert "which waits for a place among the runs that go on at once." in await answer(parts, job, NINE)


async def test_a_run_that_is_not_kept_any_more_ran_all_the_same(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    await ended(parts, Ending(State.FINISHED, output="done"))
    await parts.sql("DELETE FROM runs")
    assert "ran, but its run is not kept any more." in await answer(parts, job, NINE)


async def test_a_slot_that_was_caught_up_says_how_late(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30 + 3600)
    await tick(parts)
    await ended(parts, Ending(State.FINISHED, output="done"))
    assert "did run (1 h 0 min late: no server was at work" in await answer(parts, job, NINE)


async def test_a_time_within_many_missed_slots_is_told_of_all_of_them(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(30 + 6 * 3600)
    await tick(parts)
    said = await answer(parts, job, NINE + 2 * HOUR + timedelta(minutes=20))
    assert said.startswith(
        "The 6 slots from 2026-11-23 09:00 (UTC) to 2026-11-23 14:00 (UTC) did not run: no server was at work"
    )


async def test_a_time_without_a_slot_names_the_nearest_ones(parts: Parts) -> None:
    job = await parts.job(cron="0 9 * * 1", timezone="America/New_York")
    parts.clock.move(15 * DAY)
    said = await answer(parts, job, datetime(2026, 12, 3, 12, tzinfo=UTC))
    assert "No slot of 'Morning' was planned at 2026-12-03 07:00 (America/New_York)" in said
    assert (
        "the nearest are 2026-11-30 09:00 (America/New_York) and 2026-12-07 09:00 (America/New_York)" in said
    )


async def test_a_time_near_a_slot_that_was_written_is_told_by_that(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await tick(parts)
    await ended(parts, Ending(State.FINISHED, output="done"))
    said = await answer(parts, job, NINE + timedelta(minutes=25))
    assert said.startswith(
        "No slot was planned at 2026-11-23 09:25 (UTC); the nearest one tells this. The slot of"
    )


async def test_a_job_that_is_disabled_says_so(parts: Parts) -> None:
    job = await parts.job()
    await parts.jobs.change(job.id, {"enabled": False}, parts.clock.now())
    parts.clock.move(DAY)
    said = await answer(parts, job, NINE)
    assert "The slot of 2026-11-23 09:00 (UTC) was not planned: the job is disabled." in said
    assert "last changed at 2026-11-23 08:59:30 (UTC)" in said


async def test_a_job_that_was_disabled_meanwhile_says_when_it_was_changed(parts: Parts) -> None:
    job = await parts.job()
    await parts.jobs.change(job.id, {"enabled": False}, parts.clock.now())
    parts.clock.move(2 * HOUR)
    await parts.jobs.change(job.id, {"enabled": True}, parts.clock.now())
    said = await answer(parts, job, NINE)
    assert "which were last changed at 2026-11-23 10:59:30 (UTC); before that it was disabled" in said


async def test_a_time_before_the_job_was_made_says_so(parts: Parts) -> None:
    job = await parts.job()
    assert "was none of this job: it was made at 2026-11-23 08:59:30 (UTC)." in await answer(
        parts, job, NINE - DAY
    )


async def test_a_job_that_has_not_begun_yet_says_from_when_it_runs(parts: Parts) -> None:
    job = await parts.job(policy=Policy(starts_at=NINE + 7 * DAY))
    said = await answer(parts, job, NINE + DAY)
    assert "was none of this job: it begins at 2026-11-30 09:00 (UTC) (starts_at)." in said


async def test_a_job_that_is_over_says_since_when(parts: Parts) -> None:
    job = await parts.job(policy=Policy(ends_at=NINE + HOUR))
    said = await answer(parts, job, NINE + DAY)
    assert "was none of this job: it ended at 2026-11-23 10:00 (UTC) (ends_at)." in said


async def test_a_slot_to_come_has_not_come_yet(parts: Parts) -> None:
    job = await parts.job()
    assert "The slot of 2026-11-23 09:00 (UTC) has not come yet." in await answer(parts, job, NINE)


async def test_a_slot_that_has_just_come_is_about_to_be_looked_at(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(31)
    assert "has only just come; it is about to be looked at." in await answer(parts, job, NINE)


async def test_a_slot_that_nobody_looks_at_says_that_no_scheduler_is_at_work(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(600)
    assert "has not been looked at: no scheduler is at work" in await answer(parts, job, NINE)


async def test_a_job_that_was_shelved_says_what_is_wrong_with_it(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET cron = 'whenever'")
    parts.clock.move(30)
    await tick(parts)
    assert "The job can't be planned: 'whenever' has 1 field" in await answer(parts, job, NINE)


async def test_a_slot_of_which_nothing_is_written_is_not_made_up(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET next_run_at = '2026-11-25T09:00:00.000+00:00'")
    parts.clock.move(DAY)
    assert "Nothing is written of it: the slot of 2026-11-23 09:00 (UTC) was not planned" in await answer(
        parts, job, NINE
    )


async def test_the_answer_comes_with_the_slots_next_to_the_time(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    for _ in range(3):
        parts.clock.move(HOUR)
        await tick(parts)
    explained = await parts.database.read(
        lambda c: explaining.explain(c, job.id, NINE + HOUR, parts.clock.now())
    )
    assert [slot.scheduled_for for slot in explained.slots] == [NINE, NINE + HOUR, NINE + 2 * HOUR]
    assert explained.next_run_at == NINE + 3 * HOUR


async def test_a_job_that_there_is_not_is_refused(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="there is no job 'nobody'"):
        await parts.database.read(lambda c: explaining.explain(c, "nobody", None, parts.clock.now()))


@pytest.mark.parametrize("year", [1, 9999])
async def test_a_time_that_no_calendar_reaches_is_refused(parts: Parts, year: int) -> None:
    job = await parts.job()
    with pytest.raises(InvalidError, match=f"around is in the year {year}"):
        await answer(parts, job, datetime(year, 6, 1, tzinfo=UTC))


async def test_the_application_explains_at_its_own_time(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    explained = await app.explain(job.id)
    assert (explained.job_id, explained.around) == (job.id, clock.now())
    assert explained.answer.endswith("Its next slot is 2026-11-23 09:00 (UTC).")
