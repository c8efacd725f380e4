"""What runs cost that have not ended, and what a job's runs cost as a rule."""

import sqlite3
from statistics import median
from typing import Final

from claude_runner.runs._usage import Dimension

FEW: Final = 5  # finished runs of a job, below which nothing is usual for it

_GOING_ON: Final = """
    SELECT total(cost_usd) FROM runs WHERE state IN ('pending', 'running') AND cost_usd > 0
        AND (:job_id IS NULL OR job_id = :job_id) AND (:webhook_id IS NULL OR webhook_id = :webhook_id)
"""
# Of a job's last runs, however many of them have failed: it is asked at each start.
_LATEST_COSTS: Final = """
    SELECT cost_usd FROM (
        SELECT state, rehearsal, cost_usd FROM runs WHERE job_id = :job_id ORDER BY created_at DESC, id DESC LIMIT 500
    ) WHERE state = 'finished' AND rehearsal = 0 AND cost_usd IS NOT NULL LIMIT 20
"""


def cost_going_on(c: sqlite3.Connection, job_id: str | None = None, webhook_id: str | None = None) -> float:
    """Read what runs that have not ended have cost up to now: all, or those of a job or of a webhook."""
    (cost,) = c.execute(_GOING_ON, {"job_id": job_id, "webhook_id": webhook_id}).fetchone()
    return float(cost)


def costs_going_on(c: sqlite3.Connection, dimension: Dimension) -> dict[str, float]:
    """Read what runs that have not ended have cost up to now, by the job or the webhook that they are of."""
    column = {Dimension.JOB: "job_id", Dimension.WEBHOOK: "webhook_id"}[dimension]
    rows = c.execute(
        f"SELECT {column} AS key, total(cost_usd) AS cost FROM runs "  # noqa: S608 - one of two names
        f"WHERE state IN ('pending', 'running') AND cost_usd > 0 AND {column} IS NOT NULL GROUP BY {column}"
    )
    return {row["key"]: row["cost"] for row in rows}


def cost_so_far(c: sqlite3.Connection, run_id: str) -> float | None:
    """Read what a run that waits or goes on has cost up to now; `None` where it has ended."""
    row = c.execute("SELECT state, cost_usd FROM runs WHERE id = :id", {"id": run_id}).fetchone()
    if row is None or row["state"] not in {"pending", "running"}:
        return None
    return row["cost_usd"] or 0.0


def usual_cost(c: sqlite3.Connection, job_id: str) -> float | None:
    """Read the median of what the last runs of a job have cost that finished; `None` where they are too few to tell."""
    costs = [row["cost_usd"] for row in c.execute(_LATEST_COSTS, {"job_id": job_id})]
    return median(costs) if len(costs) >= FEW else None
