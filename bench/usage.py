"""How long it takes to tell what a year of a thousand runs a day came to, by job, model, webhook and day.

The tool as the server answers it, on a home that was filled beforehand, in turns with `get_policies`, which reads the
settings alone: what any answer costs. Beside it, the slowest through a client in the same process, which reads what it
is answered and checks it against the tool's schema: that is the client's part.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Final

from fastmcp import Client

from bench._figures import Effort, Figure, median, percentile
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from claude_runner.views.spending import By
from tests.history import NOW, fill
from tests.support import FakeAgent, FakeClock

MOST_MS: Final = 50.0
DAYS: Final = 365
RUNS: Final = 1_000 * DAYS
JOBS: Final = 100
BARE: Final = "get_policies"
CLIENT: Final = "by day, through a client"
YEAR: Final = {"from": (NOW - timedelta(days=DAYS)).isoformat(), "to": NOW.isoformat()}


def measure(effort: Effort) -> list[Figure]:
    """Time the answers."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        fill(settings.database_path, RUNS, JOBS, days=DAYS)
        taken = asyncio.run(_taken(settings, effort.pages))
    bare, client = taken.pop(BARE), taken.pop(CLIENT)
    slowest = max(taken, key=lambda by: percentile(taken[by], 0.95))
    p95 = percentile(taken[slowest], 0.95)
    raw = tuple(
        f"{name}: p50 {median(series):.1f} ms, p95 {percentile(series, 0.95):.1f}, max {max(series):.1f}, "
        f"{median(series) / median(bare):.1f} x get_policies"
        for name, series in (*taken.items(), (CLIENT, client))
    )
    name = f"get_usage, {RUNS:,} runs of a year, {JOBS} jobs, p95 of the slowest ({slowest})"
    return [Figure(name, f"<= {MOST_MS:.0f} ms", f"{p95:.1f} ms", p95 <= MOST_MS, raw)]


async def _taken(settings: Settings, rounds: int) -> dict[str, list[float]]:
    """Return how many milliseconds each answer took, by what was asked."""
    taken: dict[str, list[float]] = {BARE: [], CLIENT: [], **{f"by {by}": [] for by in By}}
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock(NOW)) as app:
        mcp = await build_mcp(app)
        async with Client(mcp) as client:
            for _ in range(rounds):
                taken[BARE].append(await _timed(mcp.call_tool("get_policies", {})))
                for by in By:
                    asked = {**YEAR, "by": by.value}
                    taken[f"by {by}"].append(await _timed(mcp.call_tool("get_usage", asked)))
                taken[CLIENT].append(
                    await _timed(client.call_tool("get_usage", {**YEAR, "by": By.DAY.value}))
                )
    return taken


async def _timed(answer: Awaitable[object]) -> float:
    began = time.perf_counter()
    await answer
    return (time.perf_counter() - began) * 1000
