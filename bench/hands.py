"""What three tool servers cost a run: the time until its model is asked, and memory.

Time: relative to a run of the same job without servers, in the same process; the pool is warm, the two take turns.
Memory: the server is a real process; what its processes grow by (USS) from one run to many is compared with that of
runs that have no servers. What Claude Code itself takes for its connections is told apart.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil
from fastmcp import Client

from bench._agents import environment_for, settings_for
from bench._figures import Effort, Figure, ratio, rotated, spread
from bench._servers import SERVER, Program, Started, started
from bench.going import SETTLED_SECONDS, WORDS, scripted_model_process, wait_until_heard
from bench.invocations import CODE
from claude_runner.agent import ClaudeAgent, find_cli
from claude_runner.app import App, open_app
from claude_runner.jobs import JobDraft
from claude_runner.tools import build_mcp
from tests.scripted_model import ScriptedModel, script, scripted_model
from tests.support import content, ended

MOST: Final = 1.25
MOST_MIB: Final = 5.0
SERVERS: Final = ("one", "two", "three")
TOOLS: Final = ("Read", *(f"mcp__{name}__echo" for name in SERVERS))
WARM_UPS: Final = 2

Weights = tuple[tuple[float, float], tuple[float, float]]


def measure(effort: Effort) -> list[Figure]:
    """Time first requests, and weigh runs."""
    having, bare = asyncio.run(_rounds(effort.requests))
    raw = (spread("with three servers", having, "ms"), spread("without", bare, "ms"))
    first = ratio("first model request, three warm servers against none", MOST, having, bare, raw)
    return [first, *_memory(effort.going)]


async def _rounds(count: int) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_model() as model:
            settings = settings_for(Path(folder), model)
            agent = ClaudeAgent(settings)
            await agent.warm_up()
            async with open_app(settings, agent=agent) as app, Client(await build_mcp(app)) as client:
                for name in SERVERS:
                    await app.workshop.create(name, CODE, "")
                jobs = [await _job(app, tools) for tools in (TOOLS, ("Read",))]
                taken: dict[str, list[float]] = {job: [] for job in jobs}
                for number in range(WARM_UPS + count):
                    for job in rotated(jobs, number):
                        begun = time.monotonic()
                        answer = content(await client.call_tool("trigger_job", {"job_id": job}))
                        run = await ended(app, answer["run_id"])
                        arrived = next(
                            request.arrived
                            for request in model.requests
                            if request.session_id == run.session_id
                        )
                        taken[job].append((arrived - begun) * 1000)
                having, bare = (taken[job][WARM_UPS:] for job in jobs)
                return having, bare


async def _job(app: App, tools: tuple[str, ...]) -> str:
    draft = JobDraft("now and then", "0 0 1 1 *", "Greet.", "UTC", tools=tools)
    return (await app.jobs.add(draft, app.clock.now())).id


def _memory(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name, scripted_model_process() as model:
        without = _weigh(Path(name, "without"), model, count, ("Read",))
        having = _weigh(Path(name, "with"), model, count, TOOLS)
    return [
        _added(whose, part, without, having, count - 1)
        for part, whose in enumerate(("by the server and its tool servers", "by Claude Code's connections"))
    ]


def _added(whose: str, part: int, without: Weights, having: Weights, runs: int) -> Figure:
    grown = [weights[1][part] - weights[0][part] for weights in (without, having)]
    each = (grown[1] - grown[0]) / runs
    raw = tuple(
        f"USS {label}: with one run {weights[0][part]:.0f} MiB, with {runs + 1} {weights[1][part]:.0f}"
        for label, weights in (("without servers", without), ("with three", having))
    )
    name = f"memory added a run by three shared servers, {whose}"
    return Figure(name, f"<= {MOST_MIB:g} MiB", f"{each:.2f} MiB", each <= MOST_MIB, raw)


def _weigh(folder: Path, model: ScriptedModel, count: int, tools: tuple[str, ...]) -> Weights:
    """Return the memory of a server's processes with one run going on, and with so many."""
    folder.mkdir()
    variables = environment_for(folder, model) | {
        "LANG": "C.UTF-8",
        "MCP_TRANSPORT": "stdio",
        "RUNNER_HOME": str(folder / "runner"),
        "MAX_CONCURRENT_RUNS": str(count),
        "SHUTDOWN_GRACE_SECONDS": "0",
    }
    with started(Program("ours", (sys.executable, str(SERVER)), variables)) as server:
        for tool in tools[1:]:
            name = tool.split("__")[1]
            server.call("create_mcp_server", name=name, code=CODE)
        _have_go_on(server, 1, tools)  # what the first run loads is not for each to bear
        time.sleep(SETTLED_SECONDS)
        idle = _uss_of_all(server.process.pid)
        _have_go_on(server, count - 1, tools)
        time.sleep(SETTLED_SECONDS)
        return idle, _uss_of_all(server.process.pid)


def _have_go_on(server: Started, count: int, tools: tuple[str, ...]) -> None:
    """Have so many more runs going on, each at the point where its model is silent."""
    prompt = script({"text": WORDS, "chunks": 50, "stall": True})
    job = server.call("create_job", name="lasting", cron="0 0 1 1 *", prompt=prompt, tools=list(tools))
    runs = [server.call("trigger_job", job_id=job["id"])["run_id"] for _ in range(count)]
    wait_until_heard(server, runs)


def _uss_of_all(pid: int) -> tuple[float, float]:
    """Return the memory of all of a server's processes but Claude Code's own, and of Claude Code's, in MiB."""
    process = psutil.Process(pid)
    cli = str(find_cli())
    ours = theirs = 0
    for each in (process, *process.children(recursive=True)):
        uss = each.memory_full_info().uss
        if each.cmdline()[:1] == [cli]:
            theirs += uss
        else:
            ours += uss
    return ours / 2**20, theirs / 2**20
