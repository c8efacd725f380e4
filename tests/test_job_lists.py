from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.jobs import (
    Fate,
    JobQuery,
    JobSort,
    JobState,
    Occurrence,
    _calendar,
    link_run,
    record,
    record_execution,
)
from claude_runner.runs import Ending, State, end
from tests.parts import Parts, open_parts
from tests.support import MORNING

DAY = timedelta(days=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def slot(parts: Parts, job_id: str, occurrence: Occurrence) -> None:
    await parts.database.write(lambda c: record(c, job_id, occurrence))


async def ended(parts: Parts, job_id: str, state: State, cost_usd: float | None = None) -> str:
    parts.clock.move(60)
    run = await parts.claimed(job_id=job_id)
    error = None if state is State.FINISHED else "it failed"

    def write(c: Any) -> None:
        end(c, run, Ending(state, None, error, error, None, cost_usd), parts.clock.now())
        record_execution(c, job_id, parts.clock.now(), error)

    await parts.database.write(write)
    return run.id


async def listed(parts: Parts, **query: Any) -> list[str]:
    page = await parts.jobs.overview(JobQuery(**query), 50)
    assert page.total == len(page.rows)
    return [row.job.name for row in page.rows]


# Lists


async def test_jobs_are_ordered_by_name_whatever_the_case(parts: Parts) -> None:
    for name in ("beta", "Alpha", "Gamma"):
        await parts.job(name=name)
    assert await listed(parts) == ["Alpha", "beta", "Gamma"]
    assert await listed(parts, descending=True) == ["Gamma", "beta", "Alpha"]


async def test_what_has_nothing_to_be_ordered_by_comes_last_either_way(parts: Parts) -> None:
    soon = await parts.job(name="soon", cron="0 10 * * *")
    later = await parts.job(name="later", cron="0 12 * * *")
    await parts.job(name="paused", enabled=False)
    await ended(parts, later.id, State.FINISHED, 2.0)
    await ended(parts, soon.id, State.FINISHED, 1.0)
    assert await listed(parts, sort=JobSort.NEXT) == ["soon", "later", "paused"]
    assert await listed(parts, sort=JobSort.NEXT, descending=True) == ["later", "soon", "paused"]
    assert await listed(parts, sort=JobSort.LAST, descending=True) == ["soon", "later", "paused"]
    assert await listed(parts, sort=JobSort.COST, descending=True) == ["later", "soon", "paused"]


async def test_jobs_are_ordered_by_what_a_run_of_them_costs(parts: Parts) -> None:
    often, dear = await parts.job(name="often"), await parts.job(name="dear")
    for _ in range(5):
        await ended(parts, often.id, State.FINISHED, 0.5)
    await ended(parts, dear.id, State.FINISHED, 1.0)
    assert await listed(parts, sort=JobSort.COST, descending=True) == ["dear", "often"]


async def test_jobs_are_found_by_words_of_their_name_and_prompt(parts: Parts) -> None:
    sprint = await parts.job(name="Sprint 100%", prompt="summarise the tickets")
    await parts.job(name="Mail", prompt="read_it all")
    assert await listed(parts, text="sprint TICKETS") == ["Sprint 100%"]
    assert await listed(parts, text=sprint.id) == ["Sprint 100%"]
    assert await listed(parts, text="100%") == ["Sprint 100%"]
    assert await listed(parts, text="%") == ["Sprint 100%"]
    assert await listed(parts, text="read_it") == ["Mail"]
    assert await listed(parts, text="readxit") == []
    assert await listed(parts, text="\\") == []


async def test_jobs_are_found_by_how_they_are(parts: Parts) -> None:
    failing, well = await parts.job(name="failing"), await parts.job(name="well")
    await parts.job(name="paused", enabled=False)
    await ended(parts, failing.id, State.ERROR)
    await ended(parts, well.id, State.ERROR)
    await ended(parts, well.id, State.FINISHED)
    await ended(parts, failing.id, State.CANCELLED)  # which says nothing of the job
    run = await parts.claimed(job_id=well.id)
    assert await listed(parts, state=JobState.FAILING) == ["failing"]
    assert await listed(parts, state=JobState.PAUSED) == ["paused"]
    assert await listed(parts, state=JobState.ENABLED) == ["failing", "well"]
    assert await listed(parts, state=JobState.RUNNING) == ["well"]
    assert (await parts.jobs.row(well.id)).running == run.id


async def test_a_page_is_some_of_all(parts: Parts) -> None:
    for number in range(5):
        await parts.job(name=f"job {number}")
    page = await parts.jobs.overview(JobQuery(), 2, offset=2)
    assert (page.total, [row.job.name for row in page.rows]) == (5, ["job 2", "job 3"])


async def test_a_job_that_cannot_be_read_holds_up_no_other(parts: Parts) -> None:
    spoiled = await parts.job(name="a")
    await parts.job(name="b")
    await parts.sql("UPDATE jobs SET tools = '{' WHERE id = :id", id=spoiled.id)
    page = await parts.jobs.overview(JobQuery(), 5)
    assert (page.total, [row.job.name for row in page.rows], page.unreadable) == (2, ["b"], (spoiled.id,))


async def test_failing_jobs_are_those_that_would_fail_again(parts: Parts) -> None:
    failing, paused, shelved = [await parts.job(name=name) for name in ("failing", "paused", "shelved")]
    for job in (failing, paused):
        await ended(parts, job.id, State.ERROR)
    await parts.jobs.change(paused.id, {"enabled": False}, parts.clock.now())
    await parts.sql(
        "UPDATE jobs SET next_run_at = NULL, last_error = 'not scheduled' WHERE id = :id", id=shelved.id
    )
    assert {job.name for job in await parts.jobs.failing(5)} == {"failing", "shelved"}
    assert len(await parts.jobs.failing(1)) == 1


# Slots


async def test_slots_come_in_the_order_of_time_with_what_became_of_their_runs(parts: Parts) -> None:
    first, second = await parts.job(name="first"), await parts.job(name="second")
    await slot(parts, second.id, Occurrence(MORNING + DAY, Fate.SKIPPED_OVERLAP, "busy"))
    await slot(parts, first.id, Occurrence(MORNING, Fate.RAN))
    run_id = await ended(parts, first.id, State.FINISHED, 0.5)
    await parts.database.write(lambda c: link_run(c, first.id, MORNING, run_id))
    ran, skipped = await parts.jobs.occurrences(MORNING, MORNING + 2 * DAY)
    assert (ran.job_name, ran.fate, ran.run_id, ran.state, ran.cost_usd) == (
        "first", Fate.RAN, run_id, State.FINISHED, 0.5,
    )  # fmt: skip
    assert (skipped.job_name, skipped.reason, skipped.state) == ("second", "busy", None)
    assert list(await parts.jobs.occurrences(MORNING, MORNING + DAY)) == [ran]
    assert list(await parts.jobs.occurrences(MORNING, MORNING + 2 * DAY, second.id)) == [skipped]
    assert list(await parts.jobs.occurrences(MORNING, MORNING + 2 * DAY, limit=1)) == [ran]


async def test_slots_that_began_before_a_stretch_and_reach_into_it_are_part_of_it(parts: Parts) -> None:
    job, other = await parts.job(), await parts.job()
    missed = Occurrence(MORNING - 3 * DAY, Fate.MISSED, "off", until=MORNING, count=4)
    over = Occurrence(MORNING - 9 * DAY, Fate.MISSED, "off", until=MORNING - 5 * DAY, count=4)
    for each in (missed, over):
        await slot(parts, job.id, each)
    for whose in (None, job.id):
        [found] = await parts.jobs.occurrences(MORNING - DAY, MORNING + DAY, whose)
        assert (found.scheduled_for, found.until, found.count) == (MORNING - 3 * DAY, MORNING, 4)
    assert await parts.jobs.occurrences(MORNING - DAY, MORNING + DAY, other.id) == []


async def test_missed_slots_are_told_latest_first(parts: Parts) -> None:
    job = await parts.job()
    for day in range(4):
        await slot(parts, job.id, Occurrence(MORNING + day * DAY, Fate.MISSED, "off"))
    await slot(parts, job.id, Occurrence(MORNING + 5 * DAY, Fate.CAUGHT_UP, "late"))
    missed = await parts.jobs.missed(MORNING + DAY, 2)
    assert [it.scheduled_for for it in missed] == [MORNING + 3 * DAY, MORNING + 2 * DAY]


async def test_a_missed_slot_is_mended_by_a_run_of_its_job(parts: Parts) -> None:
    job = await parts.job()
    await slot(parts, job.id, Occurrence(MORNING, Fate.MISSED, "off", until=MORNING + DAY, count=2))
    for at, many in ((MORNING + DAY / 2, 1), (MORNING + DAY * 2, 0)):
        await parts.database.write(lambda c, at=at: record_execution(c, job.id, at, None))  # type: ignore[misc]
        assert len(await parts.jobs.missed(MORNING, 5)) == many


@pytest.mark.parametrize("name", ["_OF_ALL", "_OF_ONE", "_MISSED"])
async def test_slots_are_read_by_their_time(parts: Parts, name: str) -> None:
    values = {"since": "", "until": "", "job_id": "", "limit": 1}
    plan = await parts.sql(f"EXPLAIN QUERY PLAN {getattr(_calendar, name)}", **values)
    steps = [detail for *_, detail in plan if "occurrences" in detail]
    assert steps
    assert all("SEARCH" in step and ("scheduled_for" in step or "until" in step) for step in steps), steps
