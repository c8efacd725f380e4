import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from claude_runner.app import App
from claude_runner.background import background
from claude_runner.hub import Topic
from claude_runner.jobs import Job
from claude_runner.runs import RunFilter, State, Trigger
from claude_runner.scheduler import BATCH, Scheduler
from tests.parts import DRAFT, Parts, drafted, logged, open_parts, patient
from tests.support import MORNING, FakeClock, until

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


def scheduler_of(parts: Parts, *, rehearsal: bool = False) -> Scheduler:
    return Scheduler(parts.database, parts.hub, parts.clock, rehearsal=rehearsal)


async def fates(parts: Parts) -> list[tuple[str, str, bool]]:
    """Job, fate and whether there is a run, of every slot."""
    rows = await parts.sql(
        "SELECT job_id, fate, run_id IS NOT NULL FROM occurrences ORDER BY scheduled_for, job_id"
    )
    return [(job_id, fate, bool(has_run)) for job_id, fate, has_run in rows]


async def test_a_due_slot_becomes_an_occurrence_and_a_run_and_the_job_moves_on(parts: Parts) -> None:
    job = await parts.job(tools=("Read",))
    parts.clock.move(30)
    await scheduler_of(parts).tick()
    [run] = (await parts.runs.list(RunFilter(), 10)).runs
    assert (run.job_id, run.trigger, run.state) == (job.id, Trigger.SCHEDULE, State.PENDING)
    assert (run.scheduled_for, run.prompt, run.tools) == (NINE, job.prompt, ("Read",))
    assert await fates(parts) == [(job.id, "ran", True)]
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + DAY


async def test_a_slot_that_has_not_come_does_nothing(parts: Parts) -> None:
    await parts.job()
    parts.clock.move(29.999)
    await scheduler_of(parts).tick()
    assert await fates(parts) == []


@pytest.mark.parametrize("table", ["occurrences", "runs"])
async def test_where_one_of_the_three_cannot_be_written_none_is(parts: Parts, table: str) -> None:
    job = await parts.job()
    await parts.sql(f"CREATE TRIGGER no BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END")
    parts.clock.move(30)
    with pytest.raises(Exception, match="no"):
        await scheduler_of(parts).tick()
    assert (await fates(parts), (await parts.runs.list(RunFilter(), 10)).total) == ([], 0)
    assert (await parts.jobs.get(job.id)).next_run_at == NINE


async def test_two_schedulers_of_one_database_run_a_slot_once(parts: Parts) -> None:
    made = [await parts.job(name=f"job {number}") for number in range(20)]
    async with open_parts(parts.path, parts.clock) as others:
        await patient(parts, others)
        parts.clock.move(30)
        await asyncio.gather(*(scheduler_of(each).tick() for each in (parts, others)))
    assert await fates(parts) == sorted((job.id, "ran", True) for job in made)
    assert (await parts.runs.list(RunFilter(), 100)).total == 20


async def test_a_slot_that_was_written_down_before_is_not_run_again(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30)
    await scheduler_of(parts).tick()
    await parts.sql("UPDATE jobs SET next_run_at = '2026-11-23T09:00:00.000+00:00'")
    await scheduler_of(parts).tick()
    assert (await parts.runs.list(RunFilter(), 10)).total == 1
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + DAY


async def test_a_disabled_job_is_not_due(parts: Parts) -> None:
    await parts.job(enabled=False)
    parts.clock.move(DAY)
    await scheduler_of(parts).tick()
    assert await fates(parts) == []


async def test_a_slot_up_to_a_minute_late_ran(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30 + 60)
    await scheduler_of(parts).tick()
    assert await fates(parts) == [(job.id, "ran", True)]


