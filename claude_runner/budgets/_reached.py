"""Whether anything more may start: what was spent, compared with what may be."""

# ruff: noqa: ARG001, ARG002

import sqlite3
from datetime import datetime

from claude_runner.budgets._records import Reached


def reached(
    c: sqlite3.Connection, now: datetime, job_id: str | None = None, webhook_id: str | None = None
) -> Reached | None:
    """Read which budget is used up, so that no run may start: everybody's, or that of a job or a webhook."""
    return None
