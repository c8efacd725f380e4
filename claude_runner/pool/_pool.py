"""Keeps the processes of tool servers: started on first use, shared, closed when idle, replaced when they change."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from claude_runner.config import Clock, Settings
from claude_runner.credentials import Credentials
from claude_runner.errors import ServerFailedError
from claude_runner.hub import Hub, Topic
from claude_runner.pool._child import start_child
from claude_runner.pool._environments import Environments
from claude_runner.pool._launching import launch_of
from claude_runner.pool._session import Json
from claude_runner.pool._stderr import StderrLog, tail
from claude_runner.redaction import Redactor
from claude_runner.servers import Server, Servers, ToolInfo

IDLE_CHECK_SECONDS: Final = 15.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long servers may take, in seconds.

    Attributes:
        start: From its start until it has listed its tools.
        call: For one call of a tool, where the caller does not say.
        idle: Unused, after which a server is closed.
    """

    start: float = 20.0
    call: float = 240.0
    idle: float = 600.0


class Connection(Protocol):
    """A server that can be asked."""

    tools: tuple[Json, ...]

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked."""
        ...

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came."""
        ...

    async def close(self) -> None:
        """End it, gently first."""
        ...

    async def kill(self) -> None:
        """End it at once."""
        ...


class _Slot:
    """A server that was started, and the calls that are going on."""

    def __init__(self, connection: Connection, fingerprint: str, used_at: float) -> None:
        self.connection = connection
        self.fingerprint = fingerprint
        self.used_at = used_at
        self.calls = 0
        self.retired = False


