"""How long many jobs that are due at once take to become runs on disk.

Absolute: from the instant that a thousand jobs are due until a thousand run rows are read through a connection of our
own. The application is real, with the machine's clock and a file of its own; a stand-in agent works at the first runs
all the while, so that the dispatcher's places are taken and the others wait.
"""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, spread
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft
from tests.support import FakeAgent

JOBS: Final = 1000
MOST_MS: Final = 1000.0
AHEAD: Final = timedelta(seconds=4)  # the jobs are stored and the scheduler asleep again by then
PATIENCE: Final = 60.0


def measure(effort: Effort) -> list[Figure]:
    """Time the crowds."""
    taken = [asyncio.run(_crowd()) for _ in range(effort.crowds)]
    name = f"{JOBS:,} jobs due in one second -> run rows on disk"
    raw = (spread(f"each of {JOBS:,}", taken, "ms"),)
    return [Figure(name, f"<= {MOST_MS:.0f} ms", f"{max(taken):.0f} ms", max(taken) <= MOST_MS, raw)]


async def _crowd() -> float:
    """Return how many milliseconds after the slot the last row was there."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), shutdown_grace_seconds=0)
        async with open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop)) as app:
            slot = (app.clock.now() + AHEAD).replace(microsecond=0)
            draft = JobDraft("at once", f"{slot:%S %M %H} * * *", "go", "UTC")
            await asyncio.gather(*(app.jobs.add(draft, app.clock.now()) for _ in range(JOBS)))
            if app.clock.now() > slot - AHEAD / 4:
                raise RuntimeError("the machine is too slow to store the jobs in time")
            return await _last_row(app, slot)


async def _last_row(app: App, slot: datetime) -> float:
    seen: set[str] = set()
    with app.hub.subscribe(Topic.RUNS) as changes, closing(sqlite3.connect(app.settings.database_path)) as c:
        async with asyncio.timeout(PATIENCE):
            while len(seen) < JOBS:
                await changes.changed.wait()
                seen.update(change.key for change in changes.take())
        (rows,) = c.execute("SELECT count(*) FROM runs").fetchone()
        late = app.clock.now() - slot
    if rows != JOBS:
        raise RuntimeError(f"{JOBS} jobs were due, and there are {rows} runs")
    return late.total_seconds() * 1000
