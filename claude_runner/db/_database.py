"""The door: a database that coroutines read and write."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final, TypeVar

from claude_runner.db._connections import (
    Connection,
    Session,
    connect,
    keep_scratch_in_memory,
    limit_write_ahead_log,
)
from claude_runner.db._failures import explained
from claude_runner.db._files import copy
from claude_runner.db._migrations import SCHEMA, migrate
from claude_runner.db._threads import Workers
from claude_runner.db._transactions import commit_together, snapshot

T = TypeVar("T")

READERS: Final = 4
GROUP: Final = 512  # writes that share a transaction at most, so that none waits long for the others
LOCK_SECONDS: Final = 10.0


class Database:
    """A database file: SQL is written as functions of a connection, which run on threads of their own.

    The functions return plain values; a cursor is closed when its function returns. They neither begin nor end a
    transaction, and they do not wait for the event loop.
    """

    def __init__(self, readers: Workers, writer: Workers, path: Path, lock_timeout: float) -> None:
        self._readers = readers
        self._writer = writer
        self._path = path
        self._lock_timeout = lock_timeout

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Return what the query returns; all of it sees one instant, and every write that was awaited before.

        Raises:
            UnavailableError: The outside is in the way, or the database is closed.
            Exception: What the query raises.
        """
        return await self._readers.ask(query)

    async def write(self, change: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Return what the change returns, once all that it did is on the disk.

        Where it raises, nothing of it is kept. It happens even if the caller is cancelled meanwhile.

        Args:
            change: What is done.
            durable: Whether a power cut must not undo it. Where it need not be, the change survives the death of
                this process all the same, but the disk is not flushed for it alone.

        Raises:
            UnavailableError: The outside is in the way, or the database is closed; nothing is kept.
            Exception: What the change raises.
        """
        return await self._writer.ask(change, durable=durable)

    async def copy(self, target: Path) -> None:
        """Copy what is committed now into a file that its owner alone may read, whole or not at all.

        Reads and writes go on meanwhile.

        Raises:
            UnavailableError: The outside is in the way.
        """

        def make() -> None:
            with explained(str(target)):
                copy(self._path.resolve(), target, self._lock_timeout)

        await asyncio.to_thread(make)

    def begin_write(self, change: Callable[[Connection], T]) -> "asyncio.Future[T]":
        """Ask for a write as `write` does, and return a future of what comes of it; for who has no task to wait in.

        Raises:
            UnavailableError: The database is closed.
        """
        return self._writer.ask(change)


@asynccontextmanager
async def open_database(
    path: Path, schema: Path = SCHEMA, *, lock_timeout: float = LOCK_SECONDS
) -> AsyncIterator[Database]:
    """Open the database at a path for the running event loop, its schema brought up to date.

    Leaving the context finishes the writes that were asked for.

    Args:
        path: The file; it is made, with its folder, where there is none.
        schema: The folder of the numbered migration steps.
        lock_timeout: Seconds a write waits for another program's lock.

    Raises:
        UnavailableError: The file can't be used; it is left as it is.
    """
    writing, *reading = await asyncio.to_thread(_open, path, schema, lock_timeout)
    readers = Workers("db-read", reading, snapshot, most=1)
    writer = Workers("db-write", [writing], commit_together, most=GROUP)
    try:
        readers.start()
        writer.start()
        yield Database(readers, writer, path, lock_timeout)
    finally:
        try:
            await readers.close()
        finally:
            await writer.close()  # the last connection to close empties the log


def _open(path: Path, schema: Path, lock_timeout: float) -> list[Session]:
    path = path.resolve()
    migrate(path, schema)
    with ExitStack() as stack, explained(str(path)):
        sessions = [
            stack.enter_context(closing(connect(path, path.name, lock_timeout))) for _ in range(READERS + 1)
        ]
        writing, *reading = sessions
        limit_write_ahead_log(writing)
        keep_scratch_in_memory(writing)
        for session in reading:
            session.refuse_writes()
        stack.pop_all()
        return sessions
