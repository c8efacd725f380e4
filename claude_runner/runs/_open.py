"""The runs of a job or a webhook that have not ended: which there are, and how they make way."""

import sqlite3
from datetime import datetime
from typing import NamedTuple

from claude_runner.db import to_text

# Written out, as the partial indices stand for it: else every run there ever was is looked at.
_OPEN = "state IN ('pending', 'running')"
_UNFINISHED = f"""
    SELECT id FROM runs WHERE job_id = :job_id AND {_OPEN} ORDER BY state DESC, created_at, id
"""  # noqa: S608 - written above
_IN_THE_WAY = f"""
    SELECT id, state FROM runs WHERE job_id = :job_id AND {_OPEN}
        AND (state = 'running' OR parent_run_id IS NULL OR attempt > 0 OR not_before IS NULL OR not_before <= :now)
    ORDER BY state DESC, created_at, id LIMIT 50
"""  # noqa: S608 - written above
_CANCEL_SUPERSEDED = f"""
    UPDATE runs SET state = 'cancelled', error = :error, reason = 'superseded', superseded = 1, finished_at = :now
    WHERE job_id = :job_id AND {_OPEN} AND state = 'pending' AND (parent_run_id IS NULL OR attempt > 0)
    RETURNING id
"""  # noqa: S608 - written above
_SUPERSEDE = f"""
    UPDATE runs SET superseded = 1 WHERE job_id = :job_id AND {_OPEN} AND state = 'running' RETURNING id
"""  # noqa: S608 - written above
# As a claim has it.
_AHEAD = f"""
    SELECT other.id FROM runs AS waiting, runs AS other
    WHERE waiting.id = :id AND (waiting.alone = 1 OR waiting.parent_run_id IS NOT NULL)
        AND other.{_OPEN} AND other.state = 'running'
        AND (other.id = waiting.parent_run_id OR other.job_id = waiting.job_id)
    ORDER BY other.started_at, other.id LIMIT 1
"""  # noqa: S608 - written above
_UNFINISHED_OF_WEBHOOK = f"""
    SELECT id FROM runs WHERE webhook_id = :webhook_id AND {_OPEN} ORDER BY created_at, id
"""  # noqa: S608 - written above
_CANCEL_PENDING_OF_WEBHOOK = f"""
    UPDATE runs SET state = 'cancelled', error = :error, reason = 'cancelled', finished_at = :now
    WHERE webhook_id = :webhook_id AND {_OPEN} AND state = 'pending' RETURNING id
"""  # noqa: S608 - written above


def unfinished(c: sqlite3.Connection, job_id: str) -> tuple[str, ...]:
    """Read the ids of the job's runs that are going on, and of those that wait, each oldest first."""
    return tuple(row["id"] for row in c.execute(_UNFINISHED, {"job_id": job_id}))


def unfinished_of_webhook(c: sqlite3.Connection, webhook_id: str) -> tuple[str, ...]:
    """Read the ids of the webhook's runs that wait or are going on, oldest first."""
    rows = c.execute(_UNFINISHED_OF_WEBHOOK, {"webhook_id": webhook_id})
    return tuple(row["id"] for row in rows)


class Open(NamedTuple):
    """Which runs of a job have not ended.

    Attributes:
        first: The one that is going on, else the one that has waited longest.
        pending: One that waits.
    """

    first: str | None
    pending: str | None

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return self.first is not None


def open_of_job(c: sqlite3.Connection, job_id: str, now: datetime) -> Open:
    """Read which runs of the job have not ended; a follow-up that waits for its time is none of them."""
    rows = c.execute(_IN_THE_WAY, {"job_id": job_id, "now": to_text(now)}).fetchall()
    ids = {row["state"]: str(row["id"]) for row in reversed(rows)}
    return Open(str(rows[0]["id"]) if rows else None, ids.get("pending"))


def in_the_way_of(c: sqlite3.Connection, run_id: str) -> str | None:
    """Read the id of the run that goes on whose end this one waits for; `None` where none keeps it back."""
    row = c.execute(_AHEAD, {"id": run_id}).fetchone()
    return None if row is None else str(row["id"])


def supersede(c: sqlite3.Connection, job_id: str, error: str, now: datetime) -> list[str]:
    """Cancel the job's runs that wait, but for follow-ups, and mark those that go on, which must be stopped then.

    Returns:
        The ids of all of them.
    """
    values = {"job_id": job_id, "error": error, "now": to_text(now)}
    rows = [*c.execute(_CANCEL_SUPERSEDED, values).fetchall(), *c.execute(_SUPERSEDE, values).fetchall()]
    return [str(row["id"]) for row in rows]


def is_superseded(c: sqlite3.Connection, run_id: str) -> bool:
    """Tell whether a newer run takes the place of this one."""
    row = c.execute("SELECT superseded FROM runs WHERE id = :id", {"id": run_id}).fetchone()
    return row is not None and bool(row["superseded"])


def cancel_pending_of_webhook(
    c: sqlite3.Connection, webhook_id: str, error: str, now: datetime
) -> tuple[str, ...]:
    """Cancel the webhook's runs that have not started, however many; returns their ids."""
    values = {"webhook_id": webhook_id, "error": error, "now": to_text(now)}
    return tuple(row["id"] for row in c.execute(_CANCEL_PENDING_OF_WEBHOOK, values))
