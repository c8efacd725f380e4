"""How long a run that is killed takes to be gone.

Absolute: from the call of `kill_run` until it has answered with the final state and /proc shows no process with the
run's mark. The application is real, the CLI too; only the model is scripted. Each run has the worst going: a shell
command that lasts, and a daemon with a session of its own, deaf to SIGTERM. Where shell commands can't be confined, the
model falls silent in mid-answer instead.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from fastmcp import Client

from bench._agents import settings_for
from bench._figures import Effort, Figure, percentile, spread
from claude_runner.agent import ClaudeAgent, sandbox_problem
from claude_runner.app import App, open_app
from claude_runner.runs import NewRun, Trigger
from claude_runner.tools import build_mcp
from tests.scripted_model import Step, script, scripted_model
from tests.support import content, running

MOST_MS: Final = 1000.0
PATIENCE: Final = 30.0
UP: Final = "tail"  # the program that the command ends up in
COMMAND: Final = (
    """setsid nohup sh -c "trap '' TERM HUP; sleep 300" >/dev/null 2>&1 & sleep 0.3; tail -f /dev/null"""
)
BUSY: Final[Step] = {"text": "Working.", "tool": "Bash", "input": {"command": COMMAND, "timeout": 600_000}}
STALLED: Final[Step] = {"text": "Working.", "stall": True}


def measure(effort: Effort) -> list[Figure]:
    """Time the kills."""
    name = "kill_run -> tree gone and state final, p99"
    if sys.platform != "linux":
        return [Figure(name, f"<= {MOST_MS:.0f} ms", "only Linux has /proc", met=None)]
    taken, trees = asyncio.run(_kills(effort.kills))
    p99 = percentile(taken, 0.99)
    what = f"daemon and command in a sandbox, {min(trees)} to {max(trees)} processes"
    if problem := sandbox_problem():
        what = f"a model that fell silent, since {problem}"
    raw = (f"p50 {percentile(taken, 0.5):.0f} ms, p99 {p99:.0f}; {what}", spread("kills", taken, "ms"))
    return [Figure(name, f"<= {MOST_MS:.0f} ms", f"{p99:.0f} ms", p99 <= MOST_MS, raw)]


async def _kills(count: int) -> tuple[list[float], list[int]]:
    """Return how many milliseconds each kill took, and how many processes each run had."""
    taken: list[float] = []
    trees: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        async with scripted_model() as model:
            settings = settings_for(Path(folder), model, shutdown_grace_seconds=0)
            agent = ClaudeAgent(settings)
            async with open_app(settings, agent=agent) as app, Client(await build_mcp(app)) as client:
                for _ in range(count):
                    run_id = await _busy(app)
                    trees.append(len(_of_run(run_id)))
                    taken.append(await _kill(client, run_id))
    return taken, trees


async def _kill(client: Client[Any], run_id: str) -> float:
    begun = time.monotonic()
    killed = content(await client.call_tool("kill_run", {"run_id": run_id}))
    while _of_run(run_id):  # noqa: ASYNC110 - another program's processes tell nobody of their end
        await asyncio.sleep(0.005)
    milliseconds = (time.monotonic() - begun) * 1000
    if killed["state"] != "cancelled":
        raise RuntimeError(f"a killed run ended as {killed['state']}")
    return milliseconds


async def _busy(app: App) -> str:
    """Start a run, wait until it is at work, and return its id."""
    confined = sandbox_problem() is None
    prompt, tools = script(BUSY if confined else STALLED), ("Bash",) if confined else ("Read",)
    run_id = await app.runs.add(NewRun(prompt, Trigger.QUICK, tools=tools), app.clock.now())
    await running(app, run_id, said="Working.")
    async with asyncio.timeout(PATIENCE):
        while confined and UP not in _of_run(run_id).values():  # noqa: ASYNC110 - nor of their beginning
            await asyncio.sleep(0.05)
    return run_id


def _of_run(run_id: str) -> dict[int, str]:
    """Return the processes that bear the run's mark, and the names of their programs."""
    mark = f"CLAUDE_RUNNER_RUN={run_id}".encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # One that has ended but was not taken leave of has no environment any more.
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return found
