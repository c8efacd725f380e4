"""The real server as processes that are killed, and what they leave behind."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.served import SERVER

PATIENCE: Final = 30.0  # seconds
LEFT_SECONDS: Final = 3.0  # after which nothing is left of the runs of a server that died
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Server:
    """One process of `server.py`.

    Attributes:
        listens: Set once its site is up.
        leads: Set once it leads the home.
        said: What it has logged.
    """

    def __init__(self, home: Path, port: int, environment: dict[str, str]) -> None:
        self.home, self.port = home, port
        self.listens, self.leads = asyncio.Event(), asyncio.Event()
        self.said: list[str] = []
        self._environment = environment | {
            "RUNNER_HOME": str(home),
            "MCP_TRANSPORT": "sse",
            "PORT": str(port),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; `None` while it has not."""
        assert self._process is not None
        return self._process.returncode

    async def start(self) -> None:
        """Start it; it is nowhere near serving then."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SERVER),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )
        self._reading = asyncio.create_task(self._read())

    async def until(self, event: asyncio.Event) -> None:
        """Wait for `listens` or `leads`."""
        assert self._reading is not None
        waiting = asyncio.create_task(event.wait())
        done, _ = await asyncio.wait(
            {waiting, self._reading}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting not in done:
            waiting.cancel()
            raise RuntimeError(f"the server neither leads nor serves:\n{''.join(self.said[-30:])}")

    async def end(self, number: signal.Signals) -> float:
        """Send it a signal, see it end, and return when the signal was sent, on the clock of processes' starts."""
        assert self._process is not None
        assert self._reading is not None
        sent = now()
        with suppress(ProcessLookupError):  # it has ended by itself, which its exit code tells
            self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()
            await self._reading
        return sent

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode())
            if "the site is at" in self.said[-1]:
                self.listens.set()
            if "this process leads" in self.said[-1]:
                self.leads.set()


def now() -> float:
    """Return the seconds since the machine started: the clock that the kernel keeps the starts of processes by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Left:
    """A process that a server has started."""

    pid: int
    command: str

    @property
    def told(self) -> str:
        return f"process {self.pid}: {self.command[:200]}"


def left_of(home: Path, before: float, servers: set[int]) -> list[Left]:
    """Find what servers of a home have started, by themselves or by a run, before an instant.

    Everything that they start has the home's path in its environment or its command; what cleans its environment is
    found by the latter.

    Args:
        home: The servers'.
        before: On the clock of `now`.
        servers: The servers that live, and whoever else counts for nothing.
    """
    mark = os.fsencode(home)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        with suppress(OSError):  # it has ended, or is somebody else's
            command = (folder / "cmdline").read_bytes()
            if pid in servers or mark not in (folder / "environ").read_bytes() + command:
                continue
            state, *rest = (folder / "stat").read_text(encoding="latin-1").rpartition(")")[2].split()
            if state != "Z" and int(rest[18]) / TICKS < before:
                found.append(Left(pid, command.replace(b"\0", b" ").decode(errors="replace").strip()))
    return found


async def nothing_left(look: Callable[[], list[Left]], since: float) -> tuple[float, list[Left]]:
    """Wait until nothing is left, 3 s at most; returns how long that took, and what is left all the same."""
    while (left := look()) and now() - since < LEFT_SECONDS:  # noqa: ASYNC110 - their ends are told to nobody
        await asyncio.sleep(0.02)
    return now() - since, left


async def within(seconds: float, what: str, work: Awaitable[Any]) -> None:
    """Await what must not take longer than that."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        raise AssertionError(f"{what} took more than {seconds:g} s") from None