async def test_a_slot_later_than_a_minute_is_caught_up(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(30 + 61)
    await scheduler_of(parts).tick()
    [run] = (await parts.runs.list(RunFilter(), 10)).runs
    assert (run.trigger, run.scheduled_for) == (Trigger.CATCH_UP, NINE)
    assert await fates(parts) == [(job.id, "caught_up", True)]


async def test_after_a_long_night_the_job_goes_on_with_a_slot_to_come(parts: Parts) -> None:
    job = await parts.job()
    parts.clock.move(3 * DAY)
    await scheduler_of(parts).tick()
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + 3 * DAY


async def test_more_jobs_than_are_looked_at_together_all_run(parts: Parts) -> None:
    await asyncio.gather(*(parts.job() for _ in range(BATCH + 1)))
    parts.clock.move(30)
    await scheduler_of(parts).tick()
    assert len(await fates(parts)) == BATCH + 1


async def test_the_runs_of_a_rehearsing_scheduler_are_marked(parts: Parts) -> None:
    await parts.job()
    parts.clock.move(30)
    await scheduler_of(parts, rehearsal=True).tick()
    [run] = (await parts.runs.list(RunFilter(), 10)).runs
    assert run.rehearsal


# When it looks again


async def test_without_jobs_it_looks_again_after_a_minute(parts: Parts) -> None:
    assert await scheduler_of(parts).tick() == MORNING + timedelta(seconds=60)


async def test_it_never_sleeps_longer_than_a_minute(parts: Parts) -> None:
    await parts.job(cron="@yearly")
    assert await scheduler_of(parts).tick() == MORNING + timedelta(seconds=60)


async def test_it_looks_again_at_the_next_slot(parts: Parts) -> None:
    await parts.job()
    assert await scheduler_of(parts).tick() == NINE


async def test_a_change_of_a_job_wakes_it(app: App, clock: FakeClock) -> None:
    await app.jobs.add(DRAFT, clock.now())  # due in 30 s, though it sleeps for 60
    clock.move(30)
    await until(lambda: has_finished(app), app, Topic.RUNS)


async def has_finished(app: App) -> bool:
    return (await app.runs.list(RunFilter(state=State.FINISHED), 1)).total == 1


async def test_a_job_runs_slot_after_slot(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(drafted(cron="0 * * * *"), clock.now())
    clock.move(30)
    for count in range(1, 4):

        async def ran(count: int = count) -> bool:
            return (await app.runs.list(RunFilter(job.id, State.FINISHED), 1)).total == count

        await until(ran, app)
        clock.move(3600)


async def test_a_slot_fired_is_told_on_the_job_once_its_run_has_ended(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    clock.move(30)
    await until(lambda: has_finished(app), app, Topic.RUNS)
    assert (await app.jobs.get(job.id)).last_executed_at == NINE


# Rows that somebody edited by hand


EDITS = {
    "a cron that is none": ("cron = 'whenever'", "'whenever' has 1 field"),
    "a zone that is none": ("timezone = 'Mars/Olympus'", "'Mars/Olympus' is not a time zone"),
    "tools that are no list": ("tools = 'Read'", "tools is a text that is not JSON"),
    "an instant that is none": ("created_at = 'yesterday'", "Invalid isoformat string: 'yesterday'"),
}


@pytest.mark.parametrize("edit", EDITS)
async def test_a_bad_row_is_shelved_with_a_sentence_and_holds_up_nobody(parts: Parts, edit: str) -> None:
    assignment, sentence = EDITS[edit]
    bad, good = await parts.job(name="bad"), await parts.job(name="good")
    await parts.sql(f"UPDATE jobs SET {assignment} WHERE id = :id", id=bad.id)
    parts.clock.move(30)
    wake_at = await scheduler_of(parts).tick()
    assert await fates(parts) == [(good.id, "ran", True)]
    assert wake_at > parts.clock.now()
    [(next_run_at, last_error)] = await parts.sql(
        "SELECT next_run_at, last_error FROM jobs WHERE id = :id", id=bad.id
    )
    assert next_run_at is None
    assert last_error.startswith("not scheduled any more: ")
    assert sentence in last_error


@pytest.mark.parametrize(
    "slot",
    [
        "tomorrow",
        "2026-11-23 09:00",
        "2026-11-23T10:00:00.000+05:00",
        "2026-11-23T09:00:00+00:00",
        "2026-02-31T09:00:00.000+00:00",
    ],
)
async def test_a_slot_that_is_no_instant_cannot_be_written_by_hand(parts: Parts, slot: str) -> None:
    await parts.job()
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        await parts.sql("UPDATE jobs SET next_run_at = :slot", slot=slot)


async def test_a_shelved_job_that_is_put_right_runs_again(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET cron = 'whenever'")
    parts.clock.move(30)
    await scheduler_of(parts).tick()
    changed: Job = await parts.jobs.change(job.id, {"cron": "1 9 * * *"}, parts.clock.now())
    assert changed.next_run_at == NINE + timedelta(minutes=1)


# A database that refuses


async def test_a_database_that_refuses_is_logged_and_tried_again_in_a_second(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("CREATE TRIGGER no BEFORE INSERT ON occurrences BEGIN SELECT RAISE(ABORT, 'no'); END")
    parts.clock.move(30)
    with logged("claude_runner.scheduler") as log:
        async with background(scheduler_of(parts).serve()):
            await log.line("could not look for due jobs; it tries again in a second")
            parts.clock.move(1)
            await log.line("could not look for due jobs", count=2)
            await parts.sql("DROP TRIGGER no")
            parts.clock.move(1)
            await log.line(f"job {job.id} (Morning) is due: run")
    assert await fates(parts) == [(job.id, "ran", True)]


async def test_a_database_that_refuses_does_not_make_it_look_well(parts: Parts) -> None:
    scheduler = scheduler_of(parts)
    await scheduler.tick()
    await parts.job()
    await parts.sql("CREATE TRIGGER no BEFORE INSERT ON occurrences BEGIN SELECT RAISE(ABORT, 'no'); END")
    parts.clock.move(30)
    with pytest.raises(Exception, match="no"):
        await scheduler.tick()
    assert scheduler.last_tick_at == MORNING


async def test_a_slot_that_cannot_be_planned_holds_up_nobody(parts: Parts) -> None:
    bad, good = await parts.job(name="bad", timezone="America/New_York"), await parts.job(name="good")
    await parts.sql("UPDATE jobs SET next_run_at = '0001-01-01T00:00:00.000+00:00' WHERE id = :id", id=bad.id)
    parts.clock.move(30)
    await scheduler_of(parts).tick()
    assert (good.id, "ran", True) in await fates(parts)
    assert "its slot can't be planned" in ((await parts.jobs.get(bad.id)).last_error or "")
