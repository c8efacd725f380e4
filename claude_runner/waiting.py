"""What a run waits for that has not begun, in words."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Final

from claude_runner import holds, jobs, runs
from claude_runner.errors import InvalidError
from claude_runner.holds import HoldKind
from claude_runner.runs import Run, RunRow, State, Trigger

_BY_HAND: Final = (Trigger.MANUAL, Trigger.QUICK)
# By `reason`, of runs that have a time to wait for.
_TIMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "jitter": "its time, which its job's jitter puts a little after its slot",
        "spread": "its time: what is caught up begins one after the other",
        "blackout": "the end of a blackout of its job",
        "followup": "its time, which the run before it chose",
        "usage_limit": "the end of Claude's usage limit",
    }
)
_HOLDS: Final[Mapping[HoldKind, str]] = MappingProxyType(
    {
        HoldKind.PAUSED: "the end of the pause of everything",
        HoldKind.NOT_SIGNED_IN: "somebody to sign Claude in",
        HoldKind.BILLING: "Claude's account to be in order",
        HoldKind.USAGE_LIMIT: "the end of Claude's usage limit",
    }
)


def waits_for(c: sqlite3.Connection, run: Run | RunRow, now: datetime) -> str | None:
    """Return what a run waits for, to be read after "waits for"; `None` where it has begun or ended."""
    if run.state is not State.PENDING:
        return None
    return (
        _its_time(run, now)
        or _the_end_of_a_hold(c, run, now)
        or _the_end_of_its_jobs_pause(c, run, now)
        or _its_turn(c, run)
    )


def waits_of(c: sqlite3.Connection, them: Iterable[Run | RunRow], now: datetime) -> dict[str, str]:
    """Return what each run waits for that has not begun, by its id."""
    told = {run.id: waits_for(c, run, now) for run in them}
    return {run_id: words for run_id, words in told.items() if words is not None}


def _its_time(run: Run | RunRow, now: datetime) -> str | None:
    if run.not_before is None or run.not_before <= now:
        return None
    if known := _TIMES.get(run.reason or ""):
        return known
    return f"its next attempt, as the last one failed: {run.error}" if run.error else "its time"


def _the_end_of_a_hold(c: sqlite3.Connection, run: Run | RunRow, now: datetime) -> str | None:
    if run.rehearsal or run.trigger in _BY_HAND:
        return None
    held = holds.current(c, now)
    return f"{_HOLDS[held[0].kind]} ({held[0].reason})" if held else None


def _the_end_of_its_jobs_pause(c: sqlite3.Connection, run: Run | RunRow, now: datetime) -> str | None:
    if run.rehearsal or run.trigger in _BY_HAND or run.job_id is None:
        return None
    with suppress(InvalidError):  # it was spoiled by hand
        job = jobs.find(c, run.job_id)
        if job is not None and job.pause is not None and job.is_paused(now):
            return f"the end of its job's pause ({job.pause.reason})"
    return None


def _its_turn(c: sqlite3.Connection, run: Run | RunRow) -> str:
    other = runs.in_the_way_of(c, run.id)
    return "a place among the runs that go on at once" if other is None else f"the end of run {other}"
