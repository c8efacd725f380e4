"""What a scheduler with many jobs costs while none is due.

Absolute: the share of a core that a process with the whole application takes, over more than a minute, so that the
scheduler looks by itself at least once. The process is one of its own, with the machine's clock and a file of its own;
its jobs are all enabled and all due next year.
"""

import argparse
import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.db import to_text
from claude_runner.jobs import JobDraft
from tests.support import FakeAgent

JOBS: Final = 100_000
MOST_PERCENT: Final = 1.0
SETTLED_SECONDS: Final = 3.0

# Copies of one job that differ in their ids.
_COPY: Final = """
    WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < :count)
    INSERT INTO jobs (id, name, cron, timezone, prompt, tools, created_at, updated_at, next_run_at)
    SELECT printf('%08x', number), name, cron, timezone, prompt, tools, created_at, updated_at, :next_run_at
    FROM numbers, jobs WHERE jobs.id = :id
"""


def measure(effort: Effort) -> list[Figure]:
    """Watch the process."""
    counted = subprocess.run(
        [sys.executable, "-m", "bench.quiet", str(effort.quiet)],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    seconds, looks = json.loads(counted.stdout)
    percent = 100 * seconds / effort.quiet
    raw = (f"{seconds * 1000:.1f} ms of a core in {effort.quiet} s, in which it looked {looks} times",)
    met = percent <= MOST_PERCENT if looks else None
    name = f"{JOBS:,} jobs, none due: share of a core"
    return [Figure(name, f"<= {MOST_PERCENT:g} %", f"{percent:.3f} %", met, raw)]


async def _watch(seconds: float) -> tuple[float, int]:
    """Return how many seconds of a core went by, and how often the scheduler looked."""
    with tempfile.TemporaryDirectory() as home:
        async with open_app(Settings(home=Path(home)), agent=FakeAgent()) as app:
            await _store(app)
            await asyncio.sleep(SETTLED_SECONDS)
            looked, looks = app.scheduler.last_tick_at, 0
            begun, end = time.process_time(), time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 10))
                looks += app.scheduler.last_tick_at != looked
                looked = app.scheduler.last_tick_at
            return time.process_time() - begun, looks


async def _store(app: App) -> None:
    now = app.clock.now()
    far = (now + timedelta(days=366)).replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    job = await app.jobs.add(JobDraft("next year", "0 0 1 1 *", "go", "UTC"), now)
    values = {"count": JOBS - 1, "id": job.id, "next_run_at": to_text(far)}
    await app.database.write(lambda c: _copy(c, values))
    # So that the scheduler hears of a change once all are there.
    await app.jobs.change(job.id, {"name": "the first of many"}, now)


def _copy(c: sqlite3.Connection, values: dict[str, object]) -> None:
    c.execute(_COPY, values)


def main() -> None:
    """Watch for as many seconds as the command line says; print what was counted in JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.quiet")
    parser.add_argument("seconds", type=float)
    print(json.dumps(asyncio.run(_watch(parser.parse_args().seconds))))


if __name__ == "__main__":
    main()
