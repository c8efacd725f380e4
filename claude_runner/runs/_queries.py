"""Searches through the runs there ever were, which may be a million: each looks at so many of them and no more.

What a search is for is decided on indices that hold all it may ask about, never on the runs themselves, whose
texts are long. Where it has looked at as many as it may, it gives what it found, with a cursor to go on from.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.errors import InvalidError
from claude_runner.runs import _words
from claude_runner.runs._looking import NEWEST, Listing, Place, Source, Wanted, look
from claude_runner.runs._places import cursor_of, place_of
from claude_runner.runs._records import State, Trigger
from claude_runner.runs._rows import ROW_HEAD, RunRow, rows_of

BEYOND: Final = 2**62  # a number after that of every run

# The terms that SQLite's partial indices stand for must be written out.
_OPEN: Final = "state IN ('pending', 'running')"
_ENDED: Final = "state IN ('finished', 'error', 'cancelled')"
_GOING_ON: Final = f"""
    SELECT id FROM runs WHERE {_OPEN} AND state = :state ORDER BY created_at, id LIMIT :limit
"""  # noqa: S608 - written above
_HEARD: Final = """
    SELECT finished_at, reason, error FROM (SELECT n, run_id FROM run_ends ORDER BY n DESC LIMIT 200)
        JOIN runs ON runs.id = run_id
    WHERE rehearsal = 0 AND (state = 'finished' OR reason = 'not_signed_in' OR output_tokens > 0)
    ORDER BY n DESC LIMIT 1
"""
_RUNS: Final = Listing(
    "runs",
    "created_at",
    "created_at, id, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal",
    most=10_000,
)
# Models are in no index, so that each entry's run is looked at.
_RUNS_OF_MODEL: Final = _RUNS._replace(columns=f"{_RUNS.columns}, model", most=2_000)
_BY_HAND: Final = frozenset(Trigger) - {Trigger.SCHEDULE, Trigger.WEBHOOK}


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs are looked for; what is empty or `None` is any.

    Attributes:
        text: Words that must all occur in the prompt or the output, the last of them as a beginning. Only runs that
            have ended are found by it.
        since: By when they were made: from this instant on, and before `until`.
        min_cost_usd: Runs of unknown price are not found by it.
        model: The one that answered, by its full name.
    """

    text: str | None = None
    states: tuple[State, ...] = ()
    reason: str | None = None
    job_id: str | None = None
    webhook_id: str | None = None
    trigger: Trigger | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_cost_usd: float | None = None
    rehearsal: bool | None = None
    model: str | None = None


class RunHits(NamedTuple):
    """Some of the runs looked for, newest first.

    Attributes:
        next_cursor: Asks for those after them; `None` where there are none.
        looked_until: Where it stopped before it had found as many as were asked for: how far back it looked.
    """

    runs: list[RunRow]
    next_cursor: str | None
    looked_until: datetime | None = None


def search(
    c: sqlite3.Connection, query: RunQuery, limit: int, cursor: str | None, head: int = ROW_HEAD
) -> RunHits:
    """Read a page; raises `InvalidError` where the cursor is not one that a page gave."""
    place = None if cursor is None else place_of(cursor, "a search")
    if query.text is not None and query.text.strip():
        return _by_text(c, query, query.text, limit, place, head)
    return _by_time(c, query, limit, NEWEST if place is None else Place(*place), head)


def going_on(c: sqlite3.Connection, limit: int) -> list[RunRow]:
    """Read the runs that are going on, then those that wait, each oldest first."""
    found: list[str] = []
    for state in (State.RUNNING, State.PENDING):
        rows = c.execute(_GOING_ON, {"state": state.value, "limit": limit - len(found)})
        found += [row["id"] for row in rows]
    return rows_of(c, found)


class Heard(NamedTuple):
    """The end of a run that a model had answered, or refused for want of a login; `reason` and `error` as the run's."""

    at: datetime
    reason: str | None
    error: str | None


def last_heard(c: sqlite3.Connection) -> Heard | None:
    """Read the last end of a real run that shows whether a model answers; of the latest ends alone."""
    row = c.execute(_HEARD).fetchone()
    return None if row is None else Heard(from_text(row["finished_at"]), row["reason"], row["error"])


def _by_time(c: sqlite3.Connection, query: RunQuery, limit: int, after: Place, head: int) -> RunHits:
    terms, values = _conditions(query)
    listing = _RUNS
    if query.model is not None:
        listing, terms = _RUNS_OF_MODEL, f"{terms} AND model = :model"
    found = look(c, listing, _sources(query), Wanted(terms, values, query.since, query.until), limit, after)
    rows = rows_of(c, (place.row_id for place in found.places), head)
    if found.more:
        return RunHits(rows, cursor_of(*found.places[-1]))
    if found.edge is None:
        return RunHits(rows, None)
    return RunHits(rows, cursor_of(*found.edge), from_text(found.edge.at))


