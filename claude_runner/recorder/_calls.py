"""The calls of tools of one attempt, from asked for to closed.

Claude Code asks before a call, also before one that it then denies, and tells of a call that was made. What it refuses
by itself, such as a tool that there is not, shows in the stream alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.config import Clock
from claude_runner.errors import UnavailableError
from claude_runner.redaction import Redactor
from claude_runner.runs import ClosedCall, NewCall, Run, Runs, Verdict

# How Claude Code says that there is no such tool, and that whoever is asked before a call said no or did not answer.
REFUSED: Final = ("No such tool available", "PreToolUse")
INTERRUPTED: Final = (
    "The user doesn't want to proceed with this tool use"  # also of calls that others held up
)


@dataclass(slots=True)
class _Open:
    """A call whose outcome is not known; `id` is its row's, where it has one, and `denied` that it is not made."""

    call: NewCall
    id: str | None = None
    denied: bool = False


class Calls:
    """The calls of one attempt.

    Attributes:
        closed: Those whose outcome is known and not written yet.
    """

    def __init__(self, run: Run, runs: Runs, clock: Clock, redactor: Redactor) -> None:
        self.closed: list[ClosedCall] = []
        self._run = run
        self._runs = runs
        self._clock = clock
        self._redactor = redactor
        self._open: dict[str, _Open] = {}

    async def ask(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Write a call down before it is made; returns why it must not be made, `None` where it may."""
        entry = self._open[use_id] = _Open(self._new(use_id, tool, arguments))
        why = "this run was ended by the server"
        try:
            entry.id = await self._runs.open_call(self._run, entry.call)
        except UnavailableError as error:
            why = f"it can't be written down ({error})"
        entry.denied = entry.id is None
        return f"the call is not made, since {why}" if entry.denied else None

    def see(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> None:
        """Take note of a call that the model wants."""
        if use_id not in self._open:
            self._open[use_id] = _Open(self._new(use_id, tool, arguments))

    def deny(self, use_id: str | None) -> None:
        """Take note that a call is not made."""
        if use_id in self._open:
            self._open[use_id].denied = True

    def close(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        """Take note of what became of a call, unless that is known."""
        if (entry := self._open.pop(use_id, None)) is not None:
            text = None if result is None else self._redactor.text(result)
            self.closed.append(ClosedCall(entry.id, entry.call, verdict, text, duration_ms))

    def answer(self, use_id: str, result: str, *, is_error: bool) -> None:
        """Take note of what the model was told of a call: the end of one that was not made."""
        entry = self._open.get(use_id)
        if entry is None:
            return
        if result.startswith(INTERRUPTED):
            verdict = Verdict.ABANDONED
        elif is_error and (entry.denied or any(mark in result for mark in REFUSED)):
            verdict = Verdict.DENIED
        else:
            verdict = Verdict.ERROR if is_error else Verdict.OK
        self.close(use_id, verdict, result, None)

    def _new(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> NewCall:
        told = self._redactor.value(dict(arguments))
        return NewCall(self._redactor.text(tool), told, self._clock.now(), use_id)
