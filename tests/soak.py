"""Several servers on one home under load, their leaders ended and killed: `python -m tests.soak --seconds 300`.

Each server is a process with the real application but for the agent, which says "done" at once. As many jobs as there
are seconds in `ROUND` fire one after the other, so that there is a slot every second. At the end each slot must have
become one run.
"""

import argparse
import asyncio
import random
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from claude_runner.app import open_app
from claude_runner.config import Settings, SystemClock
from claude_runner.jobs import JobDraft
from claude_runner.schedule import parse
from tests.support import FakeAgent

ROUND: Final = 60  # so that no slot meets the run of the one before, however long a handover takes
PATIENCE: Final = 60.0  # seconds that servers may take to start, or one to lead


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the slots.

    Attributes:
        slots: How many came.
        ran: How many became a run.
        lost: Those without a row, or that did not become a run, with what is said of them.
        doubled: Those with more than one run.
        handovers: How often a leader was ended or killed.
        slowest_handover: Seconds from the worst death of a leader to the next one's leading.
    """

    slots: int
    ran: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    handovers: int
    slowest_handover: float


async def soak(home: Path, kills: int, servers: int, kill_every: float) -> Account:
    """Run the load and count."""
    clock = SystemClock()
    async with open_app(Settings(home=home), agent=FakeAgent()) as app:
        begun = clock.now() + timedelta(seconds=1)
        for second in range(ROUND):
            await app.jobs.add(JobDraft(f"at {second}", _every(second), "go", "UTC"), clock.now())
    team = Team(home)
    handovers: list[float] = []
    async with team.of(servers):
        for _ in range(kills):
            await asyncio.sleep(kill_every)
            number = random.choice([signal.SIGTERM, signal.SIGKILL])
            handovers.append(await team.replace_leader(number))
        await asyncio.sleep(kill_every)
        ended = clock.now() - timedelta(seconds=1)
        await asyncio.sleep(3)  # the last slots' runs end
    return _account(home, begun, ended, handovers)


class Team:
    """The servers of a home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._members: dict[int, asyncio.subprocess.Process] = {}
        self._listening: set[asyncio.Task[None]] = set()
        self._leader: int | None = None
        self._led = asyncio.Event()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Keep so many servers while the context is open."""
        for _ in range(size):
            await self._add()
        await asyncio.wait_for(self._led.wait(), PATIENCE)
        try:
            yield
        finally:
            for member in self._members.values():
                member.terminate()
            await asyncio.gather(*(member.wait() for member in self._members.values()))
            await asyncio.gather(*self._listening)

    async def replace_leader(self, number: signal.Signals) -> float:
        """End the leader with a signal and add another server; returns the seconds until one leads again."""
        assert self._leader is not None
        self._led.clear()
        leader = self._members.pop(self._leader)
        begun = asyncio.get_running_loop().time()
        leader.send_signal(number)
        await asyncio.wait_for(self._led.wait(), PATIENCE)
        took = asyncio.get_running_loop().time() - begun
        await leader.wait()
        await self._add()
        return took

    async def _add(self) -> None:
        member = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.soak", "--serve", str(self._home), stdout=asyncio.subprocess.PIPE
        )
        self._members[member.pid] = member
        listening = asyncio.create_task(self._listen(member))
        self._listening.add(listening)
        listening.add_done_callback(self._listening.discard)

    async def _listen(self, member: asyncio.subprocess.Process) -> None:
        assert member.stdout is not None
        async for _ in member.stdout:
            self._leader = member.pid
            self._led.set()


def _every(second: int) -> str:
    return ",".join(str(each) for each in range(second, 60, ROUND)) + " * * * * *"


def _account(home: Path, begun: datetime, ended: datetime, handovers: list[float]) -> Account:
    with closing(sqlite3.connect(home / "jobs.db")) as connection:
        jobs = connection.execute("SELECT id, cron FROM jobs").fetchall()
        fates = {
            (job_id, datetime.fromisoformat(slot)): (fate, reason)
            for job_id, slot, fate, reason in connection.execute(
                "SELECT job_id, scheduled_for, fate, reason FROM occurrences"
            )
        }
        runs = connection.execute(
            "SELECT job_id, scheduled_for, count(*) FROM runs GROUP BY job_id, scheduled_for"
        ).fetchall()
    expected = [(job_id, slot) for job_id, cron in jobs for slot in _slots(cron, begun, ended)]
    count = {(job_id, datetime.fromisoformat(slot)): number for job_id, slot, number in runs}
    lost = [
        f"{slot:%H:%M:%S} {fates.get((job_id, slot))}"
        for job_id, slot in expected
        if (job_id, slot) not in count
    ]
    doubled = [f"{slot:%H:%M:%S} {number}" for (_, slot), number in count.items() if number > 1]
    return Account(
        slots=len(expected),
        ran=len(expected) - len(lost),
        lost=tuple(lost),
        doubled=tuple(doubled),
        handovers=len(handovers),
        slowest_handover=max(handovers, default=0.0),
    )


def _slots(cron: str, begun: datetime, ended: datetime) -> list[datetime]:
    slots: list[datetime] = []
    schedule, after = parse(cron, "UTC"), begun
    while (slot := schedule.next(after)) is not None and slot < ended:
        slots.append(slot.astimezone(UTC))
        after = slot
    return slots


async def _serve(home: Path) -> None:
    """Be one of the servers: say when it leads, and end on SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_app(Settings(home=home, shutdown_grace_seconds=1), agent=FakeAgent()) as app:
        stopping = asyncio.create_task(stop.wait())
        while not app.leadership.leading and not stopping.done():
            await asyncio.wait({stopping}, timeout=0.01)
        sys.stdout.write("leading\n")  # whoever started us waits for it
        sys.stdout.flush()
        await stopping


def main() -> None:
    """Serve, or soak and tell the account."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--servers", type=int, default=5)
    parser.add_argument("--kill-every", type=float, default=20)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve(options.serve))
        return
    kills = int(options.seconds / options.kill_every) - 1
    with tempfile.TemporaryDirectory() as home:
        account = asyncio.run(soak(Path(home), kills, options.servers, options.kill_every))
    sys.stdout.write(f"{account}\n")
    sys.exit(bool(account.lost or account.doubled))


if __name__ == "__main__":
    main()
