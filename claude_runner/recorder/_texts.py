"""Turns what is heard into events that may be read: secrets replaced, long texts cut, pieces of text joined."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from claude_runner.redaction import RedactedStream, Redactor
from claude_runner.runs import Event, EventKind, shortened

_STREAMED: Final = (EventKind.TEXT, EventKind.THINKING)
# What comes only once the block before it has ended; other events may come in the middle of one.
_ENDS_A_BLOCK: Final = (EventKind.TOOL_USE, EventKind.USAGE, EventKind.RESULT)


class _Block(NamedTuple):
    """A block of text that comes in pieces; what may be the beginning of a secret waits in its stream."""

    kind: EventKind
    number: int
    stream: RedactedStream
    at: datetime


class Texts:
    """The events of one attempt that are not written yet; the pieces of a block that wait together become one."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._waiting: list[Event] = []
        self._pieces: list[str] = []  # the text of the last waiting event, where it is streamed
        self._block: _Block | None = None

    def add(self, kind: EventKind, body: Mapping[str, Any], at: datetime) -> None:
        """Take an event."""
        if kind in _STREAMED:
            self._stream(kind, body["block"], body["text"], at)
            return
        if kind in _ENDS_A_BLOCK:
            self.end_block()
        self._append(Event(kind, _readable(kind, self._redactor.value(dict(body))), at))

    def end_block(self) -> None:
        """Take it that nothing more comes of the block that is streamed."""
        if self._block is not None:
            block, self._block = self._block, None
            self._piece(block, block.stream.rest())

    def take(self) -> list[Event]:
        """Return the events that wait, which are the caller's now."""
        self._join()
        events, self._waiting = self._waiting, []
        return events

    def put_back(self, events: list[Event]) -> None:
        """Let events wait again, before those that came since they were taken."""
        self._waiting[:0] = events

    def _stream(self, kind: EventKind, number: int, text: str, at: datetime) -> None:
        if self._block is None or (self._block.kind, self._block.number) != (kind, number):
            self.end_block()
            self._block = _Block(kind, number, self._redactor.stream(), at)
        self._block = self._block._replace(at=at)
        self._piece(self._block, self._block.stream.feed(text))

    def _piece(self, block: _Block, text: str) -> None:
        if not text:
            return
        if self._continues(block):
            self._pieces.append(text)
        else:
            self._append(Event(block.kind, {"block": block.number, "text": text}, block.at))
            self._pieces = [text]

    def _append(self, event: Event) -> None:
        self._join()
        self._waiting.append(event)

    def _continues(self, block: _Block) -> bool:
        """Tell whether a piece belongs to the block that waits last."""
        if not self._waiting or not self._pieces:
            return False
        last = self._waiting[-1]
        return last.kind is block.kind and bool(last.body["block"] == block.number)

    def _join(self) -> None:
        """Put the pieces of the last waiting event into it."""
        if self._waiting and len(self._pieces) > 1:
            last = self._waiting[-1]
            self._waiting[-1] = last._replace(body={**last.body, "text": "".join(self._pieces)})
        self._pieces = []


def _readable(kind: EventKind, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with long texts cut, as they are only now that no secret can be cut in two."""
    short: dict[str, Any] = shortened(body)
    if kind is EventKind.TOOL_RESULT and short["content"] != body["content"]:
        short["length"] = len(body["content"])
    return short
