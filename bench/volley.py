"""How long many runs that are triggered at once take until the last one's model is asked.

Relative to as many bare SDK clients (connect, then query) in the same process, with the very options that the agent
makes, under the same guard and behind the same gate: as many starts at a time as there are cores, each until the CLI
says that it is up. Ours begins with the calls of the MCP tool and so contains the runs' rows, their claims and what is
written of them. All ask one scripted model on loopback, which notes when a request arrives. The two take turns, and
who goes first alternates. What other programs took of the machine is shown beneath: where it is seconds, the ratio says
little.
"""

import asyncio
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil
from fastmcp import Client

from bench._agents import NotingAgent, converse, settings_for
from bench._figures import Effort, Figure, ratio, rotated, spread
from claude_runner.agent import Order
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from claude_runner.runs import State
from claude_runner.tools import build_mcp
from tests.scripted_model import ScriptedModel, scripted_model
from tests.support import content, ended

RUNS: Final = 32
MOST: Final = 1.15
PATIENCE: Final = 300.0


def measure(effort: Effort) -> list[Figure]:
    """Time the volleys."""
    taken, others = asyncio.run(_rounds(effort.volleys))
    ours, bare = taken.values()
    raw = (
        spread(f"{RUNS} triggered", ours, "s", 2),
        spread(f"{RUNS} bare SDK clients", bare, "s", 2),
        spread("a core's time that other programs took meanwhile", others, "s", 1),
    )
    return [ratio(f"{RUNS} triggered at once -> last one's first request", MOST, ours, bare, raw)]


async def _rounds(count: int) -> tuple[dict[str, list[float]], list[float]]:
    """Return the seconds of each volley of ours and of each bare one, and what others took of a core during each."""
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    others: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_model() as model:
            settings = settings_for(Path(folder), model, max_concurrent_runs=RUNS)
            agent = NotingAgent(settings)
            await agent.warm_up()
            async with open_app(settings, agent=agent) as app, Client(await build_mcp(app)) as client:
                order = await _warm_up(app, agent)
                for number in range(count):
                    for name in rotated(list(taken), number):
                        before = _of_others()
                        volley = (
                            _ours(app, client, model) if name == "ours" else _bare(order, settings, model)
                        )
                        taken[name].append(await volley)
                        others.append(_of_others() - before)
    return taken, others


def _of_others() -> float:
    """Return the processor time up to now that is neither ours nor that of a CLI which has ended."""
    machine = psutil.cpu_times()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours = sum(each.ru_utime + each.ru_stime for each in usage)
    return machine.user + machine.nice + machine.system - ours


async def _warm_up(app: App, agent: NotingAgent) -> Order:
    """Run a job once and return the order that came of it."""
    job = await app.jobs.add(JobDraft("now and then", "0 0 1 1 *", "Greet.", "UTC"), app.clock.now())
    await ended(app, (await app.trigger(job.id)).id)
    assert agent.order is not None
    return agent.order


async def _ours(app: App, client: Client[Any], model: ScriptedModel) -> float:
    [job] = await app.jobs.list()
    before = len(model.requests)
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(client.call_tool("trigger_job", {"job_id": job.id}) for _ in range(RUNS))
    )
    seconds = await _last(model, before, begun)
    runs = [await ended(app, content(answer)["run_id"]) for answer in answers]
    if wrong := [run.error for run in runs if run.state is not State.FINISHED]:
        raise RuntimeError(f"{len(wrong)} runs did not finish: {wrong[0]}")
    return seconds


async def _bare(order: Order, settings: Settings, model: ScriptedModel) -> float:
    gate = asyncio.Semaphore(os.cpu_count() or 1)

    async def one() -> None:
        await gate.acquire()
        await converse(order, settings, gate.release)

    before = len(model.requests)
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(RUNS):
            tasks.create_task(one())
        return await _last(model, before, begun)


async def _last(model: ScriptedModel, before: int, begun: float) -> float:
    """Return how long it took until each of the sessions has asked; each asks once."""
    async with asyncio.timeout(PATIENCE):
        await model.asked(before + RUNS)
    requests = model.requests[before : before + RUNS]
    if len({request.session_id for request in requests}) != RUNS:
        raise RuntimeError("a session asked more than once")
    return max(request.arrived for request in requests) - begun
