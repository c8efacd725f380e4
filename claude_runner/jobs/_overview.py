"""Jobs as a list shows them: each with what its runs came to, which triggers keep, so that no run is counted."""

import logging
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from claude_runner.errors import InvalidError
from claude_runner.jobs._records import Job, job_from, readable

MOST_WORDS: Final = 8

_RUNNING: Final = """
    (SELECT id FROM runs WHERE job_id = jobs.id AND state IN ('pending', 'running') AND state = 'running' LIMIT 1)
"""  # the terms of a partial index must be written out
_FROM: Final = "FROM jobs LEFT JOIN job_totals AS totals ON totals.job_id = jobs.id WHERE removed_at IS NULL"
_ROW: Final = f"""
    SELECT jobs.*, {_RUNNING} AS running, coalesce(runs, 0) AS runs, coalesce(failed, 0) AS failed,
        coalesce(cost_usd, 0.0) AS cost_usd, coalesce(priced, 0) AS priced, coalesce(seconds, 0.0) AS seconds,
        coalesce(recent, '') AS recent
    {_FROM} AND jobs.id = :id
"""
_FAILING: Final = f"""
    SELECT jobs.* {_FROM} AND enabled = 1 AND (totals.failing = 1 OR (next_run_at IS NULL AND last_error IS NOT NULL))
    ORDER BY last_executed_at DESC, jobs.id LIMIT :limit
"""

log = logging.getLogger(__name__)


class JobState(StrEnum):
    """Which jobs a list is of."""

    ENABLED = "enabled"
    PAUSED = "paused"
    FAILING = "failing"
    RUNNING = "running"


class JobSort(StrEnum):
    """What a list is ordered by; `cost` is that of a run."""

    NAME = "name"
    NEXT = "next"
    LAST = "last"
    COST = "cost"
    CREATED = "created"


_TERMS: Final = {
    JobState.ENABLED: "enabled = 1",
    JobState.PAUSED: "(enabled = 0 OR paused_at IS NOT NULL)",
    JobState.FAILING: "totals.failing = 1",
    JobState.RUNNING: f"{_RUNNING} IS NOT NULL",
}
_KEYS: Final = {
    JobSort.NAME: "lower(jobs.name)",
    JobSort.NEXT: "next_run_at",
    JobSort.LAST: "last_executed_at",
    JobSort.COST: "cost_usd / nullif(priced, 0)",
    JobSort.CREATED: "jobs.created_at",
}


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs are looked for, and in which order; those that have nothing to be ordered by come last.

    Attributes:
        text: Words that must all occur in the name, the prompt or the id.
        state: `None` is any. `failing`: the last run that was not cancelled failed. `paused`: disabled, or paused and
            not come to a slot since.
    """

    text: str = ""
    state: JobState | None = None
    sort: JobSort = JobSort.NAME
    descending: bool = False


class Outcome(StrEnum):
    """What became of a run or a slot of a job."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    MISSED = "missed"
    REHEARSED = "rehearsed"
    REHEARSAL_FAILED = "rehearsal_failed"


_OUTCOMES: Final = {
    "o": Outcome.OK,
    "f": Outcome.FAILED,
    "c": Outcome.CANCELLED,
    "s": Outcome.SKIPPED,
    "m": Outcome.MISSED,
    "r": Outcome.REHEARSED,
    "x": Outcome.REHEARSAL_FAILED,
}  # as the schema writes them


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job with what came of it.

    Attributes:
        runs: How many ended, those since deleted and rehearsals among them; `failed` of them failed.
        cost_usd: US dollars, of the runs whose price is known, of which there are `priced`.
        seconds: From their starts to their ends.
        recent: What became of its last 20 runs and slots, oldest first; a slot that ran is its run.
        running: The id of a run that is going on.
    """

    job: Job
    runs: int
    failed: int
    cost_usd: float
    priced: int
    seconds: float
    recent: tuple[Outcome, ...]
    running: str | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the jobs of a list.

    Attributes:
        unreadable: Ids of those on this page that somebody has edited by hand so that they can't be read.
    """

    rows: list[JobRow]
    total: int
    unreadable: tuple[str, ...] = ()


def overview(c: sqlite3.Connection, query: JobQuery, limit: int, offset: int) -> JobPage:
    """Read a page."""
    terms, values = _terms(query)
    key, order = _KEYS[JobSort(query.sort)], "DESC" if query.descending else "ASC"
    select = f"SELECT jobs.id {_FROM} {terms} ORDER BY {key} IS NULL, {key} {order}, jobs.id {order}"
    ids = [row["id"] for row in c.execute(select, values)]
    rows: list[JobRow] = []
    unreadable: list[str] = []
    for job_id in ids[offset : offset + limit]:
        try:
            found = row(c, job_id)
        except InvalidError as error:  # it must not hold up the others
            log.warning("a list leaves it out: %s", error)
            unreadable.append(job_id)
        else:
            rows += [] if found is None else [found]
    return JobPage(rows, len(ids), tuple(unreadable))


def row(c: sqlite3.Connection, job_id: str) -> JobRow | None:
    """Read a job with what came of it."""
    found = c.execute(_ROW, {"id": job_id}).fetchone()
    if found is None:
        return None
    return JobRow(
        job=job_from(found),
        runs=found["runs"],
        failed=found["failed"],
        cost_usd=found["cost_usd"],
        priced=found["priced"],
        seconds=found["seconds"],
        recent=tuple(_OUTCOMES[letter] for letter in found["recent"]),
        running=found["running"],
    )


def failing(c: sqlite3.Connection, limit: int) -> list[Job]:
    """Read the enabled jobs whose last run failed, or that can't be scheduled, latest first."""
    return [job for job, _ in readable(c.execute(_FAILING, {"limit": limit}))]


def day_budgets(c: sqlite3.Connection) -> dict[str, float]:
    """Read what the runs of a day may cost of those jobs that decide it themselves, in US dollars by id."""
    rows = c.execute("SELECT id, max_cost_per_day_usd FROM jobs WHERE max_cost_per_day_usd IS NOT NULL")
    return {row["id"]: row["max_cost_per_day_usd"] for row in rows}


def title(c: sqlite3.Connection, job_id: str) -> str | None:
    """Read what a job is called; `None` where there is none."""
    row = c.execute("SELECT name FROM jobs WHERE id = :id AND removed_at IS NULL", {"id": job_id}).fetchone()
    return None if row is None else str(row["name"])


def _terms(query: JobQuery) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    terms = "" if query.state is None else f" AND {_TERMS[JobState(query.state)]}"
    for number, word in enumerate(query.text.split()[:MOST_WORDS]):
        values[f"word{number}"] = f"%{_literal(word)}%"
        like = f"LIKE :word{number} ESCAPE '\\'"
        terms += f" AND (jobs.name {like} OR prompt {like} OR jobs.id {like})"
    return terms, values


def _literal(word: str) -> str:
    """Return a word as a pattern that stands for nothing but itself."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
