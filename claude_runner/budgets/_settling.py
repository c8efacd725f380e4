"""What follows from a budget that is used up: its job is paused where it is the job's, and the owner told once."""

import sqlite3
from datetime import datetime, timedelta
from typing import Final

from claude_runner import jobs, settings, telling
from claude_runner.budgets._reached import period_of
from claude_runner.budgets._records import Reached, Scope
from claude_runner.db import to_text
from claude_runner.jobs import Job, Pause, PausedBy
from claude_runner.runs import Run

KEPT: Final = timedelta(days=62)  # for longer than a month nobody asks whether the owner was told

_PAUSES: Final = {Scope.JOB_DAY: PausedBy.BUDGET, Scope.BREAKER: PausedBy.COST_BREAKER}
_EVERYBODYS: Final = frozenset({Scope.DAY, Scope.MONTH})
_TOLD: Final = """
    INSERT INTO budgets_told (scope, key, period, bound_usd, told_at) VALUES (:scope, :key, :period, :bound_usd, :now)
    ON CONFLICT (scope, key, period, bound_usd) DO NOTHING RETURNING scope
"""


def settle(c: sqlite3.Connection, run: Run, reached: Reached, now: datetime) -> bool:
    """Do what follows for a run that was stopped or not started, in the transaction that ends it.

    Returns:
        Whether somebody is to hear of it.
    """
    if run.rehearsal:
        return False
    return _follow(c, reached, None if run.job_id is None else jobs.find(c, run.job_id), run, now)


def pass_over(c: sqlite3.Connection, job: Job, reached: Reached, now: datetime) -> bool:
    """Do what follows for a job whose slot is skipped, in the transaction that writes so down.

    Returns:
        Whether somebody is to hear of it.
    """
    return _follow(c, reached, job, None, now)


def _follow(c: sqlite3.Connection, reached: Reached, job: Job | None, run: Run | None, now: datetime) -> bool:
    sentence = reached.sentence
    paused = False
    by = _PAUSES.get(reached.scope)
    if job is not None and by is not None:
        pause = Pause(now, reached.until, by, sentence)
        if paused := jobs.pause(c, job.id, pause):
            telling.on_pause(c, job, pause, now)
            sentence = f"{sentence}. The job is paused {_how_long(reached)}"
    if not _is_news(c, reached, _whose(reached, job, run), now):
        return paused
    if reached.scope in _EVERYBODYS:
        telling.on_budget(c, f"{sentence}. Until then no run begins", None, None, now)
    else:
        telling.on_budget(c, sentence, job, run, now)
    return True


def _how_long(reached: Reached) -> str:
    return "until somebody resumes it" if reached.until is None else "until then"


def _whose(reached: Reached, job: Job | None, run: Run | None) -> str:
    """Return what the owner is told of apart: each stop by a job's usual cost, else whose budget it is."""
    if reached.scope in _EVERYBODYS:
        return ""
    if reached.scope is Scope.BREAKER and run is not None:
        return run.id
    if run is not None and (reached.scope is Scope.WEBHOOK_DAY or job is None):
        return run.webhook_id or ""
    return "" if job is None else job.id


def _is_news(c: sqlite3.Connection, reached: Reached, whose: str, now: datetime) -> bool:
    """Note that the owner is told; tells whether that was not so in this day or month."""
    period = period_of(reached.scope, now, settings.owners_zone(c))
    values = {
        "scope": reached.scope.value,
        "key": whose,
        "period": to_text(period.begin),
        "bound_usd": reached.bound_usd,
        "now": to_text(now),
    }
    if c.execute(_TOLD, values).fetchone() is None:
        return False
    c.execute("DELETE FROM budgets_told WHERE told_at < :before", {"before": to_text(now - KEPT)})
    return True
