"""How long the slots of a home wait when the leader is killed.

Absolute: from SIGKILL until the first run that another server made has ended, by what is on
the disk. The servers are those of the soak:
processes with the real application on one home, their agent a stand-in. A slot comes every second, so that up to one
second of the figure is the wait for it.
"""

import asyncio
import signal
import sqlite3
import tempfile
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, spread
from claude_runner.app import open_app
from claude_runner.config import Settings, SystemClock
from claude_runner.db import to_text
from claude_runner.jobs import JobDraft
from tests.soak import Team
from tests.support import FakeAgent

SERVERS: Final = 3
MOST_MS: Final = 5000.0
PATIENCE: Final = 60.0
BETWEEN_SECONDS: Final = 2.0  # the server that was added is up by then


def measure(effort: Effort) -> list[Figure]:
    """Time the successions."""
    taken, led = asyncio.run(_successions(effort.successions))
    name = "leader killed -> first slot run by the next"
    raw = (spread("first slot", taken, "ms"), spread("of that, until another leads", led, "ms"))
    return [Figure(name, f"<= {MOST_MS:.0f} ms", f"{max(taken):.0f} ms", max(taken) <= MOST_MS, raw)]


async def _successions(count: int) -> tuple[list[float], list[float]]:
    """Return how many milliseconds passed until a run was there, and until another server led."""
    taken: list[float] = []
    led: list[float] = []
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        async with open_app(settings, agent=FakeAgent()) as app:
            await app.jobs.add(JobDraft("each second", "* * * * * *", "go", "UTC"), clock.now())
        team = Team(settings.home)
        async with team.of(SERVERS):
            for number in range(count):
                # The last round ended with a slot; each kill falls at another place between two.
                await asyncio.sleep(BETWEEN_SECONDS + number / count)
                killed_at = clock.now()
                replacing = asyncio.create_task(team.replace_leader(signal.SIGKILL))
                taken.append(
                    (await _first_run(settings, killed_at, clock) - killed_at).total_seconds() * 1000
                )
                led.append(await replacing * 1000)
    return taken, led


async def _first_run(settings: Settings, since: datetime, clock: SystemClock) -> datetime:
    """Return when a run that was made since then is seen to have ended."""
    select = "SELECT 1 FROM runs WHERE created_at > ? AND state = 'finished' LIMIT 1"
    with closing(sqlite3.connect(settings.database_path)) as connection:
        seen = partial(connection.execute, select, (to_text(since),))
        async with asyncio.timeout(PATIENCE):
            while seen().fetchone() is None:  # noqa: ASYNC110 - another process's rows tell us nothing
                await asyncio.sleep(0.005)
    return clock.now()
