"""The log of tool calls, looked through as runs are: at so many and no more, and without their long texts."""

import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text
from claude_runner.runs._calls import ToolCall, Verdict, call_from
from claude_runner.runs._looking import NEWEST, Listing, Place, Source, Wanted, look
from claude_runner.runs._places import cursor_of, place_of
from claude_runner.runs._texts import head, shortened

_LOG: Final = Listing("tool_calls", "started_at", "id, run_id, server, tool, verdict, started_at", most=3_000)
_KEPT: Final = 4_000  # characters of a call's arguments, as JSON, that a list reads as such
_HEAD: Final = 1_000
_ROW: Final = f"""
    SELECT id, run_id, server, tool, verdict, substr(result, 1, {_HEAD}) AS result, result_length, started_at,
        duration_ms, substr(arguments, 1, {_KEPT} + 1) AS arguments
    FROM tool_calls WHERE id = :id
"""  # noqa: S608 - numbers written above
_ABANDONED: Final = """
    SELECT * FROM tool_calls WHERE run_id = :run_id AND verdict = 'abandoned' ORDER BY started_at, id
"""
_FAILED: Final = frozenset({Verdict.ERROR, Verdict.DENIED})


class Origin(StrEnum):
    """Who made a call: a run, or somebody by invoke_internal_mcp_tool."""

    RUN = "run"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class CallQuery:
    """Which calls are looked for; `None` is any. By when they began: from `since` on, and before `until`."""

    run_id: str | None = None
    server: str | None = None
    tool: str | None = None
    verdict: Verdict | None = None
    origin: Origin | None = None
    since: datetime | None = None
    until: datetime | None = None


class CallHits(NamedTuple):
    """Some of the calls looked for, newest first, with the beginnings of their texts.

    Attributes:
        next_cursor: Asks for those after them; `None` where there are none.
        looked_until: Where it stopped before it had found as many as were asked for: how far back it looked.
    """

    calls: list[ToolCall]
    next_cursor: str | None
    looked_until: datetime | None = None


def search(c: sqlite3.Connection, query: CallQuery, limit: int, cursor: str | None) -> CallHits:
    """Read a page; raises `InvalidError` where the cursor is not one that a page gave."""
    after = NEWEST if cursor is None else Place(*place_of(cursor, "list_tool_calls"))
    found = look(c, _LOG, [_source(query)], _wanted(query), limit, after)
    calls = [_call_of(c, place.row_id) for place in found.places]
    if found.more:
        return CallHits(calls, cursor_of(*found.places[-1]))
    if found.edge is None:
        return CallHits(calls, None)
    return CallHits(calls, cursor_of(*found.edge), from_text(found.edge.at))


def find(c: sqlite3.Connection, call_id: str) -> ToolCall | None:
    """Read a call with all that is kept of it."""
    row = c.execute("SELECT * FROM tool_calls WHERE id = :id", {"id": call_id}).fetchone()
    return None if row is None else call_from(row)


def _source(query: CallQuery) -> Source:
    """Return the narrowest index that holds every call looked for."""
    if query.run_id is not None:
        return Source("tool_calls_of_run", "run_id = :run_id")
    if query.verdict in _FAILED:
        return Source("tool_calls_failed", "verdict IN ('error', 'denied') AND verdict = :verdict")
    if query.origin == Origin.DIRECT:
        return Source("tool_calls_of_run", "run_id IS NULL")
    if query.server is not None:
        return Source("tool_calls_of_server", "server = :server")
    return Source("tool_calls_newest", "true")


def _wanted(query: CallQuery) -> Wanted:
    values: dict[str, Any] = {
        "run_id": query.run_id,
        "server": query.server,
        "tool": query.tool,
        "verdict": None if query.verdict is None else Verdict(query.verdict).value,
    }
    terms = [f"{name} = :{name}" for name, value in values.items() if value is not None]
    if query.origin is not None:
        terms.append("run_id IS NULL" if query.origin == Origin.DIRECT else "run_id IS NOT NULL")
    return Wanted(" AND ".join(terms) or "true", values, query.since, query.until)


def _call_of(c: sqlite3.Connection, call_id: str) -> ToolCall:
    row = dict(c.execute(_ROW, {"id": call_id}).fetchone())
    arguments = row["arguments"]
    if len(arguments) > _KEPT:
        row["arguments"] = json.dumps({"shortened": arguments[:_HEAD]})
    call = call_from(row)
    return replace(call, arguments=shortened(dict(call.arguments), head))


def abandoned(c: sqlite3.Connection, run_id: str) -> list[ToolCall]:
    """Read the calls of a run that had begun and whose outcome is not known, oldest first."""
    rows = c.execute(_ABANDONED, {"run_id": run_id})
    return [call_from(row) for row in rows]
