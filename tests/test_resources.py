"""Outputs of runs and jobs as a client attaches them, in both eras of the protocol."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastmcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, TextResourceContents

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App
from claude_runner.runs import Ending, NewRun, State, Trigger
from claude_runner.tools import build_mcp
from claude_runner.tools.resources import LISTED, LONGEST
from tests.parts import drafted
from tests.support import FakeAgent, FakeClock, content, ended, running

Mcp = Client[Any]


@pytest.fixture(params=["legacy", "2026-07-28"])
async def mcp(app: App, request: pytest.FixtureRequest) -> AsyncIterator[Mcp]:
    async with Client(await build_mcp(app), mode=request.param) as client:
        yield client


async def read(mcp: Mcp, uri: str, mime_type: str = "text/markdown") -> str:
    [found] = await mcp.read_resource(uri)
    assert isinstance(found, TextResourceContents)
    assert found.mime_type == mime_type
    return found.text


async def a_run(app: App, **changes: Any) -> str:
    return await app.runs.add(NewRun("go", Trigger.MANUAL, **changes), app.clock.now())


async def test_the_output_of_a_run_can_be_attached(app: App, mcp: Mcp) -> None:
    run = await ended(app, await a_run(app))
    assert await read(mcp, f"run://{run.id}/output") == "done"


class TestARun:
    """A run that has not said all, or too much, or nothing."""

    @pytest.fixture
    def agent(self) -> FakeAgent:
        async def act(order: Order, listener: Listener, stop: Stop) -> Ending:
            if order.prompt == "hold":
                return await FakeAgent.wait_for_stop(order, listener, stop)
            if order.prompt == "long":
                return Ending(State.FINISHED, output="x" * LONGEST + "the end")
            return Ending(State.ERROR, error="it broke", reason="agent_crashed")

        return FakeAgent(act)

    async def test_that_goes_on_shows_what_it_has_said(self, app: App, mcp: Mcp) -> None:
        run_id = await app.runs.add(NewRun("hold", Trigger.MANUAL), app.clock.now())
        await running(app, run_id, said="half a sen")
        assert await read(mcp, f"run://{run_id}/output") == "half a sen"
        await app.dispatcher.cancel(run_id)  # nobody waits for it at the end

    async def test_that_failed_shows_why(self, app: App, mcp: Mcp) -> None:
        run_id = await app.runs.add(NewRun("fail", Trigger.MANUAL), app.clock.now())
        await ended(app, run_id)
        assert await read(mcp, f"run://{run_id}/output") == "[no output; the run ended as error: it broke]"

    async def test_that_waits_says_so(self, app: App, mcp: Mcp, clock: FakeClock) -> None:
        later = clock.now().replace(year=2027)
        run_id = await app.runs.add(NewRun("go", Trigger.MANUAL, not_before=later), clock.now())
        assert await read(mcp, f"run://{run_id}/output") == "[no output; the run is pending]"

    async def test_that_said_more_than_a_client_takes_is_cut(self, app: App, mcp: Mcp) -> None:
        run_id = await app.runs.add(NewRun("long", Trigger.MANUAL), app.clock.now())
        await ended(app, run_id)
        said = await read(mcp, f"run://{run_id}/output")
        assert said == "x" * LONGEST + f"\n\n[7 characters more: get_run, output_offset={LONGEST}]"


async def test_a_job_can_be_attached_as_get_job_answers_it(app: App, mcp: Mcp) -> None:
    job = await app.jobs.add(drafted(prompt="Grüße an alle"), app.clock.now())
    shown = await read(mcp, f"job://{job.id}", "application/json")
    assert "Grüße" in shown
    assert json.loads(shown) == content(await mcp.call_tool("get_job", {"job_id": job.id}))


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("run://0123456789ab/output", "there is no run '0123456789ab'; list_runs shows them all"),
        ("run://a%2Fb/output", "there is no run 'a/b'; list_runs shows them all"),
        ("run://%27%20OR%201=1/output", "there is no run"),
        ("run://..%2F..%2Fetc/output", "not found"),
        ("run://../output", "not found"),
        ("run://0123456789ab", "not found"),
        ("run://0123456789ab/output/more", "not found"),
        ("job://01234567", "there is no job '01234567'; list_jobs shows them all"),
        ("job://" + "x" * 10_000, "there is no job 'x"),
        ("job://%00", "not found"),
        ("file:///etc/passwd", "not found"),
    ],
)
async def test_what_is_not_there_is_said(mcp: Mcp, uri: str, sentence: str) -> None:
    with pytest.raises(MCPError, match=re.escape(sentence)) as caught:
        await mcp.read_resource(uri)
    assert caught.value.error.code == INVALID_PARAMS


async def test_the_latest_jobs_and_runs_are_listed_and_can_be_read(
    app: App, mcp: Mcp, clock: FakeClock
) -> None:
    for number in range(LISTED + 5):
        clock.move(1)
        job = await app.jobs.add(drafted(name=f"Job {number}"), clock.now())
        await ended(app, await a_run(app, job_id=job.id))
    listed = await mcp.list_resources()
    names = [it.title for it in listed]
    assert names[:2] == ["Job 24", "Job 23"]
    assert names[LISTED : LISTED + 2] == [
        f"{name}, 2026-11-23 {at} UTC, finished" for name, at in (("Job 24", "08:59"), ("Job 23", "08:59"))
    ]
    assert len(listed) == 2 * LISTED
    for resource in (listed[0], listed[-1]):
        assert resource.mime_type
        assert await read(mcp, resource.uri, resource.mime_type)


async def test_a_client_is_told_the_addresses_there_can_be(mcp: Mcp) -> None:
    templates = {it.uri_template: it for it in await mcp.list_resource_templates()}
    assert set(templates) == {"run://{id}/output", "job://{id}"}
    assert all(it.title and it.description and it.mime_type for it in templates.values())
