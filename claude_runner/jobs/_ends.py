"""What a job notes of the ends of its runs."""

import sqlite3
from datetime import datetime

from claude_runner.db import to_text


def record_execution(c: sqlite3.Connection, job_id: str, at: datetime, error: str | None) -> None:
    """Note on the job when its last run ended, and what was wrong with it, if anything."""
    c.execute(
        "UPDATE jobs SET last_executed_at = :at, last_error = :error WHERE id = :id",
        {"id": job_id, "at": to_text(at), "error": error},
    )


def count_failures(c: sqlite3.Connection, job_id: str, failures: int) -> None:
    """Note on the job how many of its runs have failed in a row."""
    c.execute(
        "UPDATE jobs SET failures = :failures WHERE id = :id AND failures <> :failures",
        {"id": job_id, "failures": failures},
    )
