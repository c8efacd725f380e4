"""Chains of runs: one that nobody but a person or a schedule asked for, and those that runs of it asked for."""

import sqlite3
from typing import Final, NamedTuple

from claude_runner.runs._records import Report, Run, run_from
from claude_runner.runs._rows import RunRow, rows_of

_OF_CHAIN: Final = "FROM runs WHERE root_run_id = :chain OR id = :chain"
_CHAIN: Final = f"""
    SELECT count(root_run_id), coalesce(sum(cost_usd), 0.0), count(started_at) - count(cost_usd)
    {_OF_CHAIN}
"""
_LATEST_OF_CHAIN: Final = f"SELECT * {_OF_CHAIN} ORDER BY created_at DESC, id DESC LIMIT :limit"
_LATEST_OF_JOB: Final = """
    SELECT * FROM runs WHERE job_id = :job_id ORDER BY created_at DESC, id DESC LIMIT :limit
"""
_CHILDREN: Final = """
    SELECT id FROM runs WHERE parent_run_id = :id ORDER BY created_at, id LIMIT :limit
"""
_FENCE: Final = "WHERE id = :id AND attempt = :attempt AND state = 'running'"


class Chain(NamedTuple):
    """What a chain has come to.

    Attributes:
        follow_ups: How many of its runs were asked for by another.
        cost_usd: What those of known price cost together.
        unpriced: How many were started and have no known price, those that are going on among them.
    """

    follow_ups: int
    cost_usd: float
    unpriced: int


def chain_of(c: sqlite3.Connection, run: Run) -> Chain:
    """Read what the chain of a run has come to."""
    return Chain(*c.execute(_CHAIN, {"chain": run.chain}).fetchone())


def latest_of(c: sqlite3.Connection, run: Run, limit: int) -> list[Run]:
    """Read the newest runs of a run's job, or of its chain where there is no job, itself included."""
    statement = _LATEST_OF_CHAIN if run.job_id is None else _LATEST_OF_JOB
    values = {"chain": run.chain, "job_id": run.job_id, "limit": limit}
    return [run_from(row) for row in c.execute(statement, values)]


def children_of(c: sqlite3.Connection, run_id: str, limit: int) -> list[RunRow]:
    """Read the runs that a run asked for, oldest first."""
    found = c.execute(_CHILDREN, {"id": run_id, "limit": limit}).fetchall()
    return rows_of(c, [child_id for (child_id,) in found])


def going_on(c: sqlite3.Connection, run: Run) -> Run | None:
    """Read the attempt as it stands; `None` where it is not going on any more, so that it may not write."""
    row = c.execute(f"SELECT * FROM runs {_FENCE}", _fenced(run)).fetchone()  # noqa: S608 - written above
    return None if row is None else run_from(row)


def report(c: sqlite3.Connection, run: Run, said: Report) -> bool:
    """Write what the attempt says of its task, in place of what it said before; tells whether it may still write."""
    statement = f"UPDATE runs SET report_status = :status, report_summary = :summary {_FENCE} RETURNING id"  # noqa: S608 - above
    values = _fenced(run) | {"status": said.status, "summary": said.summary}
    return c.execute(statement, values).fetchone() is not None


def _fenced(run: Run) -> dict[str, str | int]:
    return {"id": run.id, "attempt": run.attempt}
