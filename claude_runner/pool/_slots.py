"""The servers that are up: which take calls, which only end those that are going on, and which are being ended."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from claude_runner.config import Clock
from claude_runner.pool._session import Json

Key = tuple[str, str]  # a server's name, and the run whose own process it is; "" for the one that is shared

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A server that can be asked."""

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked."""
        ...

    async def tools(self) -> tuple[Json, ...]:
        """Return what it lists: the very same tuple for as long as that does not change."""
        ...

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came."""
        ...

    async def close(self) -> None:
        """End it, gently first."""
        ...

    async def kill(self, why: str) -> None:
        """End it at once, and tell whoever waits for it why."""
        ...


class Slot:
    """A server that was started.

    Attributes:
        key: Whose it is.
        connection: How it is asked.
        fingerprint: What was started.
        retired: Whether it gets no more calls.
        listed: Its tools as they came, `None` before they were asked for.
        tools: The same as they may be passed on.
        calls: How many are going on.
        used_at: When it was last used, on the clock's `elapsed`.
        endings: What is ending it.
    """

    def __init__(self, key: Key, connection: Connection, fingerprint: str, used_at: float) -> None:
        self.key = key
        self.connection = connection
        self.fingerprint = fingerprint
        self.retired = False
        self.listed: tuple[Json, ...] | None = None
        self.tools: tuple[Json, ...] = ()
        self.calls = 0
        self.used_at = used_at
        self.endings: set[asyncio.Task[None]] = set()


class Slots:
    """The servers that are up; each is ended once it is retired and has no calls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: dict[Key, Slot] = {}
        self._up: set[Slot] = set()  # those that are ready and the retired ones that have not ended

    def new(self, key: Key, connection: Connection, fingerprint: str) -> Slot:
        """Return a place for a server that was started; it takes no calls yet."""
        slot = Slot(key, connection, fingerprint, self._clock.elapsed())
        self._up.add(slot)
        return slot

    def take_calls(self, slot: Slot) -> None:
        """Let a server be found."""
        self._ready[slot.key] = slot

    def find(self, key: Key) -> Slot | None:
        """Return the server that takes calls; one that has died takes none."""
        slot = self._ready.get(key)
        if slot is not None and not slot.connection.alive:
            self.retire(slot)
            return None
        return slot

    @contextmanager
    def in_use(self, slot: Slot) -> Iterator[None]:
        """Keep a server from being ended, other than at once, while the context is open."""
        slot.calls += 1
        try:
            yield
        finally:
            slot.calls -= 1
            slot.used_at = self._clock.elapsed()
            if slot.retired:
                self.retire(slot)

    def retire(self, slot: Slot, why: str | None = None) -> None:
        """Give a server no more calls.

        Args:
            slot: Which.
            why: It is ended at once, and whoever waits for it is told this; without, once it has no calls.
        """
        slot.retired = True
        if self._ready.get(slot.key) is slot:
            del self._ready[slot.key]
        if why is not None:
            self._end(slot, slot.connection.kill(why))
        elif not slot.calls and not slot.endings:
            self._end(slot, slot.connection.close())

    def retire_named(self, name: str) -> None:
        """Give the servers of a name no more calls, and none at all where it is empty."""
        for slot in list(self._ready.values()):
            if name in {slot.key[0], ""}:
                self.retire(slot)

    def retire_unused(self, seconds: float) -> None:
        """Close the servers that nobody has used for so long."""
        since = self._clock.elapsed() - seconds
        for slot in list(self._ready.values()):
            if not slot.calls and slot.used_at <= since:
                self.retire(slot)

    async def end_all(self, which: Callable[[Slot], bool], why: str) -> None:
        """End servers at once, also retired ones, and return when they have ended."""
        ending = [slot for slot in self._up if which(slot)]
        for slot in ending:
            self.retire(slot, why)
        if tasks := [task for slot in ending for task in slot.endings]:
            await asyncio.wait(tasks)

    def _end(self, slot: Slot, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        slot.endings.add(task)

        def note(task: asyncio.Task[None]) -> None:
            slot.endings.discard(task)
            self._up.discard(slot)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a tool server could not be ended", exc_info=error)

        task.add_done_callback(note)