class Pool:
    """The servers that are up.

    A server that was changed, disabled or removed, or whose credentials were, answers the calls that are going on and
    takes no new ones: the next call starts it anew.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Servers,
        credentials: Credentials,
        environments: Environments,
        redactor: Redactor,
        hub: Hub,
        clock: Clock,
        keep_secret: Callable[[], Awaitable[None]],
        patience: Patience | None = None,
    ) -> None:
        """Make a pool; it starts servers while `open` is entered.

        Args:
            settings: Ours.
            servers: Where it is kept what a server listed.
            credentials: What servers get of their own.
            environments: What they are started with.
            redactor: Takes what nobody may read out of what they say.
            hub: Tells of changes.
            clock: The time.
            keep_secret: Tells the redactor of all credentials there are.
            patience: How long servers may take.
        """
        self._settings = settings
        self._servers = servers
        self._credentials = credentials
        self._environments = environments
        self._redactor = redactor
        self._hub = hub
        self._clock = clock
        self._keep_secret = keep_secret
        self.patience = patience or Patience()
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._starting: dict[tuple[str, str], asyncio.Lock] = {}
        self._start_gate = asyncio.Semaphore(max(2, os.cpu_count() or 1))
        self._endings: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start servers when they are asked; on leaving, every one is ended."""
        with self._hub.subscribe(Topic.SERVERS, Topic.CREDENTIALS) as changes:
            watching = asyncio.create_task(
                self._watch(changes.changed, lambda: {it.key for it in changes.take()})
            )
            try:
                yield
            finally:
                watching.cancel()
                for key in list(self._slots):
                    self._retire(key, at_once=True)
                while self._endings:
                    await asyncio.wait(self._endings)

    async def tools(self, server: Server, run_id: str = "") -> tuple[Json, ...]:
        """Return what a server lists, starting it where it is not up.

        Args:
            server: Which.
            run_id: The run that it is for, where the server keeps a process for each.

        Raises:
            ServerFailedError: It does not start.
        """
        return (await self._up(server, run_id)).connection.tools

    async def call(
        self, server: Server, tool: str, arguments: Json, *, run_id: str = "", seconds: float | None = None
    ) -> Json:
        """Call a tool and return its result as it came, without the values of credentials (MCP, CallToolResult).

        A server that does not answer in time is ended with all that it started. So is one whose call was cancelled,
        as soon as its other calls are done: what it does may not go on unwatched.

        Args:
            server: Which.
            tool: The name that the server lists.
            arguments: By name.
            run_id: The run that it is for, where the server keeps a process for each.
            seconds: How long it may take.

        Raises:
            ServerFailedError: It does not start, has no such tool, died, refused, or did not answer in time.
        """
        slot = await self._up(server, run_id)
        key = _key(server, run_id)
        if all(known["name"] != tool for known in slot.connection.tools):
            names = ", ".join(str(known["name"]) for known in slot.connection.tools) or "none"
            raise ServerFailedError(f"{server.name} has no tool {tool[:100]!r}; it has {names}")
        limit = seconds or self.patience.call
        with self._in_use(slot):
            try:
                async with asyncio.timeout(limit):
                    return self._clean(await slot.connection.call(tool, arguments))
            except TimeoutError as error:
                self._retire(key, slot, at_once=True)
                raise ServerFailedError(
                    f"{server.name} did not answer {tool} within {limit:g} seconds and was ended; "
                    "the next call starts it anew"
                ) from error
            except asyncio.CancelledError:
                self._retire(key, slot)
                raise
            except ServerFailedError as error:
                raise self._named(server, error) from error

    async def end_of_run(self, run_id: str) -> None:
        """End the servers that were kept for a run."""
        for key in [key for key in self._slots if key[1] == run_id != ""]:
            self._retire(key, at_once=True)
        await asyncio.sleep(0)

    async def try_out(self, server: Server) -> tuple[tuple[Json, ...], float]:
        """Start a server beside the others, end it, and return the tools it lists and the seconds its start took.

        Raises:
            ServerFailedError: It does not start.
        """
        begun = self._clock.elapsed()
        connection = await self._start(server)
        seconds = self._clock.elapsed() - begun
        await asyncio.shield(asyncio.create_task(connection.kill()))
        return connection.tools, seconds

    async def is_up(self, server: Server) -> bool:
        """Tell whether a call would find it started."""
        slot = self._slots.get(_key(server, ""))
        return slot is not None and slot.connection.alive

    async def said(self, name: str, lines: int) -> list[str]:
        """Return the last lines that a server wrote to standard error, whichever process it ran in."""
        return await asyncio.to_thread(tail, self._log_path(name), lines)

    async def _up(self, server: Server, run_id: str) -> _Slot:
        """Return a server that is up, starting it where it is not."""
        key = _key(server, run_id)
        async with self._starting.setdefault(key, asyncio.Lock()):
            slot = self._slots.get(key)
            if slot is None or not slot.connection.alive or slot.fingerprint != server.fingerprint:
                self._retire(key)
                connection = await self._start(server)
                slot = self._slots[key] = _Slot(connection, server.fingerprint, self._clock.elapsed())
                await self._servers.remember_tools(server, infos(connection.tools), self._clock.now())
            slot.used_at = self._clock.elapsed()
            return slot

    async def _start(self, server: Server) -> Connection:
        if server.problem is not None:
            raise ServerFailedError(f"{server.name} can't be started: {server.problem}")
        values = await self._credentials.of(server.name)
        if values:  # before anybody is given one
            await self._keep_secret()
        async with self._start_gate:
            try:
                if server.url is not None:
                    from claude_runner.pool._remote import connect  # noqa: PLC0415 - it imports much

                    return await connect(server, values, self.patience.start)
                python = await self._environments.python_for(server)
                launch = await asyncio.to_thread(launch_of, server, values, self._settings, python)
                stderr = StderrLog(self._log_path(server.name), self._redactor)
                mark = f"{server.name}-{secrets.token_hex(8)}"
                return await start_child(launch, mark, stderr, self.patience.start)
            except ServerFailedError as error:
                raise self._named(server, error) from error

    def _named(self, server: Server, error: ServerFailedError) -> ServerFailedError:
        return ServerFailedError(self._redactor.text(f"{server.name}: {error}"))

    def _clean(self, result: Json) -> Json:
        clean: Json = self._redactor.value(result)
        return clean

    def _log_path(self, name: str) -> Path:
        return self._settings.state / "servers" / f"{name}.log"

    @contextmanager
    def _in_use(self, slot: _Slot) -> Iterator[None]:
        slot.calls += 1
        try:
            yield
        finally:
            slot.calls -= 1
            slot.used_at = self._clock.elapsed()
            if slot.retired and not slot.calls:
                self._end(slot.connection.close())

    def _retire(self, key: tuple[str, str], slot: _Slot | None = None, *, at_once: bool = False) -> None:
        """Give a server no more calls, and end it at once or after those that are going on."""
        current = self._slots.get(key)
        slot = slot or current
        if slot is None:
            return
        if slot is current:
            del self._slots[key]
        if at_once:
            self._end(slot.connection.kill())
        elif not slot.calls and not slot.retired:
            self._end(slot.connection.close())
        slot.retired = True

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        """Let a server's end happen in the background; `open` waits for it."""
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._endings.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a tool server could not be ended", exc_info=error)

    async def _watch(self, changed: asyncio.Event, names: Any) -> None:
        """Retire servers that were changed, and those that nobody has used for long."""
        while True:
            await self._clock.pause(changed, IDLE_CHECK_SECONDS)
            affected: Collection[str] = names()
            unused_since = self._clock.elapsed() - self.patience.idle
            for key, slot in list(self._slots.items()):
                if key[0] in affected or "" in affected or (not slot.calls and slot.used_at <= unused_since):
                    self._retire(key)


def _key(server: Server, run_id: str) -> tuple[str, str]:
    return server.name, run_id if server.per_run else ""


def infos(tools: tuple[Json, ...]) -> tuple[ToolInfo, ...]:
    """Return what is kept of tools as a server lists them."""
    return tuple(
        ToolInfo(str(tool["name"]), str(tool.get("description") or ""), tool["inputSchema"]) for tool in tools
    )
