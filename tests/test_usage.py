import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from claude_runner import jobs as job_rules
from claude_runner import runs as run_rules
from claude_runner.db._migrations import SCHEMA, migrate
from claude_runner.jobs import Fate, JobQuery, Occurrence, Outcome
from claude_runner.runs import Ending, NewRun, SlotTotals, State, Tokens, Totals, Trigger
from tests import history
from tests.parts import Parts, open_parts
from tests.support import MORNING

DAY = timedelta(days=1)
KEPT = ("usage_sums", "usage_shares", "slot_quarters", "job_totals")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def ended(
    parts: Parts,
    at: datetime,
    state: State = State.FINISHED,
    cost_usd: float | None = 0.25,
    seconds: int = 10,
    tokens: Tokens | None = None,
    usage: dict[str, Any] | None = None,
    **changes: object,
) -> str:
    """A run that took so long and ended at an instant."""
    new = NewRun("go", Trigger.MANUAL, **changes)  # type: ignore[arg-type]
    started = at - timedelta(seconds=seconds)
    reason = None if state is State.FINISHED else "timeout"
    ending = Ending(state, "done", reason, reason, tokens or Tokens(1, 2, 3, 4), cost_usd, usage)

    await parts.database.write(lambda c: run_rules.insert(c, new, started))
    run = await parts.runs.claim("here:1", "session", started)
    assert run is not None
    assert await parts.database.write(lambda c: run_rules.end(c, run, ending, at))
    return run.id


def used(cost_usd: float | None, tokens: int = 5) -> dict[str, Any]:
    """What Claude Code tells of a model; one without a cost is not on its list."""
    basis = "unknown" if cost_usd is None else "list"
    return {"inputTokens": tokens, "outputTokens": 1, "costUSD": cost_usd or 0.4, "costBasis": basis}


