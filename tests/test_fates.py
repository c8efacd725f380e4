"""Each planned slot has a fate: after a stop, while a run goes on, when the clock jumps."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import jobs, runs
from claude_runner.jobs import STANDARD, Due
from claude_runner.planning import plan_slots
from claude_runner.runs import Ending, Run, RunFilter, State, Trigger
from claude_runner.scheduler import Scheduler
from claude_runner.turns import Turn
from tests.parts import Parts, open_parts

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def tick(parts: Parts) -> datetime:
    return await Scheduler(parts.database, parts.hub, parts.clock).tick()


async def fates(parts: Parts) -> list[dict[str, Any]]:
    rows = await parts.sql(
        "SELECT scheduled_for, fate, reason, until, count, run_id IS NOT NULL AS ran"
        " FROM occurrences ORDER BY job_id, scheduled_for"
    )
    names = ("scheduled_for", "fate", "reason", "until", "count", "ran")
    return [dict(zip(names, row, strict=True)) for row in rows]


async def end(parts: Parts, run: Run) -> None:
    done = Ending(State.FINISHED, output="done")
    assert await parts.database.write(lambda c: runs.end(c, run, done, parts.clock.now()))


async def finish(parts: Parts) -> None:
    """Execute whatever is pending, as a server would."""
    while (run := await parts.runs.claim("worker", "session", parts.clock.now())) is not None:
        await end(parts, run)


async def test_after_a_stop_the_latest_slot_is_caught_up_and_the_others_are_missed(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    await finish(parts)
    parts.clock.move(5 * HOUR + timedelta(minutes=10))
    await tick(parts)
    ran, missed, caught_up = await fates(parts)
    assert (ran["fate"], ran["reason"], ran["count"], ran["ran"]) == ("ran", None, 1, 1)
    assert (missed["fate"], missed["count"], missed["ran"]) == ("missed", 4, 0)
    assert (missed["scheduled_for"][11:16], missed["until"][11:16]) == ("10:00", "13:00")
    assert "only the latest is caught up" in missed["reason"]
    assert (caught_up["fate"], caught_up["scheduled_for"][11:16], caught_up["ran"]) == (
        "caught_up",
        "14:00",
        1,
    )
    assert caught_up["reason"].startswith("10 min late: no server was at work")
    newest = (await parts.runs.list(RunFilter(), 10)).runs[0]
    assert (newest.trigger, newest.scheduled_for) == (Trigger.CATCH_UP, NINE + 5 * HOUR)
    assert (await parts.jobs.get(job.id)).next_run_at == NINE + 6 * HOUR


async def test_a_slot_on_time_after_a_stop_simply_runs(parts: Parts) -> None:
    await parts.job(cron="*/30 * * * *")
    parts.clock.move(30 + 3600 + 20)
    await tick(parts)
    missed, ran = await fates(parts)
    assert (missed["fate"], missed["count"], missed["until"][11:16]) == ("missed", 2, "09:30")
    assert (ran["fate"], ran["scheduled_for"][11:16]) == ("ran", "10:00")


async def test_one_missed_slot_is_told_without_an_until(parts: Parts) -> None:
    await parts.job()
    parts.clock.move(30 + 25 * 3600)
    await tick(parts)
    missed, caught_up = await fates(parts)
    assert (missed["count"], missed["until"]) == (1, None)
    assert caught_up["reason"].startswith("1 h 0 min late")


async def test_a_month_of_seconds_makes_two_rows_and_one_run(parts: Parts) -> None:
    await parts.job(cron="* * * * * *")
    parts.clock.move(30 * DAY)
    await tick(parts)
    missed, ran = await fates(parts)
    assert (missed["count"], ran["fate"]) == (30 * 86_400 - 1, "ran")
    assert missed["until"] < ran["scheduled_for"]
    assert (await parts.runs.list(RunFilter(), 10)).total == 1


async def test_a_slot_that_comes_while_a_run_goes_on_is_skipped_with_the_reason(parts: Parts) -> None:
    await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    run = await parts.runs.claim("worker", "session", parts.clock.now())
    assert run is not None
    parts.clock.move(HOUR)
    await tick(parts)
    await end(parts, run)
    parts.clock.move(HOUR)
    await tick(parts)
    first, second, third = await fates(parts)
    assert [first["fate"], second["fate"], third["fate"]] == ["ran", "skipped_overlap", "ran"]
    assert second["reason"] == f"run {run.id} of this job had not ended"
    assert not second["ran"]


async def test_a_run_that_still_waits_is_in_the_way_as_well(parts: Parts) -> None:
    await parts.job(cron="* * * * *")
    for _ in range(3):
        parts.clock.move(60)
        await tick(parts)
    assert [fate["fate"] for fate in await fates(parts)] == ["ran", "skipped_overlap", "skipped_overlap"]


async def test_every_slot_of_a_busy_half_minute_has_its_fate(parts: Parts) -> None:
    await parts.job(cron="*/10 * * * * *")
    parts.clock.move(35)
    wake_at = await tick(parts)
    while wake_at <= parts.clock.now():
        wake_at = await tick(parts)
    assert [fate["scheduled_for"][17:19] for fate in await fates(parts)] == ["40", "50", "00"]
    assert [fate["fate"] for fate in await fates(parts)] == ["ran", "skipped_overlap", "skipped_overlap"]


async def test_a_clock_set_back_runs_no_slot_twice(parts: Parts) -> None:
    await parts.job(cron="0 * * * *")
    parts.clock.move(30)
    await tick(parts)
    await finish(parts)
    parts.clock.jump(-2 * HOUR)
    for _ in range(3):
        await tick(parts)
        parts.clock.move(HOUR)
    assert [fate["scheduled_for"][11:16] for fate in await fates(parts)] == ["09:00"]
    await tick(parts)
    assert [fate["scheduled_for"][11:16] for fate in await fates(parts)] == ["09:00", "10:00"]


async def test_a_job_planned_by_a_clock_that_was_ahead_is_planned_anew_once_that_is_set_right(
    parts: Parts,
) -> None:
    await parts.job(cron="0 * * * *")
    await parts.job(cron="0 9 1 1 *")
    scheduler = Scheduler(parts.database, parts.hub, parts.clock)
    parts.clock.jump(365 * DAY)
    await scheduler.tick()
    await finish(parts)
    parts.clock.jump(-365 * DAY)
    await scheduler.tick()
    parts.clock.move(HOUR + timedelta(seconds=31))
    await tick(parts)
    await finish(parts)
    planned = await parts.sql("SELECT substr(next_run_at, 1, 16) FROM jobs ORDER BY cron")
    assert planned == [("2026-11-23T11:00",), ("2027-01-01T09:00",)]
    parts.clock.jump(365 * DAY)
    await tick(parts)
    await finish(parts)
    parts.clock.jump(-365 * DAY)
    await tick(parts)  # as well by a server that is started only then
    assert await parts.sql("SELECT substr(next_run_at, 1, 16) FROM jobs ORDER BY cron") == planned


@pytest.mark.parametrize("changes", [{"cron": "30 * * * *"}, {"enabled": False}])
async def test_a_slot_that_came_as_its_job_was_changed_has_its_fate(
    parts: Parts, changes: dict[str, Any]
) -> None:
    job = await parts.job(cron="*/15 * * * *")
    parts.clock.move(HOUR)
    await parts.jobs.change(job.id, changes, parts.clock.now())
    await tick(parts)
    rows = await parts.sql(
        "SELECT substr(scheduled_for, 12, 5), fate, substr(until, 12, 5), count, reason FROM occurrences"
    )
    assert rows == [("09:00", "missed", "09:45", 4, "the job was changed before anybody had looked at it")]


async def test_a_slot_is_run_as_its_job_is_then(parts: Parts) -> None:
    job = await parts.job(cron="0 * * * *")
    parts.clock.move(31)
    [due] = await parts.database.read(lambda c: jobs.due(c, parts.clock.now(), 5))
    assert isinstance(due, Due)
    await parts.jobs.change(job.id, {"prompt": "say something else"}, parts.clock.now())
    turn = Turn(due.job, STANDARD, parts.clock.now())
    plan = plan_slots(due, parts.clock.now(), STANDARD)
    assert not (await parts.database.write(lambda c: turn.carry_out(c, due, plan))).made
    await tick(parts)
    assert await parts.sql("SELECT prompt FROM runs") == [("say something else",)]


@pytest.mark.parametrize(
    ("column", "spoiled"),
    [
        ("blackouts", "5"),
        ("blackouts", "null"),
        ("blackouts", "[5]"),
        ("blackouts", '["now and then"]'),
        ("notify_on", "5"),
        ("notify_on", '["never"]'),
        ("notify_channels", '[["a"]]'),
        ("starts_at", "0001-01-01T00:00:00+14:00"),
        ("ends_at", "soon"),
        ("starts_at", "9999-12-31T23:59:59+00:00"),
        ("heartbeat_url", "nowhere"),
    ],
)
async def test_a_job_whose_rules_somebody_spoiled_holds_up_no_other(
    parts: Parts, column: str, spoiled: str
) -> None:
    bad, good = await parts.job(cron="0 * * * *"), await parts.job(cron="0 * * * *")
    await parts.sql(f"UPDATE jobs SET {column} = :spoiled WHERE id = :id", spoiled=spoiled, id=bad.id)
    parts.clock.move(31)
    assert await tick(parts) > parts.clock.now()
    assert ("ran",) in await parts.sql("SELECT fate FROM occurrences WHERE job_id = :id", id=good.id)


async def test_in_whatever_form_a_person_wrote_when_it_was_changed_a_job_runs(parts: Parts) -> None:
    await parts.job(cron="0 * * * *")
    await parts.sql("UPDATE jobs SET updated_at = '2026-11-23T10:00:00.123999+02:00'")
    parts.clock.move(31)
    assert await tick(parts) > parts.clock.now()
    assert [fate["fate"] for fate in await fates(parts)] == ["ran"]


async def test_a_clock_set_forward_makes_one_run_of_each_job(parts: Parts) -> None:
    for number in range(20):
        await parts.job(name=f"job {number}", cron="*/5 * * * *")
    parts.clock.jump(8 * HOUR)
    await tick(parts)
    assert (await parts.runs.list(RunFilter(), 100)).total == 20


async def test_a_thousand_catch_ups_are_one_run_a_job(parts: Parts) -> None:
    await asyncio.gather(*(parts.job(name=f"job {number}", cron="* * * * *") for number in range(1000)))
    parts.clock.jump(DAY)
    await tick(parts)
    assert (await parts.runs.list(RunFilter(), 1)).total == 1000
    assert {fate["fate"] for fate in await fates(parts)} == {"missed", "ran"}
