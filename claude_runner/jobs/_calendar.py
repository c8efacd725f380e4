"""What became of planned slots and which jobs come next, in the order of time."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.errors import InvalidError
from claude_runner.jobs._slots import Fate
from claude_runner.runs import State
from claude_runner.schedule import Timetable, parse, parse_blackout

_SLOT: Final = """
    SELECT occurrences.job_id, jobs.name AS job_name, occurrences.scheduled_for, until, count, fate,
        occurrences.reason, occurrences.run_id, runs.state, runs.cost_usd
"""
_FROM: Final = """
    FROM occurrences JOIN jobs ON jobs.id = occurrences.job_id AND jobs.removed_at IS NULL
        LEFT JOIN runs ON runs.id = occurrences.run_id
"""
# Of several slots in a row that one row stands for, the first may be long ago; the + leaves those to their own index.
_WITHIN: Final = f"""
    SELECT * FROM (
        {_SLOT} {_FROM} WHERE occurrences.scheduled_for >= :since AND occurrences.scheduled_for < :until %(whose)s
        ORDER BY occurrences.scheduled_for, occurrences.job_id LIMIT :limit
    ) UNION ALL SELECT * FROM (
        {_SLOT} {_FROM} WHERE until >= :since AND +occurrences.scheduled_for < :since %(whose_too)s
        ORDER BY +occurrences.scheduled_for, occurrences.job_id LIMIT :limit
    ) ORDER BY scheduled_for, job_id LIMIT :limit
"""  # noqa: S608 - written above
_OF_ALL: Final = _WITHIN % {"whose": "", "whose_too": ""}
_OF_ONE: Final = _WITHIN % {
    "whose": "AND occurrences.job_id = :job_id",
    "whose_too": "AND +occurrences.job_id = :job_id",
}
_MISSED: Final = f"""
    {_SLOT} {_FROM} WHERE fate = 'missed' AND occurrences.scheduled_for >= :since
        AND (jobs.last_executed_at IS NULL OR jobs.last_executed_at < coalesce(until, occurrences.scheduled_for))
    ORDER BY occurrences.scheduled_for DESC, occurrences.job_id LIMIT :limit
"""
_NEAR: Final = f"""
    SELECT * FROM (
        {_SLOT} {_FROM} WHERE occurrences.job_id = :job_id AND occurrences.scheduled_for <= :around
        ORDER BY occurrences.scheduled_for DESC LIMIT 2
    ) UNION ALL SELECT * FROM (
        {_SLOT} {_FROM} WHERE occurrences.job_id = :job_id AND occurrences.scheduled_for > :around
        ORDER BY occurrences.scheduled_for LIMIT 2
    ) ORDER BY scheduled_for
"""  # noqa: S608 - written above
# Of a job that ran ever since, so many slots are looked through for one that did not.
_LOOKED_AT: Final = 5_000
_LAST: Final = f"""
    SELECT * FROM (
        {_SLOT} {_FROM} WHERE occurrences.job_id = :job_id ORDER BY occurrences.scheduled_for DESC LIMIT {_LOOKED_AT}
    ) ORDER BY fate IN ('ran', 'caught_up'), scheduled_for DESC LIMIT 1
"""  # noqa: S608 - written above

_COMING: Final = """
    SELECT id, name, cron, timezone, starts_at, ends_at, blackouts, next_run_at, paused_at, paused_until FROM jobs
    WHERE enabled = 1 AND removed_at IS NULL AND next_run_at IS NOT NULL AND next_run_at < :until
        AND (paused_at IS NULL OR paused_until < :until)
    ORDER BY next_run_at, id
"""


class Coming(NamedTuple):
    """A job that is due before long: what its slots are worked out from."""

    id: str
    name: str
    timetable: Timetable
    next_run_at: datetime


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned slot of a job, or several in a row, and what became of it.

    Attributes:
        until: The last of several.
        count: How many; `None` for more than were worth counting.
        reason: A sentence for a person, where it did not simply run.
        run_id: The run that it became, while that is kept, with its `state` and its `cost_usd`.
    """

    job_id: str
    job_name: str
    scheduled_for: datetime
    until: datetime | None
    count: int | None
    fate: Fate
    reason: str | None
    run_id: str | None
    state: State | None
    cost_usd: float | None


def occurrences(
    c: sqlite3.Connection, since: datetime, until: datetime, job_id: str | None, limit: int
) -> list[Slot]:
    """Read the slots from one instant on and before another, those that reach into it among them."""
    values = {"since": to_text(since), "until": to_text(until), "job_id": job_id, "limit": limit}
    statement = _OF_ALL if job_id is None else _OF_ONE
    return [_slot_from(row) for row in c.execute(statement, values)]


def missed(c: sqlite3.Connection, since: datetime, limit: int) -> list[Slot]:
    """Read the slots that were missed from an instant on by jobs that have not run since, latest first."""
    return [_slot_from(row) for row in c.execute(_MISSED, {"since": to_text(since), "limit": limit})]


def near(c: sqlite3.Connection, job_id: str, around: datetime | None) -> list[Slot]:
    """Read the job's slots next to a time, in their order; without one, its last that did not run, else its last."""
    if around is None:
        rows = c.execute(_LAST, {"job_id": job_id})
    else:
        rows = c.execute(_NEAR, {"job_id": job_id, "around": to_text(around)})
    return [_slot_from(row) for row in rows]


def coming(c: sqlite3.Connection, until: datetime) -> list[Coming]:
    """Read the jobs whose next slot comes before an instant, the first due first; one that can't be read has none.

    The slots of a job that is paused are those after its pause.
    """
    found = _coming(c.execute(_COMING, {"until": to_text(until)}), until)
    return sorted(found, key=lambda coming: coming.next_run_at)


def _coming(rows: Iterable[sqlite3.Row], until: datetime) -> Iterator[Coming]:
    for row in rows:
        with suppress(InvalidError, ValueError):
            bounds = [from_text(row[name]) for name in ("starts_at", "paused_until") if row[name] is not None]
            timetable = Timetable(
                parse(row["cron"], row["timezone"]),
                max(bounds, default=None),
                row["ends_at"] and from_text(row["ends_at"]),
                tuple(map(parse_blackout, json.loads(row["blackouts"]))),
            )
            first: datetime | None = from_text(row["next_run_at"])
            if (row["paused_until"] or "") > row["next_run_at"]:
                first = timetable.next(from_text(row["paused_until"]) - timedelta.resolution)
            if first is not None and first < until:
                yield Coming(row["id"], row["name"], timetable, first)


def _slot_from(row: sqlite3.Row) -> Slot:
    return Slot(
        job_id=row["job_id"],
        job_name=row["job_name"],
        scheduled_for=from_text(row["scheduled_for"]),
        until=None if row["until"] is None else from_text(row["until"]),
        count=row["count"],
        fate=Fate(row["fate"]),
        reason=row["reason"],
        run_id=row["run_id"],
        state=None if row["state"] is None else State(row["state"]),
        cost_usd=row["cost_usd"],
    )
