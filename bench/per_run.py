"""What a run costs with all that keeps the promises, against the same without it.

Relative to this project as it was before retries, budgets, notifications and the rest: the commit `BEFORE`, laid out
beside this checkout, in the same environment. Both are started once and take turns, each run of a slot of a job that
decides nothing itself: with a stand-in for Claude Code, so that only the server's own work and the disk count, and with
the real CLI on a scripted model, which is what a run is. Processor time with all children, and time by the clock.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, ratio, rotated, spread
from tests.scripted_model import scripted_model

MOST: Final = 1.10
BEFORE: Final = "32e310d"
ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = ROOT / "bench" / "_run_cost_program.py"
CHEAP, REAL = 60, 4  # runs of a round
Costs = dict[str, list[tuple[float, float]]]


def measure(effort: Effort) -> list[Figure]:
    """Time runs of both."""
    name = "a run against one before the promises"
    with tempfile.TemporaryDirectory() as folder:
        if not _laid_out(Path(folder) / "before"):
            return [Figure(name, f"<= {MOST:g} x", f"this checkout has no commit {BEFORE}", met=None)]
        cheap, real = asyncio.run(_rounds(Path(folder), effort.costs))
    kinds = (("stand-in for Claude Code", cheap, "ms", 1000), ("real CLI", real, "s", 1))
    return [
        _figure(f"{name} ({kind}), {what}", costs, column, unit, factor)
        for kind, costs, unit, factor in kinds
        for column, what in enumerate(("processor time", "time"))
    ]


def _figure(name: str, costs: Costs, column: int, unit: str, factor: int) -> Figure:
    now, before = ([cost[column] * factor for cost in costs[which]] for which in ("now", "before"))
    return ratio(name, MOST, now, before, (spread("now", now, unit, 2), spread("before", before, unit, 2)))


def _laid_out(folder: Path) -> bool:
    """Lay the earlier commit out; tells whether there is one."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True, check=False
    )  # fmt: skip
    if archive.returncode != 0:
        return False
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return True


async def _rounds(folder: Path, count: int) -> tuple[Costs, Costs]:
    checkouts = {"now": ROOT, "before": folder / "before"}
    async with scripted_model() as model, AsyncExitStack() as opened:
        found: list[Costs] = []
        for kind, runs, address in (("cheap", CHEAP, ()), ("real", REAL, (model.base_url, model.api_key))):
            programs = {
                which: await opened.enter_async_context(
                    _started(checkout, folder / f"{kind} {which}", *address)
                )
                for which, checkout in checkouts.items()
            }
            for program in programs.values():
                await _cost(program, 2)  # all is loaded, and in the system's cache
            costs: Costs = {which: [] for which in checkouts}
            for number in range(count):
                for which in rotated(list(checkouts), number):
                    costs[which].append(await _cost(programs[which], runs))
            found.append(costs)
    return found[0], found[1]


@asynccontextmanager
async def _started(checkout: Path, home: Path, *address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    await asyncio.to_thread(home.mkdir)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        str(home),
        *address,
        cwd=checkout,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(checkout),
            "PYTHONSAFEPATH": "1",
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _cost(program: asyncio.subprocess.Process, runs: int) -> tuple[float, float]:
    """Return the seconds of processors and of the clock that a run takes."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{runs}\n".encode())
    line = await program.stdout.readline()
    if not line:
        raise RuntimeError("the program has ended")
    processors, seconds = map(float, line.split())
    return processors, seconds
