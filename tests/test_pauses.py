"""What a pause promises at its edges: set at the last moment, ended unseen, ended in between."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import jobs
from claude_runner.jobs import STANDARD, CatchUp, Due, Fate, Job, Occurrence, Overlap, Pause, PausedBy, Policy
from claude_runner.planning import plan_slots
from claude_runner.runs import RunFilter
from claude_runner.scheduler import Scheduler
from claude_runner.turns import Turn
from tests.parts import Parts, open_parts

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def tick(parts: Parts) -> datetime:
    return await Scheduler(parts.database, parts.hub, parts.clock).tick()


async def paused(parts: Parts, job: Job, until: datetime | None = None, reason: str = "holidays") -> Job:
    return await parts.jobs.pause(job.id, Pause(parts.clock.now(), until, PausedBy.OWNER, reason))


async def fates(parts: Parts) -> list[tuple[Any, ...]]:
    return await parts.sql(
        "SELECT substr(scheduled_for, 12, 5), fate, substr(until, 12, 5), count FROM occurrences"
        " ORDER BY scheduled_for"
    )


async def sums(parts: Parts) -> list[tuple[Any, ...]]:
    return await parts.sql("SELECT sum(skipped), sum(missed) FROM slot_quarters")


async def late_turn(parts: Parts, due: Due) -> None:
    """Carry out a turn that was planned for a job as it was."""
    now = parts.clock.now()
    turn = Turn(due.job, due.job.policy.or_else(STANDARD), now)
    plan = plan_slots(due, now, turn.policy)
    await parts.database.write(lambda c: turn.carry_out(c, due, plan))


async def due_now(parts: Parts) -> Due:
    [due] = await parts.database.read(lambda c: jobs.due(c, parts.clock.now(), 10))
    assert isinstance(due, Due)
    return due


async def test_a_job_paused_while_its_slot_is_being_planned_does_not_run(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    due = await due_now(parts)
    await paused(parts, job)
    await late_turn(parts, due)
    assert await fates(parts) == []
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", None, 1)]


async def test_a_turn_that_was_planned_before_a_new_pause_does_not_end_it(parts: Parts) -> None:
    job = await paused(parts, await parts.job(), NINE - timedelta(seconds=10), "for a moment")
    parts.clock.move(30)
    due = await due_now(parts)
    await paused(parts, job, reason="for good")
    await late_turn(parts, due)
    pause = (await parts.jobs.get(job.id)).pause
    assert pause is not None
    assert pause.reason == "for good"


async def test_a_job_resumed_while_its_slot_is_being_skipped_has_one_fate_for_it(parts: Parts) -> None:
    job = await paused(parts, await parts.job(cron="0 * * * *"))
    parts.clock.move(30)
    due = await due_now(parts)
    await parts.jobs.resume(job.id, parts.clock.now())
    await late_turn(parts, due)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", None, 1)]
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + HOUR


@pytest.mark.parametrize("catch_up", [CatchUp.LATEST, CatchUp.NONE])
async def test_the_slots_of_a_pause_that_ended_while_no_server_was_at_work_are_skipped(
    parts: Parts, catch_up: CatchUp
) -> None:
    job = await parts.job(cron="0 * * * *", policy=Policy(catch_up=catch_up))
    await paused(parts, job, NINE + 3 * HOUR)
    parts.clock.move(3 * HOUR)  # 11:59:30
    parts.clock.move(MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", "11:00", 3), ("12:00", "ran", None, 1)]
    assert (await parts.jobs.get(job.id)).pause is None


async def test_only_what_came_after_the_pause_is_caught_up(parts: Parts) -> None:
    job = await parts.job(
        cron="0 * * * *",
        policy=Policy(catch_up=CatchUp.ALL, catch_up_minutes=1440, overlap=Overlap.QUEUE_ALL),
    )
    await paused(parts, job, NINE + 90 * MINUTE)
    parts.clock.move(4 * HOUR + 20 * MINUTE)
    await tick(parts)
    assert await fates(parts) == [
        ("09:00", "skipped_paused", "10:00", 2),
        ("11:00", "caught_up", None, 1),
        ("12:00", "caught_up", None, 1),
        ("13:00", "caught_up", None, 1),
    ]


async def test_a_pause_that_ended_unseen_with_nothing_after_it_leaves_nothing_to_run(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    await paused(parts, job, NINE + 30 * MINUTE)
    parts.clock.move(50 * MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", None, 1)]
    assert (await parts.runs.list(RunFilter(), 1)).total == 0
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + HOUR


async def test_slots_that_come_as_a_job_is_resumed_are_skipped_not_lost(parts: Parts) -> None:
    job = await paused(parts, await parts.job(cron="0 * * * *"))
    parts.clock.move(2 * HOUR + 30 * MINUTE)
    await parts.jobs.resume(job.id, parts.clock.now())
    assert await fates(parts) == [("09:00", "skipped_paused", "11:00", 3)]
    assert await sums(parts) == [(3, 0)]


async def test_a_slot_after_a_pause_that_has_ended_is_not_lost_by_a_resume(parts: Parts) -> None:
    job = await paused(parts, await parts.job(cron="0 * * * *"), NINE + 30 * MINUTE)
    parts.clock.move(HOUR + MINUTE)
    await parts.jobs.resume(job.id, parts.clock.now())
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", None, 1), ("10:00", "ran", None, 1)]


async def test_a_job_that_is_resumed_twice_stays_as_it_is(parts: Parts) -> None:
    job = await paused(parts, await parts.job())
    first = await parts.jobs.resume(job.id, parts.clock.now())
    assert await parts.jobs.resume(job.id, parts.clock.now()) == first


async def test_a_disabled_job_is_resumed_without_a_slot(parts: Parts) -> None:
    job = await paused(parts, await parts.job(enabled=False))
    resumed = await parts.jobs.resume(job.id, parts.clock.now())
    assert (resumed.pause, resumed.next_run_at) == (None, None)


async def test_a_job_disabled_while_it_is_paused_skips_nothing(parts: Parts) -> None:
    job = await paused(parts, await parts.job())
    await parts.jobs.change(job.id, {"enabled": False}, parts.clock.now())
    parts.clock.move(3 * HOUR)
    await tick(parts)
    assert await fates(parts) == []


async def test_another_reason_begins_another_row(parts: Parts) -> None:
    job = await paused(parts, await parts.job(cron="0 * * * *"), reason="holidays")
    parts.clock.move(MINUTE)
    await tick(parts)
    await paused(parts, job, reason="illness")
    for _ in range(2):
        parts.clock.move(HOUR)
        await tick(parts)
    assert await fates(parts) == [
        ("09:00", "skipped_paused", None, 1),
        ("10:00", "skipped_paused", "11:00", 2),
    ]
    assert await sums(parts) == [(3, 0)]


async def test_a_pause_of_a_year_of_seconds_is_one_row(parts: Parts) -> None:
    job = await paused(parts, await parts.job(cron="* * * * * *"))
    for _ in range(3):
        parts.clock.move(120 * 24 * HOUR)
        await tick(parts)
    assert len(await fates(parts)) == 1
    [slot] = await parts.jobs.occurrences(NINE - HOUR, parts.clock.now() + HOUR, job.id)
    assert slot.until is not None
    assert slot.until >= parts.clock.now() - MINUTE


async def test_a_slot_that_is_looked_at_anew_is_not_counted_twice(parts: Parts) -> None:
    await paused(parts, await parts.job(cron="0 * * * *"))
    for _ in range(3):
        parts.clock.move(HOUR)
        await tick(parts)
    await parts.sql("UPDATE jobs SET next_run_at = '2026-11-23T10:00:00.000+00:00'")
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", "11:00", 3)]
    assert await sums(parts) == [(3, 0)]


async def test_what_is_skipped_at_once_after_it_was_written_is_written_once(parts: Parts) -> None:
    job = await parts.job()
    skipped = Occurrence(NINE, Fate.SKIPPED_BLACKOUT, "a blackout", NINE + HOUR, 2)
    for _ in range(2):
        await parts.database.write(lambda c: jobs.record_skip(c, job.id, skipped))
    assert await fates(parts) == [("09:00", "skipped_blackout", "10:00", 2)]


@pytest.mark.parametrize("table", ["occurrences", "jobs"])
async def test_where_a_skip_cannot_be_written_the_slot_is_still_due(parts: Parts, table: str) -> None:
    job = await paused(parts, await parts.job())
    kind = "INSERT ON occurrences" if table == "occurrences" else "UPDATE OF next_run_at ON jobs"
    await parts.sql(f"CREATE TRIGGER no BEFORE {kind} BEGIN SELECT RAISE(ABORT, 'no'); END")
    parts.clock.move(30)
    with pytest.raises(Exception, match="no"):
        await tick(parts)
    assert await fates(parts) == []
    assert (await parts.jobs.get(job.id)).next_run_at == NINE
