"""Jobs that somebody deleted and may take back for a while: `removed_at` hides them from everybody else."""

import sqlite3
from datetime import datetime, timedelta
from typing import Final

from claude_runner.db import from_text, to_text
from claude_runner.jobs._records import Job, job_from, readable

KEPT_FOR: Final = timedelta(hours=1)
BATCH: Final = 100  # runs that are deleted at a time: whoever else writes does not wait for all of them

_DISCARD: Final = """
    UPDATE jobs SET removed_at = :now, next_run_at = NULL WHERE id = :id AND removed_at IS NULL AND NOT EXISTS
        (SELECT 1 FROM runs WHERE job_id = :id AND state IN ('pending', 'running'))
    RETURNING id
"""
_FIND: Final = "SELECT * FROM jobs WHERE id = :id AND removed_at IS NOT NULL"
_RESTORE: Final = """
    UPDATE jobs SET removed_at = NULL, next_run_at = :next_run_at, updated_at = :now
    WHERE id = :id AND removed_at IS NOT NULL RETURNING *
"""
_ALL: Final = "SELECT * FROM jobs WHERE removed_at IS NOT NULL ORDER BY removed_at DESC, id"
_OVER: Final = (
    "SELECT id FROM jobs WHERE removed_at IS NOT NULL AND removed_at <= :before ORDER BY removed_at"
)
_FIRST: Final = "SELECT min(removed_at) FROM jobs WHERE removed_at IS NOT NULL"
_DELETE_RUNS: Final = """
    DELETE FROM runs WHERE id IN (
        SELECT runs.id FROM runs JOIN jobs ON jobs.id = job_id
        WHERE job_id = :id AND removed_at IS NOT NULL LIMIT :batch
    ) RETURNING id
"""
_DELETE: Final = "DELETE FROM jobs WHERE id = :id AND removed_at IS NOT NULL"


def discard(c: sqlite3.Connection, job_id: str, now: datetime) -> bool:
    """Hide a job, unless a run of it waits or is going on, or it is hidden; tells whether it was hidden now."""
    return c.execute(_DISCARD, {"id": job_id, "now": to_text(now)}).fetchone() is not None


def find_discarded(c: sqlite3.Connection, job_id: str) -> Job | None:
    """Read a job that is hidden."""
    row = c.execute(_FIND, {"id": job_id}).fetchone()
    return None if row is None else job_from(row)


def restore(c: sqlite3.Connection, job: Job, now: datetime) -> Job | None:
    """Take a job back, its next slot planned anew; `None` where somebody else did, or it is gone."""
    next_run_at = job.timetable.next(now) if job.enabled else None
    values = {
        "id": job.id,
        "now": to_text(max(now, job.updated_at + timedelta(milliseconds=1))),
        "next_run_at": None if next_run_at is None else to_text(next_run_at),
    }
    row = c.execute(_RESTORE, values).fetchone()
    return None if row is None else job_from(row)


def discarded(c: sqlite3.Connection) -> list[tuple[Job, datetime]]:
    """Read the jobs that are hidden, latest first, with when each is deleted."""
    return [(job, from_text(row["removed_at"]) + KEPT_FOR) for job, row in readable(c.execute(_ALL))]


def over(c: sqlite3.Connection, now: datetime) -> list[str]:
    """Read the ids of the jobs that have been hidden for long enough."""
    return [row["id"] for row in c.execute(_OVER, {"before": to_text(now - KEPT_FOR)})]


def next_over_at(c: sqlite3.Connection) -> datetime | None:
    """Read when the next hidden job is to be deleted."""
    (first,) = c.execute(_FIRST).fetchone()
    return None if first is None else from_text(first) + KEPT_FOR


def delete_some(c: sqlite3.Connection, job_id: str) -> bool:
    """Delete some runs of a hidden job, or the job itself where it has none; tells whether there is more to delete."""
    if c.execute(_DELETE_RUNS, {"id": job_id, "batch": BATCH}).fetchall():
        return True
    c.execute(_DELETE, {"id": job_id})
    return False
