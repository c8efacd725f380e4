"""What a run says that it waits for."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastmcp import Client

from claude_runner import holds, runs
from claude_runner.app import App
from claude_runner.holds import HoldKind
from claude_runner.runs import NewRun, Parking, Run, Trigger
from claude_runner.tools import build_mcp
from claude_runner.waiting import waits_for
from tests.parts import Parts, open_parts
from tests.support import settled

LATER = timedelta(minutes=10)
PLACE = "a place among the runs that go on at once"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def told(parts: Parts, run_id: str) -> str | None:
    run = await parts.runs.get(run_id)
    return await parts.database.read(lambda c: waits_for(c, run, parts.clock.now()))


async def added(parts: Parts, new: NewRun) -> str:
    return await parts.runs.add(new, parts.clock.now())


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("jitter", "its time, which its job's jitter puts a little after its slot"),
        ("spread", "its time: what is caught up begins one after the other"),
        ("blackout", "the end of a blackout of its job"),
        (None, "its time"),
    ],
)
async def test_a_run_with_a_time_waits_for_it(parts: Parts, reason: str | None, said: str) -> None:
    new = NewRun("go", Trigger.SCHEDULE, not_before=parts.clock.now() + LATER, reason=reason)
    run_id = await added(parts, new)
    assert await told(parts, run_id) == said
    parts.clock.move(LATER.total_seconds())
    assert await told(parts, run_id) == PLACE


async def parked(parts: Parts, reason: str) -> Run:
    run = await parts.claimed()
    parking = Parking(parts.clock.now() + LATER, reason, "it did not answer", resumes=False, retries=1)
    assert await parts.database.write(lambda c: runs.park(c, run, parking))
    return run


async def test_a_run_that_is_tried_again_tells_why(parts: Parts) -> None:
    run = await parked(parts, "overloaded")
    assert await told(parts, run.id) == "its next attempt, as the last one failed: it did not answer"
    run = await parked(parts, "usage_limit")
    assert await told(parts, run.id) == "the end of Claude's usage limit"


async def test_only_a_run_that_nobody_started_by_hand_waits_for_what_holds_runs_back(parts: Parts) -> None:
    now = parts.clock.now()
    await parts.database.write(lambda c: holds.hold(c, HoldKind.PAUSED, None, "we are away", now))
    by_itself = await added(parts, NewRun("go", Trigger.WEBHOOK))
    assert await told(parts, by_itself) == "the end of the pause of everything (we are away)"
    assert await told(parts, await added(parts, NewRun("go", Trigger.QUICK))) == PLACE
    assert await told(parts, await added(parts, NewRun("go", Trigger.WEBHOOK, rehearsal=True))) == PLACE


async def test_a_run_that_goes_alone_waits_for_the_other_of_its_job(parts: Parts) -> None:
    job = await parts.job()
    other = await parts.claimed(job_id=job.id)
    beside = NewRun("go", Trigger.SCHEDULE, job_id=job.id)
    assert await told(parts, await added(parts, beside)) == PLACE
    alone = NewRun("go", Trigger.SCHEDULE, job_id=job.id, alone=True)
    assert await told(parts, await added(parts, alone)) == f"the end of run {other.id}"
    assert await told(parts, other.id) is None


async def test_get_run_tells_it(app: App) -> None:
    new = NewRun("go", Trigger.WEBHOOK, not_before=app.clock.now() + LATER, max_cost_usd=0.5)
    run_id = await app.runs.add(new, app.clock.now())
    async with Client(await build_mcp(app)) as client:
        waiting = (await client.call_tool("get_run", {"run_id": run_id})).structured_content
        assert waiting is not None
        assert (waiting["waits_for"], waiting["retries"], waiting["max_cost_usd"]) == ("its time", 0, 0.5)
        done = await settled(app, await app.runs.add(NewRun("go", Trigger.MANUAL), app.clock.now()))
        ended = (await client.call_tool("get_run", {"run_id": done.id})).structured_content
        assert ended is not None
        assert ended["waits_for"] is None
