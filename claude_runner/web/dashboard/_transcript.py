"""What happened in a run, put together from its events: a text of many pieces is one entry, a call and its result too.

An entry is known by the number of its first event. A page of a transcript begins between two entries where it can, so
that a call and its result stand on one page.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from claude_runner.runs import EventKind, Runs, StoredEvent
from claude_runner.web.dashboard._markdown import MOST_SHOWN

TEXTS: Final = frozenset({EventKind.TEXT, EventKind.THINKING})
ENTRIES: Final = 100  # about, on a page
FEWEST: Final = 5  # entries of a page, however long they are
LONGEST: Final = 12_000  # characters of a page's texts, beyond the fewest
CHUNK: Final = 250  # events that are read at a time
MOST_EVENTS: Final = 1_500  # that are read for a page, or to put one entry together
BEYOND: Final = 2**62

# What comes only once a text before it has ended; other events may come in the middle of one.
_ENDS_A_TEXT: Final = frozenset({EventKind.STARTED, EventKind.TOOL_USE, EventKind.USAGE, EventKind.RESULT})


@dataclass(slots=True, eq=False)
class Entry:
    """Something that happened.

    Attributes:
        first: Its event; the first of them where there are several.
        last: The number of its last event.
        pieces: Of a text.
        answer: The result of a call, once it has come.
        denial: Why a call was not made.
        is_whole: Whether its beginning is known.
        is_open: Whether more of it may come.
    """

    first: StoredEvent
    last: int
    pieces: list[str] = field(default_factory=list)
    answer: StoredEvent | None = None
    denial: str | None = None
    is_whole: bool = True
    is_open: bool = False

    @property
    def seq(self) -> int:
        """Return what it is known by."""
        return self.first.seq

    @property
    def kind(self) -> EventKind:
        """Return what it tells of."""
        return self.first.kind

    @property
    def at(self) -> datetime:
        """Return when it began."""
        return self.first.at

    @property
    def text(self) -> str:
        """Return the whole of a text."""
        return "".join(self.pieces)

    @property
    def length(self) -> int:
        """Return how long a text is."""
        return sum(map(len, self.pieces))


class Gathering:
    """Puts events together, in order."""

    def __init__(self) -> None:
        self.open_text: Entry | None = None
        self.open_calls: dict[str, Entry] = {}

    def add(self, event: StoredEvent) -> Entry:
        """Take the next event, and return the entry that it begins, or belongs to."""
        if event.kind in TEXTS:
            return self._text(event)
        if event.kind in _ENDS_A_TEXT:
            self.close_text()
        if event.kind is EventKind.TOOL_USE:
            entry = self.open_calls[str(event.body.get("id"))] = Entry(event, event.seq, is_open=True)
            return entry
        if event.kind is EventKind.TOOL_RESULT:
            call = self.open_calls.pop(str(event.body.get("id")), None)
            if call is not None:
                call.answer, call.last, call.is_open = event, event.seq, False
                return call
        return self._denied(event) or Entry(event, event.seq)

    def close_text(self) -> None:
        """Take it that nothing more comes of the text that is open."""
        if self.open_text is not None:
            self.open_text.is_open = False
            self.open_text = None

    def _text(self, event: StoredEvent) -> Entry:
        entry = self.open_text
        if entry is None or (entry.kind, entry.first.body["block"]) != (event.kind, event.body["block"]):
            self.close_text()
            entry = self.open_text = Entry(event, event.seq, is_open=True)
        entry.pieces.append(event.body["text"])
        entry.last = event.seq
        return entry

    def _denied(self, event: StoredEvent) -> Entry | None:
        """Return the call that a notice denies, where that is known."""
        if event.body.get("notice") != "permission_denied":
            return None
        call = self.open_calls.get(str(event.body.get("tool_use_id")))
        if call is not None:
            call.denial = str(event.body.get("message") or "it was not allowed")
            call.last = event.seq
        return call


def gathered(events: Sequence[StoredEvent]) -> list[Entry]:
    """Put events together."""
    gathering, entries = Gathering(), dict[int, Entry]()
    for event in events:
        entry = gathering.add(event)
        entries.setdefault(entry.seq, entry)
    return list(entries.values())


class Window(NamedTuple):
    """A page of a transcript.

    Attributes:
        entries: In order.
        last: The number of the last event that is in it, 0 where there is none.
        earlier: What is before it: the events before this number; `None` where it begins at the beginning.
    """

    entries: list[Entry]
    last: int
    earlier: int | None

    @property
    def open_text(self) -> int:
        """Return the number of the text that may still grow, 0 where there is none."""
        return next((entry.seq for entry in reversed(self.entries) if entry.pieces and entry.is_open), 0)


async def window(runs: Runs, run_id: str, before: int | None = None) -> Window:
    """Read the newest entries of a run, or the newest before one of its events."""
    end = BEYOND if before is None else before
    events: list[StoredEvent] = []
    wanted = CHUNK
    while len(events) < MOST_EVENTS:
        more = await runs.events_before(run_id, events[0].seq if events else end, wanted)
        events[:0] = more
        if len(more) < wanted or _is_enough(gathered(events)):
            break
        wanted = min(wanted * 2, MOST_EVENTS - len(events))  # no more than `known_at` reads to follow a page
    last = events[-1].seq if events else 0
    events = _bounded(events)
    entries = gathered(events)
    is_all = not events or events[0].seq <= 1
    at = _beginning(entries, is_all=is_all)
    start = None if at == 0 and is_all else entries[at].seq
    if start is not None:
        entries = gathered([event for event in events if event.seq >= start])
        entries[0].is_whole = at > 0 or not entries[0].pieces  # of a text, more may come before
    if before is not None:
        for entry in entries:
            entry.is_open = False  # what comes of it is not on this page
    return Window(entries, last, start)


async def entry_at(runs: Runs, run_id: str, seq: int) -> Entry | None:
    """Read the entry that begins with an event; `None` where there is none. Of one too large, the beginning."""
    gathering, found, after = Gathering(), None, seq - 1
    while after < seq + MOST_EVENTS:
        events = await runs.events_after(run_id, after, CHUNK)
        for event in events:
            if event.seq == seq or found is not None:
                entry = gathering.add(event)
                found = found or entry
                if not found.is_open:
                    return found
        if found is None or len(events) < CHUNK:
            return found
        after = events[-1].seq
    return found


async def call_of(runs: Runs, run_id: str, answer: StoredEvent) -> Entry | None:
    """Read the call that a result is of, `None` where it is too long ago."""
    before = answer.seq
    while answer.seq - before < MOST_EVENTS:
        events = await runs.events_before(run_id, before, CHUNK)
        for event in reversed(events):
            if event.kind is EventKind.TOOL_USE and event.body.get("id") == answer.body.get("id"):
                return Entry(event, answer.seq, answer=answer)
        if len(events) < CHUNK:
            return None
        before = events[0].seq
    return None


class Known(NamedTuple):
    """The last events up to one of them, from the beginning of a text that was open then, where one was.

    Attributes:
        events: They.
        is_whole: Whether that text is whole.
    """

    events: Sequence[StoredEvent]
    is_whole: bool


async def known_at(runs: Runs, run_id: str, last: int, opened: int) -> Known | None:
    """Read what must be known to go on after an event; `None` where a text that was open began too long before.

    Args:
        runs: The runs.
        run_id: Which.
        last: The event.
        opened: Before which event it does not matter.
    """
    events: list[StoredEvent] = []
    while len(events) < MOST_EVENTS:
        more = await runs.events_before(run_id, events[0].seq if events else last + 1, CHUNK)
        events[:0] = more
        first = next(iter(gathered(events)), None)
        if first is None or not (first.pieces and first.is_open):
            return Known(events, is_whole=True)
        if len(more) < CHUNK or events[0].seq <= opened:
            kept = [event for event in events if event.seq >= opened]
            return Known(kept, is_whole=len(kept) == len(events))
    return None


def _beginning(entries: Sequence[Entry], *, is_all: bool) -> int:
    """Return with which entry a page begins: the first that nothing before it reaches beyond, of about as many."""
    fewest, longest = len(entries), 0
    while fewest > 0 and len(entries) - fewest < ENTRIES:
        longest += _size(entries[fewest - 1])
        if longest > LONGEST and len(entries) - fewest >= FEWEST:
            break
        fewest -= 1
    if fewest <= (0 if is_all else 1):
        # Whether a text that the reading began with is whole can't be told: it is left to the page before.
        return 0 if is_all or len(entries) < 2 or not entries[0].pieces else 1
    reach = 0
    clean = []
    for at, entry in enumerate(entries):
        if at >= fewest and entry.seq > reach:
            clean.append(at)
        reach = max(reach, entry.last)
    return next((at for at in clean if len(entries) - at >= FEWEST), fewest)


def _bounded(events: list[StoredEvent]) -> list[StoredEvent]:
    """Return the last of events, of whose texts no more than a page shows."""
    length = 0
    for at in range(len(events) - 1, -1, -1):
        length += len(events[at].body["text"]) if events[at].kind in TEXTS else 0
        if length > MOST_SHOWN:
            return events[min(at + 1, len(events) - 1) :]
    return events


def _is_enough(entries: Sequence[Entry]) -> bool:
    length = sum(_size(entry) for entry in entries)
    is_long = len(entries) > FEWEST and length - _size(entries[0]) > LONGEST
    return is_long or length > MOST_SHOWN or len(entries) > ENTRIES * 1.1


def _size(entry: Entry) -> int:
    return entry.length if entry.pieces else 0
