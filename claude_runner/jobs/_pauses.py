"""Pauses of a job: it stays as it is, and its slots are skipped until the pause ends or somebody ends it."""

import sqlite3
from datetime import datetime, timedelta
from typing import Final

from claude_runner.db import to_text
from claude_runner.jobs._records import Job, Pause, readable
from claude_runner.jobs._slots import Fate, Occurrence, record_skip

_INSTANT: Final = timedelta.resolution

_PAUSE = """
    UPDATE jobs SET paused_at = :since, paused_until = :until, paused_by = :by, paused_reason = :reason
    WHERE id = :id AND removed_at IS NULL AND (paused_at IS NULL OR paused_until <= :since) RETURNING id
"""
_RESUME = """
    UPDATE jobs SET paused_at = NULL, paused_until = NULL, paused_by = NULL, paused_reason = NULL, failures = 0
    WHERE id = :id AND removed_at IS NULL AND paused_at IS NOT NULL RETURNING id
"""
_BY_THEMSELVES = """
    SELECT * FROM jobs WHERE paused_by <> 'owner' AND removed_at IS NULL ORDER BY paused_at DESC, id LIMIT :limit
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


def skip_unseen(c: sqlite3.Connection, job: Job, now: datetime) -> None:
    """Skip the slots of a job's pause that have come and that nobody has looked at yet."""
    pause, first = job.pause, job.next_run_at
    if pause is None or first is None or not job.enabled:
        return
    end = now if pause.until is None else min(now, pause.until - _INSTANT)
    if first > end:
        return
    timetable = job.timetable
    last = timetable.latest(first, end)
    count = timetable.count(first, end + _INSTANT)
    record_skip(c, job.id, Occurrence(first, Fate.SKIPPED_PAUSED, pause.sentence, last, count))
    following = timetable.next(end)
    c.execute(
        "UPDATE jobs SET next_run_at = :next WHERE id = :id",
        {"id": job.id, "next": None if following is None else to_text(following)},
    )


def by_themselves(c: sqlite3.Connection, limit: int) -> list[Job]:
    """Read the jobs that were paused by what their runs came to, the latest first."""
    rows = c.execute(_BY_THEMSELVES, {"limit": limit})
    return [job for job, _ in readable(rows)]
