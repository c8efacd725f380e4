"""Writes down what a run's agent tells, in batches, without ever holding the agent up.

The stream must be drained at once (a reader that lags behind it loses its end), and a write costs whole pages of the
disk. So events wait in memory for up to `FLUSH_SECONDS`; the deltas of a block that wait together become one event.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from claude_runner.config import Clock
from claude_runner.errors import UnavailableError
from claude_runner.recorder._calls import Calls
from claude_runner.recorder._texts import Texts
from claude_runner.redaction import Redactor
from claude_runner.runs import ClosedCall, Ending, Event, EventKind, Granted, Run, Runs, Tokens, Verdict

FLUSH_SECONDS: Final = 0.1
PAUSE_AFTER_FAILURE_SECONDS: Final = 1.0
MAX_ERROR: Final = 2000  # characters of the sentence about a failure

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
    """The listener of one attempt at a run; see `Listener`.

    Attributes:
        granted: What the run was granted, while that is not written.
        cost_usd: What the attempt has cost up to now; `None` where that is not known.
    """

    def __init__(
        self,
        run: Run,
        runs: Runs,
        clock: Clock,
        start_is_over: Callable[[], None],
        given_up: Callable[[], None],
        redactor: Redactor | None = None,
        spent: Callable[[float | None], None] | None = None,
    ) -> None:
        """Make a recorder.

        Args:
            run: The attempt.
            runs: Where it is written.
            clock: The time.
            start_is_over: Called once the agent is up.
            given_up: Called when the attempt may not write any more, since it was ended by someone else.
            redactor: Replaces secrets in whatever is written.
            spent: Called with what all attempts have cost, whenever that is news.
        """
        self._run = run
        self._runs = runs
        self._clock = clock
        self._start_is_over = start_is_over
        self._given_up = given_up
        self._spent = spent
        self._redactor = redactor or Redactor()
        self._texts = Texts(self._redactor)
        self._calls = Calls(run, runs, clock, self._redactor)
        self.granted: Granted | None = None
        self._written: Granted | None = None
        self._used: Tokens | None = None
        self._model: str | None = None
        self.cost_usd: float | None = None
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
    def model(self) -> str | None:
        """Return the model that answers, once it is known."""
        return self._model

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
            self._calls.see(body["id"], body["name"], body["input"])
        elif kind is EventKind.TOOL_RESULT:
            self._open_tools.discard(body["id"])
            self._calls.answer(body["id"], body["content"], is_error=body["is_error"])
        elif body.get("notice") == "permission_denied":
            self._calls.deny(body.get("tool_use_id"))
        self._texts.add(kind, body, self._clock.now())
        self._something.set()

    def used(self, tokens: Tokens, model: str | None, cost_usd: float | None = None) -> None:
        """Hear what was used up to now."""
        self._used, self._model, self._used_is_news = tokens, model, True
        self.cost_usd = cost_usd
        if self._spent is not None:
            self._spent(self._cost_so_far)
        self._something.set()

    def warn(self, sentence: str) -> None:
        """Add what there is to say about the run to its warnings, once."""
        granted = self.granted or self._written
        if granted is not None and sentence not in granted.warnings:
            self.granted = granted._replace(warnings=(*granted.warnings, sentence))
            self._something.set()

    async def calling(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Hear of a call before it is made, and write it down."""
        return await self._calls.ask(use_id, tool, arguments)

    def called(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        """Hear what became of a call."""
        self._calls.close(use_id, verdict, result, duration_ms)
        self._something.set()

    def redacted(self, ending: Ending) -> Ending:
        """Return an ending as it may be written."""
        error = None if ending.error is None else self._redactor.text(ending.error)[:MAX_ERROR]
        output = None if ending.output is None else self._redactor.text(ending.output)
        return replace(ending, output=output, error=error)

    async def serve(self) -> None:
        """Write what is heard, until closed."""
        pause = FLUSH_SECONDS
        while not self._closed.is_set():  # it may be closed while it writes
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
        self._texts.end_block()
        return self._texts.take(), self._used

    @property
    def _cost_so_far(self) -> float | None:
        """Return what all attempts have cost up to now; a cost that was not known is not known any more."""
        before = 0.0 if self._run.attempt <= 1 else self._run.cost_usd
        return None if before is None or self.cost_usd is None else before + self.cost_usd

    def closed_calls(self) -> list[ClosedCall]:
        """Return the calls whose outcome was not written; only once `serve` has returned."""
        return self._calls.closed

    async def _flush(self) -> bool:
        """Write what waits; tells whether the database took it."""
        events = self._texts.take()
        calls, self._calls.closed = self._calls.closed, []
        used = self._run.tokens + self._used if self._used is not None and self._used_is_news else None
        granted, self.granted = self.granted, None
        self._written = granted or self._written
        self._something.clear()
        self._used_is_news = False
        try:
            may_write = await self._runs.record(
                self._run, events, used, self._model, calls, granted, self._cost_so_far
            )
        except UnavailableError as error:
            log.warning("run %s: its events wait in memory: %s", self._run.id, error)
            self._texts.put_back(events)
            self._calls.closed[:0] = calls
            self.granted = granted
            self._used_is_news = True
            self._something.set()
            return False
        if not may_write:
            self._given_up()
        return True
