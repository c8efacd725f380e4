"""The schedule's side of a job: which slot comes next, whose it is to take, and what becomes of it."""

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.errors import InvalidError
from claude_runner.jobs._records import Job, job_from, readable

FAR: Final = timedelta(days=1)  # what is nearer comes soon enough

_DUE = """
    SELECT * FROM jobs WHERE enabled = 1 AND next_run_at IS NOT NULL AND next_run_at <= :now
    ORDER BY next_run_at, id LIMIT :limit
"""
_TAKE_SLOT = """
    UPDATE jobs SET next_run_at = :next
    WHERE id = :id AND next_run_at = :slot AND enabled = 1 AND paused_at IS :paused_at AND paused_until IS :paused_until
    RETURNING id
"""
_RECORD = """
    INSERT INTO occurrences (job_id, scheduled_for, fate, reason, until, count)
    VALUES (:job_id, :scheduled_for, :fate, :reason, :until, :count)
    ON CONFLICT (job_id, scheduled_for) DO NOTHING RETURNING job_id
"""
_FAR = "SELECT * FROM jobs WHERE enabled = 1 AND next_run_at > :then"
_LAST = """
    SELECT scheduled_for, fate, reason, count, coalesce(until, scheduled_for) AS last FROM occurrences
    WHERE job_id = :job_id
    ORDER BY scheduled_for DESC LIMIT 1
"""
_GROW = """
    UPDATE occurrences SET until = :until, count = count + :more
    WHERE job_id = :job_id AND scheduled_for = :scheduled_for
"""


class Fate(StrEnum):
    """What became of a planned slot."""

    RAN = "ran"
    CAUGHT_UP = "caught_up"
    SKIPPED_OVERLAP = "skipped_overlap"
    SKIPPED_BUDGET = "skipped_budget"
    SKIPPED_PAUSED = "skipped_paused"
    SKIPPED_BLACKOUT = "skipped_blackout"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What became of a slot, or of several in a row.

    Attributes:
        scheduled_for: The slot, the first of several.
        reason: A sentence for a person, where it did not simply run.
        until: The last of several slots.
        count: How many slots; `None` for more than were worth counting.
    """

    scheduled_for: datetime
    fate: Fate
    reason: str | None = None
    until: datetime | None = None
    count: int | None = 1


class Due(NamedTuple):
    """A job whose slot has come."""

    job: Job
    slot: datetime


class Broken(NamedTuple):
    """A job that somebody edited by hand, so that it can't be read or planned any more.

    Attributes:
        slot: Its next slot, as it is written.
        error: What is wrong with it.
    """

    id: str
    slot: str
    error: str


def due(c: sqlite3.Connection, now: datetime, limit: int) -> list[Due | Broken]:
    """Read the jobs whose slot has come, longest waiting first."""
    return [_due(row) for row in c.execute(_DUE, {"now": to_text(now), "limit": limit})]


def next_due_at(c: sqlite3.Connection) -> datetime | None:
    """Read when the next slot of any job comes."""
    (first,) = c.execute(
        "SELECT min(next_run_at) FROM jobs WHERE enabled = 1 AND next_run_at IS NOT NULL"
    ).fetchone()
    return None if first is None else from_text(first)


def take_slot(c: sqlite3.Connection, due: Due, next_run_at: datetime | None) -> bool:
    """Move the job on to its next slot, unless it was moved, paused or changed meanwhile; tells whether it was not."""
    row = c.execute("SELECT updated_at FROM jobs WHERE id = :id", {"id": due.job.id}).fetchone()
    if row is None or from_text(row["updated_at"]) != due.job.updated_at:
        return False
    pause = due.job.pause
    values = {
        "id": due.job.id,
        "slot": to_text(due.slot),
        "next": _text(next_run_at),
        "paused_at": None if pause is None else to_text(pause.since),
        "paused_until": None if pause is None else _text(pause.until),
    }
    return c.execute(_TAKE_SLOT, values).fetchone() is not None


def record(c: sqlite3.Connection, job_id: str, occurrence: Occurrence) -> bool:
    """Write down what becomes of a slot, once; tells whether it was not written before."""
    values = {
        "job_id": job_id,
        "scheduled_for": to_text(occurrence.scheduled_for),
        "fate": occurrence.fate,
        "reason": occurrence.reason,
        "until": _text(occurrence.until),
        "count": occurrence.count,
    }
    return c.execute(_RECORD, values).fetchone() is not None


def record_skip(c: sqlite3.Connection, job_id: str, skipped: Occurrence) -> None:
    """Write down that slots were skipped; where those before them were for the same reason, in their row."""
    last = c.execute(_LAST, {"job_id": job_id}).fetchone()
    goes_on = (
        last is not None
        and (last["fate"], last["reason"]) == (skipped.fate, skipped.reason)
        and last["count"] is not None
        and skipped.count is not None
    )
    if not goes_on:
        record(c, job_id, skipped)
        return
    if last["last"] >= to_text(skipped.scheduled_for):  # it was written before
        return
    values = {
        "job_id": job_id,
        "scheduled_for": last["scheduled_for"],
        "until": to_text(skipped.until or skipped.scheduled_for),
        "more": skipped.count,
    }
    c.execute(_GROW, values)


def link_run(c: sqlite3.Connection, job_id: str, scheduled_for: datetime, run_id: str) -> None:
    """Note which run a slot became."""
    c.execute(
        "UPDATE occurrences SET run_id = :run_id WHERE job_id = :job_id AND scheduled_for = :scheduled_for",
        {"run_id": run_id, "job_id": job_id, "scheduled_for": to_text(scheduled_for)},
    )


def ahead(c: sqlite3.Connection, now: datetime) -> list[tuple[Due, datetime]]:
    """Read the jobs that wait for a slot days after the first to come, as a clock was ahead; each with that first."""
    found = []
    for job, row in readable(c.execute(_FAR, {"then": to_text(now + FAR)})):
        with suppress(InvalidError):
            first, planned = job.timetable.next(now), from_text(row["next_run_at"])
            if first is not None and first + FAR < planned:
                found.append((Due(job, planned), first))
    return found


def shelve(c: sqlite3.Connection, broken: Broken) -> None:
    """Take a job that can't be planned out of the schedule and note why."""
    c.execute(
        "UPDATE jobs SET next_run_at = NULL, last_error = :error WHERE id = :id AND next_run_at = :slot",
        {"id": broken.id, "slot": broken.slot, "error": f"not scheduled any more: {broken.error}"},
    )


def _due(row: sqlite3.Row) -> Due | Broken:
    try:
        job = job_from(row)
        job.timetable  # noqa: B018 - raises where it can't be read
    except InvalidError as error:
        return Broken(row["id"], row["next_run_at"], str(error))
    return Due(job, from_text(row["next_run_at"]))


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else to_text(instant)
