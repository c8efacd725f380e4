"""Starts tool servers: with what they need of their own, a few at a time, and leaving nothing of those that fail."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from claude_runner.config import Settings
from claude_runner.credentials import Credentials
from claude_runner.errors import ServerFailedError, unusable
from claude_runner.pool._child import start_child
from claude_runner.pool._environments import Environments
from claude_runner.pool._launching import launch_of
from claude_runner.pool._slots import Connection
from claude_runner.pool._stderr import StderrLog
from claude_runner.redaction import Redactor
from claude_runner.servers import Server

MAX_SENTENCE: Final = 1500  # characters of what went wrong with a server
ENDING: Final = "the program that keeps it is about to end"


class Starter:
    """Starts servers, each in a task of its own: who is cancelled meanwhile need not wait until nothing is left."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        environments: Environments,
        redactor: Redactor,
        keep_secret: Callable[[], Awaitable[None]],
        seconds: float,
    ) -> None:
        """Make a starter; see `Pool`.

        Args:
            settings: Ours.
            credentials: What servers get of their own.
            environments: What they are started with.
            redactor: Takes what nobody may read out of what they say.
            keep_secret: Tells the redactor of all credentials there are.
            seconds: How long a server may take until it has listed its tools.
        """
        self._settings = settings
        self._credentials = credentials
        self._environments = environments
        self._redactor = redactor
        self._keep_secret = keep_secret
        self._seconds = seconds
        self._gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._starts: set[asyncio.Task[Connection]] = set()
        self._unwanted: set[asyncio.Task[None]] = set()

    async def start(self, server: Server) -> Connection:
        """Start a server and return it once it has listed its tools.

        Raises:
            ServerFailedError: It does not start; nothing of it is left.
            UnavailableError: Its credentials or a folder can't be used.
        """
        starting = asyncio.create_task(self._start(server))
        self._starts.add(starting)
        starting.add_done_callback(self._starts.discard)
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError:
            starting.cancel()
            starting.add_done_callback(self._end_unwanted)
            raise
        if starting.cancelled():
            raise ServerFailedError(f"{server.name}: {ENDING}")
        return starting.result()

    async def close(self) -> None:
        """Give up what is being started, and return when nothing of it is left."""
        for start in self._starts:
            if not start.cancelling():
                start.cancel()
        while left := self._starts | self._unwanted:
            await asyncio.wait(left)

    def log_path(self, name: str) -> Path:
        """Return where it is kept what a server says on standard error."""
        return self._settings.state / "servers" / f"{name}.log"

    def _end_unwanted(self, starting: asyncio.Task[Connection]) -> None:
        """End a server that came up although nobody waits for it any more."""
        if starting.cancelled() or starting.exception() is not None:
            return
        ending = asyncio.create_task(starting.result().kill("nobody waits for it any more"))
        self._unwanted.add(ending)
        ending.add_done_callback(self._unwanted.discard)

    async def _start(self, server: Server) -> Connection:
        if server.problem is not None:
            raise ServerFailedError(f"{server.name} can't be started: {server.problem}")
        values = await self._credentials.of(server.name)
        if values:  # before anybody is given one
            await self._keep_secret()
        try:
            if server.url is not None:
                from claude_runner.pool._remote import connect  # noqa: PLC0415 - it imports much

                return await connect(server, values, self._seconds)
            python = await self._environments.python_for(server)
            async with self._gate:
                return await self._start_process(server, values, python)
        except ServerFailedError as error:
            sentence = self._redactor.text(f"{server.name}: {error}")
            raise ServerFailedError(sentence[:MAX_SENTENCE]) from error

    async def _start_process(
        self, server: Server, values: Mapping[str, str], python: Path | None
    ) -> Connection:
        try:
            # Here, not in a thread: who is cancelled must know what there is to remove.
            workspace = Path(tempfile.mkdtemp(prefix=f"claude-runner-server-{server.name}-"))
        except OSError as error:
            raise unusable(error, tempfile.gettempdir()) from error
        try:
            launch = await asyncio.to_thread(launch_of, server, values, self._settings, workspace, python)
            log = StderrLog(self.log_path(server.name), self._redactor)
            mark = f"{server.name}-{secrets.token_hex(8)}"
            return await start_child(launch, mark, log, self._seconds)
        except BaseException as error:
            await asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True)
            if isinstance(error, OSError):
                raise unusable(error, server.data_dir) from error
            raise
