"""How long a due slot takes to become a run on disk.

Absolute: from the instant a slot is due until a subscriber is woken for its run, which is after the commit with
synchronous=FULL. The application is real, with the machine's clock and a file of its own; one job is due each second,
and a stand-in agent ends its runs at once.
"""

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, percentile
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Subscription, Topic
from claude_runner.jobs import JobDraft
from tests.support import FakeAgent

MOST_MS: Final = 50.0


def measure(effort: Effort) -> list[Figure]:
    """Time the slots."""
    late, skipped = asyncio.run(_latencies(effort.slots))
    p99 = percentile(late, 0.99)
    raw = (
        f"{len(late)} slots: p50 {percentile(late, 0.5):.1f} ms, p99 {p99:.1f}, "
        f"min {min(late):.1f}, max {max(late):.1f}; slots without a run: {skipped}",
    )
    met = p99 <= MOST_MS and not skipped
    return [Figure("due slot -> run row on disk, p99", f"<= {MOST_MS:.0f} ms", f"{p99:.1f} ms", met, raw)]


async def _latencies(count: int) -> tuple[list[float], int]:
    """Return how many milliseconds each slot took, and how many had no run."""
    with tempfile.TemporaryDirectory() as home:
        async with open_app(Settings(home=Path(home)), agent=FakeAgent()) as app:
            with app.hub.subscribe(Topic.RUNS) as changes:
                await app.jobs.add(JobDraft("each second", "* * * * * *", "go", "UTC"), app.clock.now())
                async with asyncio.timeout(count + 60):
                    seen = await _first_seen(app, changes, count)
            runs = [await app.runs.get(run_id) for run_id in seen]
    slots = [run.scheduled_for for run in runs if run.scheduled_for is not None]
    late = [
        (at - slot).total_seconds() * 1000
        for at, slot in zip(list(seen.values())[: len(slots)], slots, strict=True)
    ]
    planned = round((max(slots) - min(slots)).total_seconds()) + 1
    return late, planned - len(slots)


async def _first_seen(app: App, changes: Subscription, count: int) -> dict[str, datetime]:
    """Return when so many runs were heard of first."""
    seen: dict[str, datetime] = {}
    while len(seen) < count:
        await changes.changed.wait()
        now = app.clock.now()
        for change in changes.take():
            seen.setdefault(change.key, now)
    return seen
