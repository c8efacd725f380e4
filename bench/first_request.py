"""How long `trigger_job` takes until the model is asked.

Relative to the bare SDK client (connect, then query) in the same process, with the very options that the agent makes
of the same order, under the same guard. Ours begins with the call of the MCP tool and so contains the tool, the run's
row, its claim and its folder. Both ask one scripted model on loopback, which notes when a request arrives. The two
take turns, and who goes first alternates.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fastmcp import Client

from bench._agents import NotingAgent, converse, settings_for
from bench._figures import Effort, Figure, ratio, rotated, spread
from claude_runner.agent import Order
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from claude_runner.tools import build_mcp
from tests.scripted_model import ScriptedModel, scripted_model
from tests.support import content, ended

MOST: Final = 1.15
WARM_UPS: Final = 2
TOOLS: Final = ("Read", "Write", "Edit", "Bash")  # without MCP servers, which the bare client could not reach


def measure(effort: Effort) -> list[Figure]:
    """Time first requests."""
    ours, bare = asyncio.run(_rounds(effort.requests))
    raw = (spread("trigger_job", ours, "ms"), spread("bare SDK client", bare, "ms"))
    return [ratio("trigger_job -> first model request", MOST, ours, bare, raw)]


async def _rounds(count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each of ours and of each bare one."""
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_model() as model:
            settings = settings_for(Path(folder), model)
            agent = NotingAgent(settings)
            await agent.warm_up()
            async with open_app(settings, agent=agent) as app, Client(await build_mcp(app)) as client:
                job = await app.jobs.add(
                    JobDraft("now and then", "0 0 1 1 *", "Greet.", "UTC", tools=TOOLS), app.clock.now()
                )

                async def ours() -> float:
                    return await _ours(app, client, job.id, model)

                async def bare() -> float:
                    assert agent.order is not None
                    return await _bare(agent.order, settings, model)

                for _ in range(WARM_UPS):
                    await ours()
                    await bare()
                return await _in_turns(ours, bare, count)


async def _in_turns(
    one: Callable[[], Awaitable[float]], other: Callable[[], Awaitable[float]], count: int
) -> tuple[list[float], list[float]]:
    """Return what each gives, so many times."""
    given: dict[Callable[[], Awaitable[float]], list[float]] = {one: [], other: []}
    for number in range(count):
        for each in rotated(list(given), number):
            given[each].append(await each())
    return given[one], given[other]


async def _ours(app: App, client: Client[Any], job_id: str, model: ScriptedModel) -> float:
    begun = time.monotonic()
    answer = content(await client.call_tool("trigger_job", {"job_id": job_id}))
    run = await ended(app, answer["run_id"])
    return _milliseconds(begun, model, run.session_id or "")


async def _bare(order: Order, settings: Settings, model: ScriptedModel) -> float:
    begun = time.monotonic()
    return _milliseconds(begun, model, await converse(order, settings))


def _milliseconds(begun: float, model: ScriptedModel, session_id: str) -> float:
    """Return how long it took until the session's first request arrived."""
    arrived = next(request.arrived for request in model.requests if request.session_id == session_id)
    return (arrived - begun) * 1000
