"""Parts of the application that stand still until a test moves them, and a database that refuses for a while."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from claude_runner.config import Settings
from claude_runner.credentials import Credentials
from claude_runner.db import Database, open_database
from claude_runner.hub import Hub
from claude_runner.inside import Inside
from claude_runner.jobs import Job, JobDraft, Jobs
from claude_runner.pool import Door, Environments, Pool
from claude_runner.reach import Reach
from claude_runner.redaction import Redactor
from claude_runner.runs import Event, EventKind, NewRun, Run, Runs, StoredEvent, Trigger
from claude_runner.secrecy import Secrecy
from claude_runner.servers import Servers
from claude_runner.settings import StoredSettings
from tests.support import MORNING, PATIENCE, FakeClock

DRAFT = JobDraft("Morning", "0 9 * * *", "say good morning", "UTC")


@dataclass(frozen=True)
class Parts:
    """What keeps jobs and runs; nothing fires them and nothing executes them."""

    path: Path
    database: Database
    hub: Hub
    clock: FakeClock
    jobs: Jobs
    runs: Runs
    opened: AsyncExitStack  # what a test opens, and what is closed with these parts

    async def job(self, **changes: Any) -> Job:
        return await self.jobs.add(drafted(**changes), self.clock.now())

    async def pending(self, prompt: str = "go", **changes: Any) -> str:
        return await self.runs.add(NewRun(prompt, Trigger.MANUAL, **changes), self.clock.now())

    async def claimed(self, **changes: Any) -> Run:
        """A run that this process has claimed, where no other is pending."""
        await self.pending(**changes)
        run = await self.runs.claim("here:1", "session", self.clock.now())
        assert run is not None
        return run

    async def events(self, run_id: str) -> list[StoredEvent]:
        return (await self.runs.events(run_id, 0, 1000)).events

    async def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """What a person at the sqlite3 shell does."""

        def run(c: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in c.execute(statement, values)]

        return await self.database.write(run)


@asynccontextmanager
async def open_parts(path: Path, clock: FakeClock | None = None) -> AsyncIterator[Parts]:
    hub = Hub()
    async with open_database(path, lock_timeout=0.01) as database, AsyncExitStack() as opened:
        jobs, runs = Jobs(database, hub), Runs(database, hub)
        yield Parts(path, database, hub, clock or FakeClock(), jobs, runs, opened)


async def patient(*several: Parts) -> None:
    """Let each wait for the others' locks as a server does: elsewhere a database that refuses is to be seen at once."""

    def wait_long(c: sqlite3.Connection) -> None:
        c.execute("PRAGMA busy_timeout = 10000").fetchall()

    for each in several:
        await each.database.write(wait_long)


async def hands_of(parts: Parts, settings: Settings, problem: str | None) -> tuple[Reach, Door]:
    """What a run has tools by, where no server is shipped."""
    servers = Servers(parts.database, parts.hub, settings, checkout=settings.home / "nothing is shipped")
    credentials = Credentials(parts.database, parts.hub, settings)
    redactor = Redactor()
    secrecy = Secrecy(servers, credentials, redactor, parts.hub, parts.clock)
    environments = Environments(settings, StoredSettings(parts.database).install_dependencies)
    pool = Pool(
        settings, servers, credentials, environments, redactor, parts.hub, parts.clock, secrecy.refresh
    )
    inside = Inside(parts.database, parts.hub, parts.clock)
    reach = Reach(parts.database, settings, servers, credentials, pool, inside, lambda: problem)
    door = Door(pool, inside, settings)
    await parts.opened.enter_async_context(pool.open())
    await parts.opened.enter_async_context(door.open())
    return reach, door


def drafted(**changes: Any) -> JobDraft:
    values = {"name": DRAFT.name, "cron": DRAFT.cron, "prompt": DRAFT.prompt, "timezone": DRAFT.timezone}
    return JobDraft(**(values | changes))


def said(text: str, block: int = 1, at: datetime = MORNING) -> Event:
    return Event(EventKind.TEXT, {"block": block, "text": text}, at)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep everybody else from writing to the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


class Log(logging.Handler):
    """The lines that are logged on the event loop's thread."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._lines.append(self.format(record))
        self._more.set()

    def having(self, text: str) -> list[str]:
        return [line for line in self._lines if text in line]

    async def line(self, text: str, count: int = 1) -> str:
        """Wait until so many lines have the text and return the last of them."""
        async with asyncio.timeout(PATIENCE):
            while len(self.having(text)) < count:
                self._more.clear()
                await self._more.wait()
        return self.having(text)[count - 1]


@contextmanager
def logged(name: str = "claude_runner") -> Iterator[Log]:
    log = Log()
    logger = logging.getLogger(name)
    logger.addHandler(log)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        logger.setLevel(before)
        logger.removeHandler(log)
