"""Writes down what a run's agent tells, in batches, without ever holding the agent up.

The stream must be drained at once (a reader that lags behind it loses its end), and a write costs whole pages of the
disk. So events wait in memory for up to `FLUSH_SECONDS`; the deltas of a block that wait together become one event.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from claude_runner.config import Clock
from claude_runner.errors import UnavailableError
from claude_runner.runs import Event, EventKind, Run, Runs, Tokens

FLUSH_SECONDS: Final = 0.1
PAUSE_AFTER_FAILURE_SECONDS: Final = 1.0
_STREAMED: Final = (EventKind.TEXT, EventKind.THINKING)

log = logging.getLogger(__name__)


class Waiting(Enum):
    """What a silent agent may be waiting for."""

    FOR_START = auto()
    FOR_MODEL = auto()
    FOR_TOOL = auto()


class Silence(NamedTuple):
    """Since when an agent is silent, on the clock's `elapsed`, and what it may be waiting for."""

    since: float
    waiting: Waiting


class Recorder:
    """The listener of one attempt at a run; see `Listener`."""

    def __init__(
        self,
        run: Run,
        runs: Runs,
        clock: Clock,
        start_is_over: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        """Make a recorder.

        Args:
            run: The attempt.
            runs: Where it is written.
            clock: The time.
            start_is_over: Called once the agent is up.
            given_up: Called when the attempt may not write any more, since it was ended by someone else.
        """
        self._run = run
        self._runs = runs
        self._clock = clock
        self._start_is_over = start_is_over
        self._given_up = given_up
        self._waiting: list[Event] = []
        self._pieces: list[str] = []  # the text of the last waiting event, where it is streamed
        self._used: Tokens | None = None
        self._model: str | None = None
        self._used_is_news = False
        self._began = clock.elapsed()
        self._last_heard: float | None = None
        self._open_tools: set[str] = set()
        self._something = asyncio.Event()
        self._closed = asyncio.Event()

    def started(self) -> None:
        """Hear that the agent is up."""
        self._start_is_over()

    def heard(self) -> None:
        """Hear that the agent is alive."""
        self._last_heard = self._clock.elapsed()

    @property
    def silence(self) -> Silence:
        """Return since when nothing was heard, and what that may mean."""
        if self._last_heard is None:
            return Silence(self._began, Waiting.FOR_START)
        return Silence(self._last_heard, Waiting.FOR_TOOL if self._open_tools else Waiting.FOR_MODEL)

    def happened(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        """Hear of an event."""
        if kind is EventKind.TOOL_USE:
            self._open_tools.add(body["id"])
        elif kind is EventKind.TOOL_RESULT:
            self._open_tools.discard(body["id"])
        if kind in _STREAMED and self._continues(kind, body):
            self._pieces.append(body["text"])
        else:
            self._join()
            self._waiting.append(Event(kind, body, self._clock.now()))
            self._pieces = [body["text"]] if kind in _STREAMED else []
        self._something.set()

    def used(self, tokens: Tokens, model: str | None) -> None:
        """Hear what was used up to now."""
        self._used, self._model, self._used_is_news = tokens, model, True
        self._something.set()

    async def serve(self) -> None:
        """Write what is heard, until closed."""
        pause = FLUSH_SECONDS
        while True:
            await self._something.wait()
            try:
                async with asyncio.timeout(pause):
                    await self._closed.wait()
                    return
            except TimeoutError:
                pause = FLUSH_SECONDS if await self._flush() else PAUSE_AFTER_FAILURE_SECONDS

    def close(self) -> None:
        """Stop writing; what is not written yet is the rest."""
        self._closed.set()
        self._something.set()

    def rest(self) -> tuple[list[Event], Tokens | None]:
        """Return the events that were not written, and the last count; only once `serve` has returned."""
        self._join()
        return self._waiting, self._used

    async def _flush(self) -> bool:
        """Write what waits; tells whether the database took it."""
        self._join()
        events, self._waiting = self._waiting, []
        used = self._used if self._used_is_news else None
        self._something.clear()
        self._used_is_news = False
        try:
            may_write = await self._runs.record(self._run, events, used, self._model)
        except UnavailableError as error:
            log.warning("run %s: its events wait in memory: %s", self._run.id, error)
            self._waiting[:0] = events
            self._used_is_news = True
            self._something.set()
            return False
        if not may_write:
            self._given_up()
        return True

    def _continues(self, kind: EventKind, body: Mapping[str, Any]) -> bool:
        """Tell whether the piece belongs to the block that waits last."""
        if not self._waiting or not self._pieces:
            return False
        last = self._waiting[-1]
        return last.kind is kind and last.body["block"] == body["block"]

    def _join(self) -> None:
        """Put the pieces of the last waiting event into it."""
        if self._waiting and len(self._pieces) > 1:
            last = self._waiting[-1]
            self._waiting[-1] = last._replace(body={**last.body, "text": "".join(self._pieces)})
        self._pieces = []