def stored(c: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return sorted(tuple(row) for row in c.execute(f"SELECT * FROM {table}"))


def is_counted(path: Path) -> bool:
    """Whether what the triggers keep is what a count of everything comes to."""
    with closing(sqlite3.connect(path)) as c:
        for table in KEPT:
            for kept, counted in zip(stored(c, table), history.counted(c, table), strict=True):
                assert list(kept) == [pytest.approx(it) if isinstance(it, float) else it for it in counted]
        return True


# What runs came to


async def test_what_ended_in_a_stretch_of_time_is_added_up(parts: Parts) -> None:
    await ended(parts, MORNING)
    await ended(parts, MORNING + timedelta(hours=1), State.ERROR, None, seconds=5)
    await ended(parts, MORNING + DAY, cost_usd=1.0)
    [first, second] = await parts.runs.usage([MORNING - DAY, MORNING + DAY / 2, MORNING + 2 * DAY])
    assert first == Totals(1, 1, 0, 2, 4, 6, 8, 0.25, 1, 15.0)
    assert (first.runs, first.total_tokens, first.success_rate) == (2, 20, 0.5)
    assert (second.runs, second.cost_usd, second.success_rate) == (1, 1.0, 1.0)


async def test_nothing_has_no_success_rate(parts: Parts) -> None:
    [nothing] = await parts.runs.usage([MORNING, MORNING + DAY])
    assert nothing == Totals()
    assert nothing.success_rate is None


async def test_what_was_cancelled_neither_succeeded_nor_failed(parts: Parts) -> None:
    await ended(parts, MORNING, State.CANCELLED)
    await ended(parts, MORNING)
    totals = await parts.runs.usage_in_all()
    assert (totals.runs, totals.cancelled, totals.success_rate) == (2, 1, 1.0)


async def test_a_run_that_was_cancelled_before_it_started_took_no_time_and_has_no_price_to_know(
    parts: Parts,
) -> None:
    assert await parts.runs.cancel_pending(await parts.pending(), "no", MORNING)
    assert await parts.runs.usage_in_all() == Totals(cancelled=1)


async def test_rehearsals_count_apart(parts: Parts) -> None:
    await ended(parts, MORNING, rehearsal=True, cost_usd=None)
    assert await parts.runs.usage_in_all() == Totals()
    rehearsed = await parts.runs.usage_in_all(rehearsal=True)
    assert (rehearsed.finished, rehearsed.unpriced, rehearsed.cost_usd) == (1, 0, 0.0)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"])
async def test_the_days_of_a_zone_are_its_own(parts: Parts, zone: str) -> None:
    midnight = datetime(2026, 11, 24, tzinfo=ZoneInfo(zone))
    await ended(parts, (midnight - timedelta(seconds=1)).astimezone(UTC), cost_usd=1.0)
    await ended(parts, midnight.astimezone(UTC), cost_usd=2.0)
    days = await parts.runs.usage([midnight - DAY, midnight, midnight + DAY])
    assert [day.cost_usd for day in days] == [1.0, 2.0]


async def test_a_long_stretch_is_what_its_days_are_together(parts: Parts) -> None:
    chance = random.Random(4)
    for _ in range(60):
        await ended(parts, MORNING + timedelta(minutes=chance.randint(0, 14 * 1440)), cost_usd=0.5)
    since = MORNING - timedelta(hours=5, minutes=14, seconds=30)
    hours = await parts.runs.usage([since + timedelta(hours=hour) for hour in range(16 * 24 + 1)])
    [whole] = await parts.runs.usage([since, since + 16 * DAY])
    assert whole == sum(hours, Totals())
    assert whole.runs == 60


async def test_what_was_used_stays_used_when_its_runs_are_deleted(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, job_id=job.id)
    await parts.jobs.remove(job.id)
    assert (await parts.runs.usage_in_all()).finished == 1


async def test_a_run_counts_once_even_where_a_person_has_it_run_again(parts: Parts) -> None:
    run_id = await ended(parts, MORNING)
    await parts.sql("UPDATE runs SET state = 'pending', finished_at = NULL WHERE id = :id", id=run_id)
    run = await parts.runs.claim("here:1", "session", MORNING)
    assert run is not None
    await parts.database.write(lambda c: run_rules.end(c, run, Ending(State.FINISHED, "again"), MORNING))
    assert (await parts.runs.usage_in_all()).finished == 1


# What became of slots


async def test_the_fates_of_slots_are_added_up_by_when_they_were_planned(parts: Parts) -> None:
    job = await parts.job()
    slots = [
        Occurrence(MORNING, Fate.RAN),
        Occurrence(MORNING + timedelta(minutes=1), Fate.CAUGHT_UP, "late"),
        Occurrence(MORNING + timedelta(minutes=2), Fate.SKIPPED_OVERLAP, "busy"),
        Occurrence(MORNING + DAY, Fate.MISSED, "off", until=MORNING + 2 * DAY, count=7),
        Occurrence(MORNING + 3 * DAY, Fate.MISSED, "off", until=MORNING + 4 * DAY, count=None),
    ]
    for slot in slots:
        await parts.database.write(lambda c, slot=slot: job_rules.record(c, job.id, slot))  # type: ignore[misc]
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    days = await parts.runs.slots([midnight + day * DAY for day in range(5)])
    assert days == [SlotTotals(2, 1, 0), SlotTotals(0, 0, 7), SlotTotals(0, 0, 0), SlotTotals(0, 0, 101)]


# What a job's runs came to


async def test_a_job_has_the_sums_and_the_last_results_of_its_runs(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, cost_usd=1.0, job_id=job.id)
    await ended(parts, MORNING + DAY, State.ERROR, cost_usd=None, job_id=job.id)
    missed = Occurrence(MORNING + 2 * DAY, Fate.MISSED, "off")
    await parts.database.write(lambda c: job_rules.record(c, job.id, missed))
    await ended(parts, MORNING + 3 * DAY, State.CANCELLED, job_id=job.id)
    row = await parts.jobs.row(job.id)
    assert (row.runs, row.failed, row.cost_usd, row.priced, row.seconds) == (3, 1, 1.25, 2, 30.0)
    assert row.recent == (Outcome.OK, Outcome.FAILED, Outcome.MISSED, Outcome.CANCELLED)
    assert [it.id for it in await parts.jobs.failing(5)] == [job.id]


async def test_only_the_last_twenty_results_are_kept(parts: Parts) -> None:
    job = await parts.job()
    await ended(parts, MORNING, State.ERROR, job_id=job.id)
    for number in range(20):
        await ended(parts, MORNING + number * DAY, job_id=job.id)
    assert (await parts.jobs.row(job.id)).recent == (Outcome.OK,) * 20


async def test_a_new_job_has_come_to_nothing(parts: Parts) -> None:
    job = await parts.job()
    row = await parts.jobs.row(job.id)
    assert (row.job, row.runs, row.cost_usd, row.recent, row.running) == (job, 0, 0.0, (), None)


# True, whoever writes


async def test_what_the_triggers_keep_is_what_a_count_of_everything_comes_to(parts: Parts) -> None:
    chance = random.Random(11)
    jobs = [(await parts.job(name=f"job {number}")).id for number in range(3)]
    at = MORNING
    for _ in range(300):
        at += timedelta(seconds=chance.randint(1, 4_000))
        job_id = chance.choice([*jobs, None])
        if job_id is not None and chance.random() < 0.3:
            slot = Occurrence(at, chance.choice(list(Fate)), "so", count=chance.choice([1, 3, None]))
            await parts.database.write(lambda c, j=job_id, s=slot: job_rules.record(c, j, s))  # type: ignore[misc]
            continue
        state = chance.choice([State.FINISHED, State.FINISHED, State.ERROR, State.CANCELLED])
        cost = chance.choice([None, 0.0, 0.01, 1.5])
        usage = chance.choice([None, {"one": used(cost)}, {"one": used(0.1), "two": used(None)}])
        await ended(
            parts,
            at,
            state,
            cost,
            chance.randint(0, 100),
            usage=usage,
            job_id=job_id,
            webhook_id=chance.choice([None, "hook0001"]),
            model=chance.choice([None, "one"]),
            rehearsal=not chance.randint(0, 4),
        )
    assert is_counted(parts.path)


async def test_runs_that_come_in_ended_count_as_well(parts: Parts) -> None:
    run_id = await ended(parts, MORNING)
    columns = (
        "trigger, state, prompt, output, created_at, started_at, finished_at, worker, cost_usd, input_tokens"
    )
    await parts.sql(
        f"INSERT INTO runs (id, {columns}) SELECT 'copied', {columns} FROM runs WHERE id = :id", id=run_id
    )
    assert (await parts.runs.usage_in_all()).finished == 2
    assert is_counted(parts.path)


def test_a_long_history_comes_with_what_the_triggers_would_have_kept(tmp_path: Path) -> None:
    history.fill(tmp_path / "filled.db", 300, jobs=4)
    assert is_counted(tmp_path / "filled.db")


async def test_a_database_of_before_is_counted_when_it_is_brought_up_to_date(tmp_path: Path) -> None:
    path, before = tmp_path / "old.db", tmp_path / "schema"
    before.mkdir()
    steps = sorted(SCHEMA.glob("*.sql"))
    for step in steps[:3]:
        (before / step.name).write_text(step.read_text())
    migrate(path, before)
    history.fill(tmp_path / "new.db", 200, jobs=3)
    with closing(sqlite3.connect(path)) as c:
        c.execute("ATTACH :new AS new", {"new": str(tmp_path / "new.db")})
        for table in ("jobs", "runs", "occurrences"):
            names = [row[1] for row in c.execute(f"PRAGMA main.table_info({table})")]
            columns = ", ".join(names)
            c.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        c.commit()
    migrate(path)
    assert is_counted(path)
    async with open_parts(path) as parts:
        page = await parts.jobs.overview(JobQuery(), 10)
        assert page.total == 3
        assert (await parts.runs.usage_in_all()).runs > 150
        with closing(sqlite3.connect(path)) as c:
            c.execute("INSERT INTO run_words (run_words) VALUES ('integrity-check')")


def test_totals_add_up_field_by_field() -> None:
    assert Totals(1, 2, 3, 4, 5, 6, 7, 0.5, 8, 9.0) + Totals(1, 1, 1, 1, 1, 1, 1, 0.5, 1, 1.0) == Totals(
        2, 3, 4, 5, 6, 7, 8, 1.0, 9, 10.0
    )
