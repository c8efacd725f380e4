"""Calls of tools, one row each: a run's is written before it is made, and again when its outcome is known."""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.runs._places import cursor_of, place_of
from claude_runner.runs._records import Run
from claude_runner.runs._texts import kept, shortened

MAX_ARGUMENTS: Final = 100_000  # characters of a call's arguments, as JSON, that are kept


class Verdict(StrEnum):
    """What became of a call: `open` while that is not known, `abandoned` where it never will be."""

    OPEN = "open"
    OK = "ok"
    ERROR = "error"
    DENIED = "denied"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call as it is asked for.

    Attributes:
        tool: The full name, such as `Read` or `mcp__email__send_email`.
        use_id: The model's own id of it, where a model asks.
    """

    tool: str
    arguments: Mapping[str, Any]
    started_at: datetime
    use_id: str | None = None

    @property
    def server(self) -> str | None:
        """Return the MCP server whose tool it is, `None` for one of Claude Code's own."""
        prefix, _, rest = self.tool.partition("__")
        server, separator, _ = rest.partition("__")
        return server if prefix == "mcp" and separator else None


class ClosedCall(NamedTuple):
    """What became of a call.

    Attributes:
        id: The row that `open_call` wrote, `None` where it could not, or was not asked to.
        result: What it answered, whole.
        duration_ms: `None` where it was not made, or that is not known.
    """

    id: str | None
    call: NewCall
    verdict: Verdict
    result: str | None = None
    duration_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as stored.

    Attributes:
        run_id: `None` for one that no run made.
        result: Its beginning, where it is longer than what is kept; `result_length` is that of the whole.
    """

    id: str
    run_id: str | None
    server: str | None
    tool: str
    arguments: Mapping[str, Any]
    verdict: Verdict
    result: str | None
    result_length: int | None
    started_at: datetime
    duration_ms: float | None


class CallPage(NamedTuple):
    """Some calls, newest first; `next_cursor` asks for those after them."""

    calls: list[ToolCall]
    total: int
    next_cursor: str | None


_VALUES: Final = """
    :id, :run_id, CASE WHEN EXISTS (SELECT 1 FROM tool_calls WHERE run_id = :run_id AND tool_use_id = :use_id)
    THEN NULL ELSE :use_id END, :server, :tool, :arguments, :verdict, :result, :result_length, :started_at, :duration_ms
"""  # a model that gives two calls one id is not to keep the second from being written
_INSERT: Final = f"""
    INSERT INTO tool_calls (id, run_id, tool_use_id, server, tool, arguments, verdict, result, result_length,
        started_at, duration_ms)
    SELECT {_VALUES}
"""
_FENCE: Final = "EXISTS (SELECT 1 FROM runs WHERE id = :run_id AND attempt = :attempt AND state = 'running')"
_FENCED_INSERT: Final = f"{_INSERT} WHERE {_FENCE} RETURNING id"
_CLOSE: Final = f"""
    UPDATE tool_calls SET verdict = :verdict, result = :result, result_length = :result_length,
        duration_ms = :duration_ms
    WHERE id = :id AND verdict = 'open' AND {_FENCE} RETURNING id
"""  # noqa: S608 - written above
_COUNT_DENIAL: Final = "UPDATE runs SET denials = denials + 1 WHERE id = :run_id"
_ABANDON: Final = "UPDATE tool_calls SET verdict = 'abandoned' WHERE run_id = :run_id AND verdict = 'open'"
_WHERE: Final = "WHERE (:run_id IS NULL OR run_id = :run_id) AND (:server IS NULL OR server = :server)"
_COUNT: Final = f"SELECT count(*) FROM tool_calls {_WHERE}"  # noqa: S608 - written above
_LATEST: Final = (
    "SELECT started_at FROM tool_calls WHERE server = :server ORDER BY started_at DESC, id DESC LIMIT 1"
)
_PAGE: Final = f"""
    SELECT * FROM tool_calls {_WHERE} AND (:at IS NULL OR (started_at, id) < (:at, :id))
    ORDER BY started_at DESC, id DESC LIMIT :limit
