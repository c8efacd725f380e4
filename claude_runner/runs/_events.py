"""What happened in a run, one row each, append only."""

import itertools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text, to_text


class EventKind(StrEnum):
    """What an event tells of."""

    STARTED = "started"
    TEXT = "text"
    THINKING = "thinking"
    TOOL_USE = "tool_use"
    TOOL_RESULT = "tool_result"
    RETRY = "retry"
    NOTICE = "notice"
    USAGE = "usage"  # what a message of the model, the step that it ends, used
    RESULT = "result"


class Event(NamedTuple):
    """Something that happened; `body` is what JSON calls an object."""

    kind: EventKind
    body: Mapping[str, Any]
    at: datetime


class StoredEvent(NamedTuple):
    """An event with its place in the run, counted from 1."""

    seq: int
    kind: EventKind
    body: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some of a run's events in order; `next_after` asks for those after them, `None` where these are the last."""

    events: list[StoredEvent]
    total: int
    next_after: int | None


_BEYOND: Final = 2**62  # a place after every event's
_FENCED_INSERT = """
    INSERT INTO run_events (run_id, seq, kind, body, at)
    SELECT :run_id, (SELECT coalesce(max(seq), 0) + 1 FROM run_events WHERE run_id = :run_id), :kind, :body, :at
    WHERE EXISTS (SELECT 1 FROM runs WHERE id = :run_id AND attempt = :attempt AND state = 'running')
    RETURNING seq
"""


def append(c: sqlite3.Connection, run_id: str, attempt: int, events: Sequence[Event]) -> bool:
    """Add events at the end, fenced by the attempt; tells whether the attempt may still write."""
    for event in events:
        values = {
            "run_id": run_id,
            "attempt": attempt,
            "kind": event.kind,
            "body": json.dumps(event.body, ensure_ascii=False),
            "at": to_text(event.at),
        }
        if c.execute(_FENCED_INSERT, values).fetchone() is None:
            return False
    return True


def page(c: sqlite3.Connection, run_id: str, after: int, limit: int) -> EventPage:
    """Read the events whose place comes after the one given."""
    rows = c.execute(
        "SELECT * FROM run_events WHERE run_id = :run_id AND seq > :after ORDER BY seq LIMIT :limit",
        {"run_id": run_id, "after": after, "limit": limit + 1},
    ).fetchall()
    (total,) = c.execute(
        "SELECT count(*) FROM run_events WHERE run_id = :run_id", {"run_id": run_id}
    ).fetchone()
    events = [_event_from(row) for row in rows[:limit]]
    last = events[-1].seq if events else after
    return EventPage(events, total, last if len(rows) > limit else None)


def after(c: sqlite3.Connection, run_id: str, seq: int, limit: int) -> list[StoredEvent]:
    """Read the next events whose place comes after the one given, in order; nothing is counted."""
    rows = c.execute(
        "SELECT * FROM run_events WHERE run_id = :run_id AND seq > :seq ORDER BY seq LIMIT :limit",
        {"run_id": run_id, "seq": seq, "limit": limit},
    )
    return [_event_from(row) for row in rows]


def before(c: sqlite3.Connection, run_id: str, seq: int | None, limit: int) -> list[StoredEvent]:
    """Read the last events whose place comes before the one given, in order; of all events where it is `None`."""
    rows = c.execute(
        "SELECT * FROM run_events WHERE run_id = :run_id AND seq < :seq ORDER BY seq DESC LIMIT :limit",
        {"run_id": run_id, "seq": _BEYOND if seq is None else seq, "limit": limit},
    ).fetchall()
    return [_event_from(row) for row in reversed(rows)]


def text_so_far(c: sqlite3.Connection, run_id: str) -> str:
    """Read what the model has said up to now: the pieces of text joined, an empty line between two blocks."""
    rows = c.execute(
        "SELECT body FROM run_events WHERE run_id = :run_id AND kind = 'text' ORDER BY seq",
        {"run_id": run_id},
    )
    bodies = (json.loads(row["body"]) for row in rows)
    blocks = itertools.groupby(bodies, key=lambda body: body["block"])
    return "\n\n".join("".join(body["text"] for body in pieces) for _, pieces in blocks)


def _event_from(row: sqlite3.Row) -> StoredEvent:
    return StoredEvent(row["seq"], EventKind(row["kind"]), json.loads(row["body"]), from_text(row["at"]))
