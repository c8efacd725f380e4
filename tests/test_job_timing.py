"""When jobs come that do not come for ever or at any time: intervals, single times, first and last days, blackouts."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import jobs
from claude_runner.errors import InvalidError
from claude_runner.jobs import STANDARD, CatchUp, Job, NotifyOn, Overlap, Policy
from claude_runner.runs import RunFilter
from claude_runner.scheduler import Scheduler
from tests.parts import Parts, open_parts
from tests.support import MORNING

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)  # a Monday; the clock stands half a minute before it
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HOURLY = "0 * * * *"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def job_with(parts: Parts, cron: str = HOURLY, **rules: Any) -> Job:
    return await parts.job(cron=cron, policy=Policy(**rules))


async def tick(parts: Parts) -> None:
    await Scheduler(parts.database, parts.hub, parts.clock).tick()


async def fates(parts: Parts) -> list[tuple[Any, ...]]:
    return await parts.sql(
        "SELECT substr(scheduled_for, 12, 5), fate, substr(until, 12, 5), count FROM occurrences"
        " ORDER BY scheduled_for"
    )


async def changed(parts: Parts, job: Job, **changes: Any) -> Job:
    return await parts.jobs.change(job.id, changes, parts.clock.now())


# What is planned


async def test_an_interval_is_counted_from_when_the_job_was_made(parts: Parts) -> None:
    job = await job_with(parts, "every 90 minutes")

    assert job.cron == "every 90 minutes from 2026-11-23 08:59+00:00"
    assert job.next_run_at == NINE + 89 * MINUTE
    parts.clock.move(HOUR)
    renamed = await changed(parts, job, name="Other")
    assert (renamed.cron, renamed.next_run_at) == (job.cron, job.next_run_at)
    anew = await changed(parts, job, cron="every 90 minutes")
    assert anew.next_run_at == NINE + 149 * MINUTE


async def test_an_interval_of_a_disabled_job_is_counted_from_when_it_is_enabled(parts: Parts) -> None:
    job = await parts.job(cron="every 2 hours", enabled=False)
    assert job.cron == "every 2 hours"
    parts.clock.move(HOUR)
    assert (await changed(parts, job, enabled=True)).next_run_at == NINE + 3 * HOUR - MINUTE


async def test_a_job_with_one_time_runs_once_and_is_over(parts: Parts) -> None:
    job = await job_with(parts, "at 2026-11-23 10:00")
    assert job.next_run_at == NINE + HOUR
    assert not job.is_over
    parts.clock.move(HOUR + 30 * timedelta(seconds=1))
    await tick(parts)

    over = await parts.jobs.get(job.id)
    assert (over.enabled, over.next_run_at, over.is_over) == (True, None, True)
    assert over.next_fires(parts.clock.now(), 5) == []
    assert await fates(parts) == [("10:00", "ran", None, 1)]


async def test_a_job_that_is_over_can_be_given_another_name_and_another_time(parts: Parts) -> None:
    job = await job_with(parts, "at 2026-11-23 10:00")
    parts.clock.move(2 * HOUR)
    await tick(parts)

    renamed = await changed(parts, job, name="Other", prompt="say good evening")
    assert (renamed.name, renamed.next_run_at) == ("Other", None)
    with pytest.raises(InvalidError, match="is past"):
        await changed(parts, job, cron="at 2026-11-23 10:30")
    later = await changed(parts, job, cron="at 2026-11-23 12:00")
    assert later.next_run_at == NINE + 3 * HOUR


async def test_a_job_that_is_over_is_copied_and_taken_out_of_the_trash_as_it_is(parts: Parts) -> None:
    job = await job_with(parts, "at 2026-11-23 09:00", overlap=Overlap.ALLOW)
    parts.clock.move(2 * HOUR)
    await tick(parts)
    await parts.sql("DELETE FROM runs")

    assert (await parts.jobs.duplicate(job.id, parts.clock.now())).cron == job.cron
    assert await parts.jobs.discard(job.id, parts.clock.now())
    assert (await parts.jobs.restore(job.id, parts.clock.now())).next_run_at is None


async def test_no_slot_is_planned_before_the_start_or_after_the_end(parts: Parts) -> None:
    job = await job_with(parts, starts_at=NINE + 2 * HOUR, ends_at=NINE + 3 * HOUR)
    assert job.next_run_at == NINE + 2 * HOUR
    assert job.next_fires(parts.clock.now(), 5) == [NINE + 2 * HOUR, NINE + 3 * HOUR]
    for _ in range(5):
        parts.clock.move(HOUR + MINUTE)
        await tick(parts)

    assert [slot for slot, *_ in await fates(parts)] == ["11:00", "12:00"]
    over = await parts.jobs.get(job.id)
    assert (over.next_run_at, over.is_over) == (None, True)


async def test_another_start_or_end_plans_the_next_slot_anew(parts: Parts) -> None:
    job = await job_with(parts)
    later = await changed(parts, job, policy=Policy(starts_at=NINE + 5 * HOUR))
    assert later.next_run_at == NINE + 5 * HOUR
    assert (await changed(parts, job, policy=Policy(ends_at=NINE + HOUR))).next_run_at == NINE


async def test_what_is_told_to_come_is_in_no_blackout(parts: Parts) -> None:
    job = await job_with(parts, blackouts=("10:00-12:00",))

    assert job.next_fires(parts.clock.now(), 3) == [NINE, NINE + 3 * HOUR, NINE + 4 * HOUR]
    [coming] = await parts.jobs.coming(NINE + DAY)
    assert coming.timetable == job.timetable


async def test_a_job_that_was_spoiled_by_hand_does_not_come(parts: Parts) -> None:
    one, other, third = [await job_with(parts) for _ in range(3)]
    await parts.sql("UPDATE jobs SET cron = 'every now and then' WHERE id = :id", id=one.id)
    await parts.sql("UPDATE jobs SET blackouts = '[\"nights\"]' WHERE id = :id", id=other.id)

    assert [coming.id for coming in await parts.jobs.coming(NINE + DAY)] == [third.id]
    spoiled = await parts.jobs.get(other.id)
    assert (spoiled.next_fires(parts.clock.now(), 5), spoiled.is_over) == ([], False)


# What is refused


@pytest.mark.parametrize(
    ("cron", "rules", "field", "sentence"),
    [
        (
            "at 2026-11-23 08:59",
            {},
            "cron",
            "'at 2026-11-23 08:59' is past: in UTC it is 2026-11-23 08:59 now",
        ),
        ("every fortnight", {}, "cron", "'every fortnight' can't be read"),
        (
            HOURLY,
            {"ends_at": MORNING},
            "ends_at",
            r"ends_at \(2026-11-23 08:59\+00:00\) is past, so nothing would run",
        ),
        (
            "0 9 * * *",
            {"ends_at": NINE - MINUTE / 4},
            "ends_at",
            r"'0 9 \* \* \*' never fires before ends_at \(2026-11-23 08:59\+00:00\)",
        ),
        (
            "0 9 * * *",
            {"starts_at": NINE + HOUR, "ends_at": NINE + 2 * HOUR},
            "ends_at",
            r"never fires between starts_at \(2026-11-23 10:00\+00:00\) and ends_at \(2026-11-23 11:00",
        ),
        (
            "at 2026-11-23 10:00",
            {"starts_at": NINE + 2 * HOUR},
            "starts_at",
            r"'at 2026-11-23 10:00' never fires after starts_at \(2026-11-23 11:00",
        ),
        (
            HOURLY,
            {"starts_at": NINE, "ends_at": NINE},
            "ends_at",
            "ends_at is not after starts_at, so nothing would ever run",
        ),
        (HOURLY, {"blackouts": ("nights",)}, "blackouts", "'nights' in 'nights' is not a weekday"),
        (HOURLY, {"blackouts": ("Sat",) * 21}, "blackouts", "a job has at most 20 blackouts"),
        (
            "0 9 * * 1-5",
            {"blackouts": ("Mon-Fri 08:00-10:00",)},
            "blackouts",
            r"every slot to come is in a blackout \('Mon-Fri 08:00-10:00'\), so nothing would run",
        ),
        (
            "at 2026-12-25 10:00",
            {"blackouts": ("2026-12-24..2026-12-26",)},
            "blackouts",
            "every slot to come is in a blackout",
        ),
        (
            "*/5 * * * *",
            {"jitter_seconds": 300},
            "jitter_seconds",
            "jitter_seconds is 300, and the job's slots are 300 seconds apart",
        ),
        (
            "0,10 9 * * *",
            {"jitter_seconds": 1000},
            "jitter_seconds",
            "jitter_seconds is 1,000, and the job's slots are 600 seconds apart",
        ),
        (
            "at 2026-11-23 10:00",
            {"catch_up": CatchUp.ALL},
            "catch_up",
            "catch_up 'all' is for a schedule of many slots, and 'at 2026-11-23 10:00' has one",
        ),
    ],
)
async def test_what_would_not_run_as_it_is_wanted_is_refused(
    parts: Parts, cron: str, rules: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        await job_with(parts, cron, **rules)
    assert (refused.value.field, await parts.jobs.list()) == (field, [])
    job = await job_with(parts)
    with pytest.raises(InvalidError, match=sentence):
        await changed(parts, job, cron=cron, policy=Policy(**rules))
    assert await parts.jobs.get(job.id) == job


async def test_a_single_slot_may_be_put_off_by_any_jitter(parts: Parts) -> None:
    await job_with(parts, "at 2026-11-23 10:00", jitter_seconds=3600)
    await job_with(parts, "*/5 * * * *", jitter_seconds=299)
    assert len(await parts.jobs.list()) == 2


async def test_a_disabled_job_may_be_kept_whatever_its_time_is(parts: Parts) -> None:
    job = await parts.job(cron="at 2020-01-01 09:00", enabled=False)
    assert (job.next_run_at, job.is_over) == (None, False)
    with pytest.raises(InvalidError, match="is past"):
        await changed(parts, job, enabled=True)


# Blackouts


async def test_the_slots_of_a_blackout_are_one_row_that_says_which(parts: Parts) -> None:
    job = await job_with(parts, blackouts=("Mon-Fri 10:00-12:00",))
    parts.clock.move(MINUTE)
    for _ in range(4):
        await tick(parts)
        await parts.sql("DELETE FROM runs")
        parts.clock.move(HOUR)

    assert await fates(parts) == [
        ("09:00", "ran", None, 1),
        ("10:00", "skipped_blackout", "11:00", 2),
        ("12:00", "ran", None, 1),
    ]
    [_, skipped, _] = await parts.jobs.occurrences(NINE - HOUR, NINE + DAY, job.id)
    assert skipped.reason == "it came in the blackout 'Mon-Fri 10:00-12:00'"
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + 4 * HOUR


async def test_a_blackout_is_on_the_clock_of_the_job(parts: Parts) -> None:
    await parts.job(cron=HOURLY, timezone="Europe/Berlin", policy=Policy(blackouts=("10:00-11:00",)))
    parts.clock.move(MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_blackout", None, 1)]


async def test_what_came_in_a_blackout_while_no_server_was_at_work_is_not_missed(parts: Parts) -> None:
    await job_with(parts, blackouts=("11:00-13:00", "15:00-16:00"))
    parts.clock.move(5 * HOUR + 10 * MINUTE)  # 14:09:30
    await tick(parts)

    assert await fates(parts) == [
        ("09:00", "missed", "10:00", 2),
        ("11:00", "skipped_blackout", "12:00", 2),
        ("13:00", "missed", None, 1),
        ("14:00", "caught_up", None, 1),
    ]


async def test_missed_slots_on_both_sides_of_a_blackout_are_told_of_once(parts: Parts) -> None:
    channel = NotifyOn.MISSED
    await job_with(parts, blackouts=("11:00-13:00",), notify_on=(channel,))
    parts.clock.move(5 * HOUR + 10 * MINUTE)
    due = await parts.database.read(lambda c: jobs.due(c, parts.clock.now(), 10))
    assert len(due) == 1
    await tick(parts)
    [(total,)] = await parts.sql("SELECT sum(missed) FROM slot_quarters")
    assert total == 3
    titles = await parts.sql("SELECT DISTINCT title FROM outbox WHERE title LIKE '%missed%'")
    assert len(titles) <= 1


async def test_the_slot_before_a_blackout_is_caught_up_when_that_ends(parts: Parts) -> None:
    await job_with(parts, blackouts=("11:00-15:00",))
    parts.clock.move(4 * HOUR)  # 12:59:30
    await tick(parts)

    assert await fates(parts) == [
        ("09:00", "missed", None, 1),
        ("10:00", "caught_up", None, 1),
        ("11:00", "skipped_blackout", "12:00", 2),
    ]
    [run] = (await parts.runs.list(RunFilter(), 9)).runs
    assert (run.not_before, run.reason) == (NINE + 6 * HOUR, "blackout")


async def test_all_catches_up_on_both_sides_of_a_blackout(parts: Parts) -> None:
    await job_with(
        parts,
        blackouts=("10:00-12:00",),
        catch_up=CatchUp.ALL,
        catch_up_minutes=1440,
        overlap=Overlap.QUEUE_ALL,
    )
    parts.clock.move(4 * HOUR + 10 * MINUTE)
    await tick(parts)

    assert await fates(parts) == [
        ("09:00", "caught_up", None, 1),
        ("10:00", "skipped_blackout", "11:00", 2),
        ("12:00", "caught_up", None, 1),
        ("13:00", "caught_up", None, 1),
    ]


async def test_a_job_that_is_paused_in_a_blackout_is_skipped_for_the_pause(parts: Parts) -> None:
    job = await job_with(parts, blackouts=("09:00-10:00",))
    await parts.sql(
        "UPDATE jobs SET paused_at = created_at, paused_by = 'owner', paused_reason = 'ill' WHERE id = :id",
        id=job.id,
    )
    parts.clock.move(MINUTE)
    await tick(parts)
    assert await fates(parts) == [("09:00", "skipped_paused", None, 1)]


@pytest.mark.timeout(60)  # the slots one by one would take hours
async def test_a_year_of_blackouts_and_a_slot_each_second_are_written_at_once(parts: Parts) -> None:
    job = await job_with(parts, "* * * * * *", blackouts=("22:00-06:00",))
    parts.clock.move(365 * DAY)
    await tick(parts)

    rows = await parts.sql("SELECT fate, count(*) FROM occurrences GROUP BY fate ORDER BY fate")
    assert rows == [("missed", 366), ("ran", 1), ("skipped_blackout", 365)]
    assert (await parts.jobs.get(job.id)).policy.or_else(STANDARD).catch_up is CatchUp.LATEST