"""  # noqa: S608 - written above


def open_call(c: sqlite3.Connection, run: Run, call: NewCall) -> str | None:
    """Write a call that is about to be made and return its row's id; `None` where the attempt may not write."""
    return _insert(c, run, ClosedCall(None, call, Verdict.OPEN))


def close_calls(c: sqlite3.Connection, run: Run, calls: Sequence[ClosedCall]) -> bool:
    """Write what became of calls, each once, and count those denied; tells whether the attempt may still write."""
    for call in calls:
        if call.id is None:
            written = _insert(c, run, call) is not None
        else:
            values = _outcome(call) | {"id": call.id, "run_id": run.id, "attempt": run.attempt}
            written = c.execute(_CLOSE, values).fetchone() is not None
        if not written:
            return False
        if call.verdict is Verdict.DENIED:
            c.execute(_COUNT_DENIAL, {"run_id": run.id})
    return True


def note(c: sqlite3.Connection, call: ClosedCall) -> None:
    """Write a call that no run made."""
    c.execute(_INSERT, _values(call) | {"run_id": None})


def abandon(c: sqlite3.Connection, run_id: str) -> None:
    """Give up the calls of a run that are open."""
    c.execute(_ABANDON, {"run_id": run_id})


def page(
    c: sqlite3.Connection, run_id: str | None, server: str | None, limit: int, cursor: str | None
) -> CallPage:
    """Read a page; raises `InvalidError` where the cursor is not one that a page gave."""
    at, call_id = (None, None) if cursor is None else place_of(cursor, "list_tool_calls")
    values = {"run_id": run_id, "server": server, "at": at, "id": call_id, "limit": limit + 1}
    rows = c.execute(_PAGE, values).fetchall()
    (total,) = c.execute(_COUNT, {"run_id": run_id, "server": server}).fetchone()
    calls = [call_from(row) for row in rows[:limit]]
    more = len(rows) > limit
    return CallPage(calls, total, cursor_of(rows[limit - 1]["started_at"], calls[-1].id) if more else None)


def last_called(c: sqlite3.Connection, servers: Iterable[str]) -> dict[str, datetime]:
    """Read when a tool of each server was last called; one that never was is not in it."""
    rows = {name: c.execute(_LATEST, {"server": name}).fetchone() for name in servers}
    return {name: from_text(row["started_at"]) for name, row in rows.items() if row is not None}


def _insert(c: sqlite3.Connection, run: Run, call: ClosedCall) -> str | None:
    row = c.execute(_FENCED_INSERT, _values(call) | {"run_id": run.id, "attempt": run.attempt}).fetchone()
    return None if row is None else str(row["id"])


def _values(call: ClosedCall) -> dict[str, Any]:
    arguments = json.dumps(shortened(dict(call.call.arguments)), ensure_ascii=False)
    if len(arguments) > MAX_ARGUMENTS:
        arguments = json.dumps({"shortened": arguments[:MAX_ARGUMENTS]}, ensure_ascii=False)
    return _outcome(call) | {
        "id": secrets.token_hex(8),
        "use_id": call.call.use_id,
        "server": call.call.server,
        "tool": call.call.tool,
        "arguments": arguments,
        "started_at": to_text(call.call.started_at),
    }


def _outcome(call: ClosedCall) -> dict[str, Any]:
    return {
        "verdict": call.verdict,
        "result": None if call.result is None else kept(call.result),
        "result_length": None if call.result is None else len(call.result),
        "duration_ms": call.duration_ms,
    }


def call_from(row: sqlite3.Row | Mapping[str, Any]) -> ToolCall:
    """Make a call of its row."""
    return ToolCall(
        id=row["id"],
        run_id=row["run_id"],
        server=row["server"],
        tool=row["tool"],
        arguments=json.loads(row["arguments"]),
        verdict=Verdict(row["verdict"]),
        result=row["result"],
        result_length=row["result_length"],
        started_at=from_text(row["started_at"]),
        duration_ms=row["duration_ms"],
    )
