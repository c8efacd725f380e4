"""How long it takes to tell what a year of a thousand runs a day came to, by job, model, webhook and day.

The tool itself, called through a client in the process, on a home that was filled beforehand, in turns with
`get_policies`, which reads the settings alone: what any answer costs.
"""

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

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
YEAR: Final = {"from": (NOW - timedelta(days=DAYS)).isoformat(), "to": NOW.isoformat()}


def measure(effort: Effort) -> list[Figure]:
    """Time the answers."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        fill(settings.database_path, RUNS, JOBS, days=DAYS)
        taken = asyncio.run(_taken(settings, effort.pages))
    bare = taken.pop("")
    slowest = max(taken, key=lambda by: percentile(taken[by], 0.95))
    p95 = percentile(taken[slowest], 0.95)
    raw = tuple(
        f"by {by}: p50 {median(series):.1f} ms, p95 {percentile(series, 0.95):.1f}, max {max(series):.1f}, "
        f"{median(series) / median(bare):.1f} x get_policies"
        for by, series in taken.items()
    )
    name = f"get_usage, {RUNS:,} runs of a year, {JOBS} jobs, p95 of the slowest (by {slowest})"
    return [Figure(name, f"<= {MOST_MS:.0f} ms", f"{p95:.1f} ms", p95 <= MOST_MS, raw)]


async def _taken(settings: Settings, rounds: int) -> dict[str, list[float]]:
    """Return how many milliseconds each answer took, by what was asked; "" is the one beside them."""
    taken: dict[str, list[float]] = {"": [], **{by.value: [] for by in By}}
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock(NOW)) as app,
        Client(await build_mcp(app)) as client,
    ):
        for _ in range(rounds):
            taken[""].append(await _timed(client, "get_policies", {}))
            for by in By:
                taken[by.value].append(await _timed(client, "get_usage", {**YEAR, "by": by.value}))
    return taken


async def _timed(client: Client[Any], tool: str, arguments: dict[str, Any]) -> float:
    began = time.perf_counter()
    await client.call_tool(tool, arguments)
    return (time.perf_counter() - began) * 1000
