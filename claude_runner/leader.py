"""Who leads a home: the one process that runs its scheduler and executes its runs.

A lock file held by the operating system decides, freed by the holder's death, however it dies. The others keep a
connection to the leader; when that breaks they try the lock, so that one of them takes over at once.
"""

import asyncio
import fcntl
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, join, listen

RETRY_SECONDS: Final = 0.1  # between a leader's lock and its socket lie milliseconds
PAUSE_AFTER_FAILURE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 5.0  # how long the leader's socket may be gone, taken by whatever cleans the folder up

log = logging.getLogger(__name__)


class Leadership:
    """Takes part in the leading of a home.

    Attributes:
        leading: Whether this process leads.
        following: Whether this process is connected to the one that leads.
        problem: What keeps it from leading and following, or `None`.
        settled: Set once it has led, followed, or met a problem.
    """

    def __init__(
        self, state: Path, hub: Hub, engine: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Make a part taker.

        Args:
            state: The home's private folder; it exists.
            hub: Whose changes are exchanged with the other processes.
            engine: What runs while this process leads.
        """
        self.leading = False
        self.following = False
        self.problem: str | None = None
        self.settled = asyncio.Event()
        self._state = state
        self._hub = hub
        self._engine = engine

    async def serve(self) -> None:
        """Lead or follow, for ever; when cancelled, leadership is handed over."""
        while True:
            pause = RETRY_SECONDS
            try:
                with _lock(self._state / "leader.lock") as mine:
                    if mine:
                        await self._lead()
                with suppress(ConnectionError, FileNotFoundError):  # soon there will be a leader that listens
                    await self._follow()
            except Exception as error:  # noqa: BLE001 - it is told
                self._tell(error)
                pause = PAUSE_AFTER_FAILURE_SECONDS
            await asyncio.sleep(pause)

    async def _lead(self) -> None:
        try:
            async with listen(self._hub, self._state) as path, self._engine():
                self.leading = True
                self._settle()
                log.info("this process leads %s", self._state.parent)
                while path.exists():  # noqa: ASYNC110 - nobody tells when it is deleted
                    await asyncio.sleep(LOOK_SECONDS)
                log.warning("%s has been deleted; it is made anew", path)
        finally:
            self.leading = False

    async def _follow(self) -> None:
        try:
            async with join(self._hub, self._state) as connection:
                self.following = True
                self._settle()
                await connection
        finally:
            self.following = False

    def _settle(self) -> None:
        self.problem = None
        self.settled.set()

    def _tell(self, error: Exception) -> None:
        """Log what is in the way, once for as long as it is the same."""
        problem = f"this process can neither lead {self._state.parent} nor follow, and tries again: {error}"
        if problem != self.problem:
            expected = isinstance(error, OSError | RunnerError)
            log.error(problem, exc_info=not expected)
        self.problem = problem
        self.settled.set()


class Workers:
    """The processes of a home that execute runs: each has a name and a lock that its death frees."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "workers"

    @asynccontextmanager
    async def enrolled(self) -> AsyncIterator[str]:
        """Take part under a new name while the context is open."""
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / name
        with _lock(path):
            try:
                yield name
            finally:
                path.unlink(missing_ok=True)

    def dead(self, names: Iterable[str]) -> list[str]:
        """Return those of the workers whose process is no more, and bury them."""
        found = []
        for name in names:
            path = self._folder / name
            if not path.exists():
                found.append(name)
                continue
            with _lock(path) as free:
                if free:
                    found.append(name)
                    path.unlink(missing_ok=True)
        return found


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock file, if no other process does; tells whether."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        held = False
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        yield held
    finally:
        os.close(descriptor)
