"""How often in a row the runs of a job, or of a webhook, failed, and since when the attempts at a run do."""

import sqlite3
from datetime import datetime
from typing import Final

from claude_runner.db import from_text
from claude_runner.runs._records import Run

# Each by the index of its runs, which has all that is asked for.
_OF_JOB: Final = """
    SELECT state FROM runs
    WHERE job_id = :of AND id <> :run_id AND state IN ('finished', 'error') AND rehearsal = 0
    ORDER BY created_at DESC, id DESC LIMIT :limit
"""
_OF_WEBHOOK: Final = """
    SELECT state FROM runs
    WHERE webhook_id = :of AND id <> :run_id AND state IN ('finished', 'error', 'cancelled') AND state <> 'cancelled'
        AND rehearsal = 0
    ORDER BY created_at DESC, id DESC LIMIT :limit
"""
_FAILED: Final = """
    SELECT at FROM run_events WHERE run_id = :id AND kind = 'notice'
        AND json_extract(body, '$.notice') = 'attempt_failed' AND json_extract(body, '$.reason') = :reason
    ORDER BY seq LIMIT 1
"""


def failures_before(c: sqlite3.Connection, run: Run, limit: int) -> int:
    """Count the failures in a row just before a run, at the most `limit`; what was cancelled is passed over.

    Of a run that has neither a job nor a webhook there are none.
    """
    select, of = (_OF_JOB, run.job_id) if run.job_id is not None else (_OF_WEBHOOK, run.webhook_id)
    if of is None or limit <= 0:
        return 0
    rows = c.execute(select, {"of": of, "run_id": run.id, "limit": limit}).fetchall()
    count = 0
    for row in rows:
        if row["state"] != "error":
            break
        count += 1
    return count


def first_failed_at(c: sqlite3.Connection, run: Run, reason: str) -> datetime | None:
    """Read when an attempt at a run first failed for a reason and was to be made again; `None` where none has."""
    row = None if run.attempt <= 1 else c.execute(_FAILED, {"id": run.id, "reason": reason}).fetchone()
    return None if row is None else from_text(row["at"])
