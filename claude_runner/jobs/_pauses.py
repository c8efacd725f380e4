"""Pauses of a job: it stays as it is, and its slots are skipped until the pause ends or somebody ends it."""

import sqlite3
from datetime import datetime

from claude_runner.db import to_text
from claude_runner.jobs._records import Job, Pause

_PAUSE = """
    UPDATE jobs SET paused_at = :since, paused_until = :until, paused_by = :by, paused_reason = :reason
    WHERE id = :id AND removed_at IS NULL AND (paused_at IS NULL OR paused_until <= :since) RETURNING id
"""
_RESUME = """
    UPDATE jobs SET paused_at = NULL, paused_until = NULL, paused_by = NULL, paused_reason = NULL, failures = 0
    WHERE id = :id AND removed_at IS NULL AND paused_at IS NOT NULL RETURNING id
"""


def pause(c: sqlite3.Connection, job_id: str, pause: Pause) -> bool:
    """Pause a job; tells whether it was not paused already."""
    values = {
        "id": job_id,
        "since": to_text(pause.since),
        "until": None if pause.until is None else to_text(pause.until),
        "by": pause.by.value,
        "reason": pause.reason,
    }
    return c.execute(_PAUSE, values).fetchone() is not None


def resume(c: sqlite3.Connection, job_id: str) -> bool:
    """End a job's pause, its failures forgotten; tells whether it was paused."""
    return c.execute(_RESUME, {"id": job_id}).fetchone() is not None


def plan_anew(c: sqlite3.Connection, job: Job, now: datetime) -> None:
    """Let the job's next slot be the first that comes after an instant."""
    following = job.timetable.next(now) if job.enabled else None
    c.execute(
        "UPDATE jobs SET next_run_at = :next WHERE id = :id",
        {"id": job.id, "next": None if following is None else to_text(following)},
    )
