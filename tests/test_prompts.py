"""What a person picks from a client's menu, and what completes as they type."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastmcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, TextContent

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App
from claude_runner.runs import Ending, NewRun, State, Trigger
from claude_runner.tools import build_mcp
from tests.parts import drafted
from tests.support import FakeAgent, FakeClock, ended
from tests.test_tool_list import TOOLS

Mcp = Client[Any]
NAMES = {"schedule_a_task": "task when", "while_i_was_away": "since", "why_did_it_fail": "run_id"}


@pytest.fixture
def agent() -> FakeAgent:
    async def fail(order: Order, listener: Listener, stop: Stop) -> Ending:
        if order.prompt == "fail":
            return Ending(State.ERROR, error="it broke", reason="agent_crashed")
        return await FakeAgent.say_done(order, listener, stop)

    return FakeAgent(fail)


@pytest.fixture(params=["legacy", "2026-07-28"])
async def mcp(app: App, request: pytest.FixtureRequest) -> AsyncIterator[Mcp]:
    async with Client(await build_mcp(app), mode=request.param) as client:
        yield client


async def said(mcp: Mcp, name: str, **arguments: str) -> str:
    [message] = (await mcp.get_prompt(name, arguments)).messages
    assert message.role == "user"
    assert isinstance(message.content, TextContent)
    return message.content.text


async def test_there_are_just_these_and_each_says_what_it_takes(mcp: Mcp) -> None:
    prompts = {it.name: it for it in await mcp.list_prompts()}
    assert {name: " ".join(it.name for it in prompts[name].arguments or []) for name in prompts} == NAMES
    for prompt in prompts.values():
        assert prompt.title
        assert prompt.description
        assert all(argument.description for argument in prompt.arguments or [])
        needed = [argument.name for argument in prompt.arguments or [] if argument.required]
        assert needed == (["task"] if prompt.name == "schedule_a_task" else [])


async def test_what_they_say_names_only_tools_that_there_are(mcp: Mcp) -> None:
    texts = [
        await said(mcp, "schedule_a_task", task="water the plants"),
        await said(mcp, "while_i_was_away"),
        await said(mcp, "why_did_it_fail"),
    ]
    words = {word.strip(".,:;()'`") for text in texts for word in text.split()}
    named = {word for word in words if "_" in word}
    assert {"create_job", "list_runs", "get_run"} <= named
    assert named - {"job_id", "run_id", "next_cursor"} <= set(TOOLS)


async def test_a_task_is_scheduled_as_the_user_words_it(mcp: Mcp) -> None:
    text = await said(
        mcp, "schedule_a_task", task="Summarise {our} sprint\nand mail it", when="weekdays at nine"
    )
    assert "Summarise {our} sprint\nand mail it" in text
    assert "When: weekdays at nine" in text
    assert "Ask me when" in await said(mcp, "schedule_a_task", task="Summarise our sprint")


async def test_what_happened_is_asked_from_a_moment_on_by_the_servers_clock(mcp: Mcp) -> None:
    text = await said(mcp, "while_i_was_away", since="Friday 18:00")
    assert "since Friday 18:00?" in text
    assert "Monday, 2026-11-23 08:59 UTC" in text
    assert "in the last 24 hours" in await said(mcp, "while_i_was_away")


async def test_a_failure_is_looked_into_of_one_run_or_of_the_last(app: App, mcp: Mcp) -> None:
    run_id = await app.runs.add(NewRun("go", Trigger.MANUAL), app.clock.now())
    assert f"why the run {run_id} of Claude Runner failed" in await said(
        mcp, "why_did_it_fail", run_id=run_id
    )
    assert "the last failed run" in await said(mcp, "why_did_it_fail")
    with pytest.raises(MCPError, match="there is no run 'nothing'; list_runs shows them all"):
        await said(mcp, "why_did_it_fail", run_id="nothing")


async def test_ids_complete_as_they_are_typed(app: App, mcp: Mcp, clock: FakeClock) -> None:
    jobs = []
    for name in ("Morning brief", "Evening"):
        clock.move(1)
        jobs.append(await app.jobs.add(drafted(name=name), clock.now()))
    good = await app.runs.add(NewRun("go", Trigger.MANUAL), app.clock.now())
    bad = await app.runs.add(NewRun("fail", Trigger.MANUAL), app.clock.now())
    for run_id in (good, bad):
        await ended(app, run_id)
    job, run = (ResourceTemplateReference(uri=uri) for uri in ("job://{id}", "run://{id}/output"))
    why = PromptReference(name="why_did_it_fail")

    async def completed(ref: PromptReference | ResourceTemplateReference, name: str, value: str) -> list[str]:
        return (await mcp.complete(ref, {"name": name, "value": value})).values

    assert await completed(job, "id", "") == [jobs[1].id, jobs[0].id]
    assert await completed(job, "id", jobs[0].id[:7]) == [jobs[0].id]
    assert await completed(job, "id", "Morn") == [jobs[0].id]
    assert set(await completed(run, "id", "")) == {good, bad}
    assert await completed(run, "id", "nothing") == []
    assert await completed(why, "run_id", "") == [bad]
    assert await completed(PromptReference(name="schedule_a_task"), "task", "a") == []
    assert await completed(ResourceTemplateReference(uri="other://{id}"), "id", "") == []