def _sources(query: RunQuery) -> list[Source]:
    """Return the narrowest indices that hold every run looked for."""
    states = frozenset(query.states or State)
    waiting = [
        Source("runs_open", f"{_OPEN} AND state = '{state.value}'")
        for state in (State.PENDING, State.RUNNING)
        if state in states
    ]
    if query.job_id is not None:
        return [Source("runs_of_job", "job_id = :job_id")]
    ends = any(state.is_final for state in states)
    if query.webhook_id is not None:
        ended = Source("runs_of_webhook", f"webhook_id = :webhook_id AND {_ENDED}")
        return [*waiting, ended] if ends else waiting
    if not ends:
        return waiting
    if states == {State.ERROR}:
        return [Source("runs_failed", "state = 'error'")]
    if query.trigger in _BY_HAND:
        return [Source("runs_by_hand", "trigger NOT IN ('schedule', 'webhook')")]
    return [Source("runs_newest", "true")]


def _conditions(query: RunQuery) -> tuple[str, dict[str, Any]]:
    """Return the terms for what is looked for, but for the text and the model, and their values."""
    values: dict[str, Any] = {
        "reason": query.reason,
        "job_id": query.job_id,
        "webhook_id": query.webhook_id,
        "trigger": None if query.trigger is None else query.trigger.value,
        "since": None if query.since is None else to_text(query.since),
        "until": None if query.until is None else to_text(query.until),
        "min_cost_usd": query.min_cost_usd,
        "rehearsal": None if query.rehearsal is None else int(query.rehearsal),
        "model": query.model,
    }
    terms = {
        "reason": "reason = :reason",
        "job_id": "job_id = :job_id",
        "webhook_id": "webhook_id = :webhook_id",
        "trigger": "trigger = :trigger",
        "since": "created_at >= :since",
        "until": "created_at < :until",
        "min_cost_usd": "cost_usd >= :min_cost_usd",
        "rehearsal": "rehearsal = :rehearsal",
    }
    given = [term for name, term in terms.items() if values[name] is not None]
    if query.states:
        given.append(f"state IN ({_listed(query.states)})")
    return " AND ".join(given) or "true", values


def _listed(states: Iterable[State]) -> str:
    return ", ".join(f"'{State(state).value}'" for state in states)


def _by_text(
    c: sqlite3.Connection, query: RunQuery, text: str, limit: int, place: tuple[str, str] | None, head: int
) -> RunHits:
    """Read a page by words; its places are the numbers of the runs' ends."""
    words = _words.match_of(c, text)
    if not words:
        return RunHits([], None)
    looked = _words.find(c, words, _number_of(place))
    found = _wanted(c, query, looked.numbers, limit + 1)
    shown = found[:limit]
    snippets = _words.snippets(c, words, [number for number, _ in shown])
    rows = [
        replace(row, snippet=snippets.get(number))
        for number, run_id in shown
        for row in rows_of(c, [run_id], head)
    ]
    if len(found) > limit:
        return RunHits(rows, _cursor_at(found[limit - 1][0]))
    if looked.until is None:
        return RunHits(rows, None)
    return RunHits(rows, _cursor_at(looked.until), _ended_at(c, looked.until))


def _wanted(
    c: sqlite3.Connection, query: RunQuery, numbers: Sequence[int], limit: int
) -> list[tuple[int, str]]:
    """Return the newest of the runs of these numbers that are looked for, with their ids."""
    terms, values = _conditions(query)
    if query.model is not None:
        terms += " AND (SELECT model FROM runs WHERE runs.id = run_id) = :model"
    select = f"""
        SELECT n, run_id FROM run_ends WHERE n IN (SELECT value FROM json_each(:numbers)) AND {terms}
        ORDER BY n DESC LIMIT :limit
    """  # noqa: S608 - terms written above
    rows = c.execute(select, values | {"numbers": json.dumps(numbers), "limit": limit})
    return [(row["n"], row["run_id"]) for row in rows]


def _ended_at(c: sqlite3.Connection, number: int) -> datetime | None:
    select = """
        SELECT finished_at FROM run_ends JOIN runs ON runs.id = run_id WHERE n >= :n ORDER BY n LIMIT 1
    """
    row = c.execute(select, {"n": number}).fetchone()
    return None if row is None else from_text(row["finished_at"])


def _cursor_at(number: int) -> str:
    return cursor_of("", str(number))


def _number_of(place: tuple[str, str] | None) -> int:
    if place is None:
        return BEYOND
    at, number = place
    if at or not re.fullmatch("[0-9]{1,18}", number):
        raise InvalidError("this cursor was given by another search; start without one", field="cursor")
    return int(number)
