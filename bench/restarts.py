"""How long a server that died in the middle of much takes until its next process starts a first run.

Absolute, beside the start of a home with a single run that waits: from before the process is spawned until its agent
is given an order. 10,000 runs wait, and 50 were going on when the server died, of jobs with each rule for that; what is
left of those is looked for among the machine's processes and their ends or new attempts are written first. The process
has the real application; its agent is a stand-in that looks for leftovers as the real one does. The two take turns.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, median, rotated, spread
from claude_runner import runs
from claude_runner.agent import ClaudeAgent, Listener, Order, Stop
from claude_runner.app import open_app
from claude_runner.config import Settings, SystemClock
from claude_runner.db import Connection, open_database
from claude_runner.hub import Hub
from claude_runner.jobs import JobDraft, Jobs, OnCrash, Policy
from claude_runner.runs import Ending, NewRun, Runs, Trigger
from tests.support import FakeAgent

MOST_SECONDS: Final = 2.0
PENDING: Final = 10_000
INTERRUPTED: Final = 50
PATIENCE: Final = 60.0
DEAD: Final = "1-dead"


def measure(effort: Effort) -> list[Figure]:
    """Time the restarts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        homes = {"one that waits": folder / "little", "much": folder / "much"}
        for home in homes.values():
            home.mkdir()
        asyncio.run(_fill(homes["one that waits"], pending=1, interrupted=0))
        asyncio.run(_fill(homes["much"], pending=PENDING, interrupted=INTERRUPTED))
        taken: dict[str, list[float]] = {kind: [] for kind in homes}
        for number in range(effort.starts):
            for kind in rotated(list(homes), number):
                taken[kind].append(_start(homes[kind], folder / "home"))
    little, much = taken.values()
    raw = (
        spread("much", much, "s", 2),
        spread("one that waits", little, "s", 2),
        f"ratio of the medians {median(much) / median(little):.2f}",
    )
    name = f"restart with {PENDING:,} pending and {INTERRUPTED} interrupted -> first run started, median"
    met = median(much) <= MOST_SECONDS
    return [Figure(name, f"<= {MOST_SECONDS:g} s", f"{median(much):.2f} s", met, raw)]


async def _fill(home: Path, *, pending: int, interrupted: int) -> None:
    """Make a home whose server has died."""
    now = SystemClock().now() - timedelta(minutes=1)
    async with open_database(Settings(home=home).database_path) as database:
        jobs = Jobs(database, Hub())
        rules = [Policy(on_crash=rule) for rule in OnCrash]
        kept = [await jobs.add(JobDraft("job", "0 0 1 1 *", "go", "UTC", policy=rule), now) for rule in rules]

        def write(c: Connection) -> None:
            for number in range(pending):
                runs.insert(c, NewRun(f"go {number}", Trigger.WEBHOOK), now)

        known = Runs(database, Hub())
        for number in range(interrupted):
            await known.add(kept[number % len(kept)].new_run(Trigger.MANUAL), now)
            await known.claim(DEAD, str(uuid.uuid4()), now)
        await database.write(write)


def _start(filled: Path, home: Path) -> float:
    """Start a server on a copy of a home, and return the seconds until it starts a run."""
    shutil.copytree(filled, home)
    try:
        begun = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-m", "bench.restarts", str(home)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            try:
                if not process.stdout.readline():
                    raise RuntimeError("the server has ended before it started a run")
                return time.monotonic() - begun
            finally:
                process.kill()
    finally:
        shutil.rmtree(home)


class _Looking(FakeAgent):
    """Tells of the first order, and looks for what runs have left as the real one does."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(self._tell)
        self._real = ClaudeAgent(settings)

    async def end_leftovers(  # type: ignore[explicit-override]  # typing.override came with Python 3.12
        self, run_ids: Collection[str]
    ) -> int:
        """Do what the real agent does."""
        return await self._real.end_leftovers(run_ids)

    @staticmethod
    async def _tell(order: Order, listener: Listener, stop: Stop) -> Ending:
        print(json.dumps(order.run_id), flush=True)
        return await FakeAgent.wait_for_stop(order, listener, stop)


async def _serve(home: Path) -> None:
    settings = Settings(home=home)
    async with open_app(settings, agent=_Looking(settings)):
        await asyncio.sleep(PATIENCE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    asyncio.run(_serve(parser.parse_args().home))
