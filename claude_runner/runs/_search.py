"""Which runs there are: filters and pages."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from claude_runner.db import to_text
from claude_runner.runs._places import cursor_of, place_of
from claude_runner.runs._records import Run, State, Trigger, run_from


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list is of; `None` is any. By when they were made: from `since` on, and before `until`."""

    job_id: str | None = None
    state: State | None = None
    trigger: Trigger | None = None
    since: datetime | None = None
    until: datetime | None = None
    webhook_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Some of the runs of a list, newest first; `next_cursor` asks for those after them."""

    runs: list[Run]
    total: int
    next_cursor: str | None


_WHERE = """
    WHERE (:job_id IS NULL OR job_id = :job_id) AND (:state IS NULL OR state = :state)
        AND (:trigger IS NULL OR trigger = :trigger) AND (:webhook_id IS NULL OR webhook_id = :webhook_id)
        AND (:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)
"""
_PAGE = f"""
    SELECT * FROM runs {_WHERE} AND (:at IS NULL OR (created_at, id) < (:at, :id))
    ORDER BY created_at DESC, id DESC LIMIT :limit
"""  # noqa: S608 - written above
_COUNT = f"SELECT count(*) FROM runs {_WHERE}"  # noqa: S608 - written above


def page(c: sqlite3.Connection, wanted: RunFilter, limit: int, cursor: str | None) -> RunPage:
    """Read a page; raises `InvalidError` where the cursor is not one that a page gave."""
    at, run_id = (None, None) if cursor is None else place_of(cursor, "list_runs")
    values: dict[str, Any] = {
        "job_id": wanted.job_id,
        "state": wanted.state,
        "trigger": wanted.trigger,
        "webhook_id": wanted.webhook_id,
        "since": None if wanted.since is None else to_text(wanted.since),
        "until": None if wanted.until is None else to_text(wanted.until),
    }
    (total,) = c.execute(_COUNT, values).fetchone()
    rows = c.execute(_PAGE, values | {"at": at, "id": run_id, "limit": limit + 1}).fetchall()
    runs = [run_from(row) for row in rows[:limit]]
    more = len(rows) > limit
    return RunPage(runs, total, cursor_of(rows[limit - 1]["created_at"], runs[-1].id) if more else None)
