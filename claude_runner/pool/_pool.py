"""Keeps the processes of tool servers: started on first use, shared, closed when idle, replaced when they change."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from claude_runner.config import Clock, Settings
from claude_runner.credentials import Credentials
from claude_runner.errors import ServerFailedError, UnavailableError, unusable
from claude_runner.hub import Hub, Subscription, Topic
from claude_runner.pool._environments import Environments
from claude_runner.pool._session import Json
from claude_runner.pool._slots import Key, Slot, Slots
from claude_runner.pool._starting import ENDING, MAX_SENTENCE, Starter
from claude_runner.pool._stderr import remove, tail
from claude_runner.pool._tools import answered, infos
from claude_runner.redaction import Redactor
from claude_runner.servers import Server, Servers

IDLE_CHECK_SECONDS: Final = 15.0

T = TypeVar("T")

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


class _Trouble(NamedTuple):
    """Why a server did not start, as it was then."""

    fingerprint: str
    words: str


class Pool:
    """The servers that are up.

    A server that was changed or disabled, or whose credentials were, answers the calls that are going on and takes no
    new ones: the next call starts it anew, as it is then.
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
            servers: What there is to start, and where it is kept what a server listed.
            credentials: What servers get of their own.
            environments: What they are started with.
            redactor: Takes what nobody may read out of what they say.
            hub: Tells of changes.
            clock: The time.
            keep_secret: Tells the redactor of all credentials there are.
            patience: How long servers may take.
        """
        self.patience = patience or Patience()
        self._servers = servers
        self._redactor = redactor
        self._hub = hub
        self._clock = clock
        self._starter = Starter(
            settings, credentials, environments, redactor, keep_secret, self.patience.start
        )
        self._slots = Slots(clock)
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._changes: Subscription | None = None  # while it is open
        self._turns: Counter[str] = Counter()  # how often a server was changed
        self._troubles: dict[str, _Trouble] = {}  # of servers whose last start failed

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Start servers when they are asked; on leaving, every one is ended."""
        with self._hub.subscribe(Topic.SERVERS, Topic.CREDENTIALS) as changes:
            self._changes = changes
            watching = asyncio.create_task(self._watch(changes.changed))
            try:
                yield
            finally:
                self._changes = None
                watching.cancel()
                await self._starter.close()
                await self._slots.end_all(lambda _: True, ENDING)
                await asyncio.wait({watching})

    async def tools(self, server: Server, run_id: str = "") -> tuple[Json, ...]:
        """Return what a server lists, without the values of credentials, starting it where it is not up.

        Args:
            server: Which.
            run_id: The run that it is for, where the server keeps a process for each.

        Raises:
            ServerFailedError: It does not start.
            UnavailableError: Its credentials or its folder can't be used.
        """
        slot = await self._up(server, run_id)
        return await self._asked(slot, "what it offers", self.patience.start, self._listed(slot))

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
            UnavailableError: Its credentials or its folder can't be used.
        """
        slot = await self._up(server, run_id)
        calling = self._called(slot, tool, arguments)
        return await self._asked(slot, tool, seconds or self.patience.call, calling)

    async def end_of_run(self, run_id: str) -> None:
        """End the servers that were kept for a run, and return when they have ended."""
        await self._slots.end_all(lambda slot: slot.key[1] == run_id != "", "its run has ended")

    async def forget(self, name: str) -> None:
        """End a server that was removed, with the calls that are going on, and delete its log.

        Raises:
            UnavailableError: The log can't be deleted.
        """
        await self._slots.end_all(lambda slot: slot.key[0] == name, "it was removed")
        path = self._starter.log_path(name)
        try:
            await asyncio.to_thread(remove, path)
        except OSError as error:
            raise unusable(error, path) from error

    async def try_out(self, server: Server) -> tuple[tuple[Json, ...], float]:
        """Start a server beside the others, end it, and return the tools it lists and the seconds its start took.

        Args:
            server: Which; it is started as it is given.

        Raises:
            ServerFailedError: It does not start.
            UnavailableError: Its credentials or its folder can't be used.
        """
        begun = self._clock.elapsed()
        slot = await self._started(("", ""), server)
        try:
            return await self._listed(slot), self._clock.elapsed() - begun
        finally:
            await self._slots.end_all(lambda it: it is slot, "it was tried out")

    def is_up(self, server: Server) -> bool:
        """Tell whether a call would find it started."""
        slot = self._slots.find(_key(server, ""))
        return slot is not None and slot.fingerprint == server.fingerprint

    def trouble(self, server: Server) -> str | None:
        """Return why a server's last start failed, `None` where it did not or the server was changed since."""
        self._heed_changes()
        trouble = self._troubles.get(server.name)
        return trouble.words if trouble is not None and trouble.fingerprint == server.fingerprint else None

    async def said(self, name: str, lines: int) -> list[str]:
        """Return the last lines that a server wrote to standard error, whichever process it ran in.

        Raises:
            UnavailableError: They can't be read.
        """
        path = self._starter.log_path(name)
        try:
            return await asyncio.to_thread(tail, path, lines)
        except OSError as error:
            raise unusable(error, path) from error

    async def _up(self, server: Server, run_id: str) -> Slot:
        """Return a server that takes calls, started as it is now where there is none.

        It may be retired in the very next turn of the loop: nothing is to be awaited before it is in use.
        """
        key = _key(server, run_id)
        async with self._locks.setdefault(key, asyncio.Lock()):
            while True:
                self._heed_changes()
                slot = self._slots.find(key)
                if slot is not None and slot.fingerprint == server.fingerprint:
                    return slot
                server = await self._as_it_is(server)  # who asks may have known it for hours
                slot = self._slots.find(key)
                if slot is None:
                    await self._fill(key, server)
                elif slot.fingerprint != server.fingerprint:  # its files were changed by hand
                    self._slots.retire(slot)

    async def _fill(self, key: Key, server: Server) -> None:
        """Start a server to take calls; whether it still may is looked at next."""
        turn = self._turn(server.name)
        try:
            slot = await self._started(key, server)
        except ServerFailedError as error:
            self._troubles[server.name] = _Trouble(server.fingerprint, str(error))
            raise
        self._troubles.pop(server.name, None)
        if turn != self._turn(server.name):  # it was changed while it was started
            self._slots.retire(slot)
            return
        self._slots.take_calls(slot)
        with self._slots.in_use(slot):
            try:
                tools = infos(await self._listed(slot))
                await self._servers.remember_tools(server, tools, self._clock.now())
            except UnavailableError as error:
                log.warning("what %s lists can't be kept: %s", server.name, error)

    async def _started(self, key: Key, server: Server) -> Slot:
        slot = self._slots.new(key, await self._starter.start(server), server.fingerprint)
        if self._changes is None:
            await self._slots.end_all(lambda it: it is slot, ENDING)
            raise ServerFailedError(f"{server.name}: {ENDING}")
        return slot

    async def _as_it_is(self, server: Server) -> Server:
        """Return a server as it is now; raises `ServerFailedError` where it may not be started."""
        current = await self._servers.find(server.name)
        if current is None:
            raise ServerFailedError(f"{server.name} is no more: it was removed")
        if not current.enabled:
            raise ServerFailedError(f"{server.name} is disabled")
        return current

    async def _asked(self, slot: Slot, what: str, seconds: float, asking: Coroutine[Any, Any, T]) -> T:
        """Return what a server answers; one that does not in time is ended."""
        name = slot.key[0]
        with self._slots.in_use(slot):
            try:
                async with asyncio.timeout(seconds):
                    return await asking
            except TimeoutError as error:
                self._slots.retire(slot, "it was ended, since another call of it took too long")
                raise ServerFailedError(
                    f"{name} did not answer {what} within {seconds:g} seconds and was ended; "
                    "the next call starts it anew"
                ) from error
            except asyncio.CancelledError:
                self._slots.retire(slot)
                raise
            except ServerFailedError as error:
                raise ServerFailedError(self._redactor.text(f"{name}: {error}")[:MAX_SENTENCE]) from error

    async def _called(self, slot: Slot, tool: str, arguments: Json) -> Json:
        tools = await self._listed(slot)
        if all(known["name"] != tool for known in tools):
            names = ", ".join(str(known["name"]) for known in tools) or "none"
            raise ServerFailedError(f"it has no tool {tool[:100]!r}; it has {names}")
        return self._clean(answered(await slot.connection.call(tool, arguments)))

    async def _listed(self, slot: Slot) -> tuple[Json, ...]:
        listed = await slot.connection.tools()
        if listed is not slot.listed:
            slot.listed, slot.tools = listed, tuple(self._clean(tool) for tool in listed)
        return slot.tools

    def _clean(self, said: Json) -> Json:
        try:
            clean: Json = self._redactor.value(said)
        except RecursionError as error:
            raise ServerFailedError("its answer can't be read: it is nested too deeply") from error
        return clean

    def _heed_changes(self) -> None:
        """Retire what was changed: here too, since a call may come before the watcher's turn."""
        for change in self._changes.take() if self._changes is not None else ():
            self._turns[change.key] += 1
            self._forget_trouble(change.key)
            self._slots.retire_named(change.key)

    def _forget_trouble(self, name: str) -> None:
        """Forget why a server did not start; of every server where the name is empty."""
        for known in [name] if name else list(self._troubles):
            self._troubles.pop(known, None)

    def _turn(self, name: str) -> int:
        self._heed_changes()
        return self._turns[name] + self._turns[""]

    async def _watch(self, changed: asyncio.Event) -> None:
        """Retire servers that were changed, and those that nobody has used for long."""
        while True:
            await self._clock.pause(changed, IDLE_CHECK_SECONDS)
            self._heed_changes()
            self._slots.retire_unused(self.patience.idle)


def _key(server: Server, run_id: str) -> Key:
    return server.name, run_id if server.per_run else ""
