"""Follow-ups: whether a run may have itself gone on with, and whether what it asked for may still start."""

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from claude_runner import jobs, runs
from claude_runner.errors import ConflictError
from claude_runner.jobs import Job
from claude_runner.runs import Chain, Ending, Run, State
from claude_runner.schedule import local_timezone
from claude_runner.settings import FollowUpCaps, followup_caps


def make(
    c: sqlite3.Connection, run: Run, prompt: str, not_before: datetime, now: datetime
) -> Mapping[str, Any]:
    """Store a follow-up of the attempt, and return what the model is told of it.

    All in one transaction, so that however many are asked for at once, no cap is passed.

    Raises:
        ConflictError: The attempt is not going on any more, its job is disabled, or a cap is reached.
    """
    going_on = runs.going_on(c, run)
    if going_on is None:
        raise ConflictError(f"run {run.id} is not going on any more, so it can't be followed up")
    job = None if run.job_id is None else jobs.find(c, run.job_id)
    if job is not None and not job.enabled:
        raise ConflictError(
            f"no follow-up was made: the job '{job.name}' is disabled, so nothing of it starts by itself"
        )
    caps, chain = followup_caps(c), runs.chain_of(c, run)
    if reached := _reached(run, caps, chain):
        raise ConflictError(f"no follow-up was made: {reached}, which only the owner can change")
    # The model is the one that was asked for; the profile the one it got, where none was.
    followed = replace(run, profile=going_on.profile)
    run_id = runs.insert(c, followed.follow_up(prompt, not_before), now)
    return {"id": run_id, **_times(not_before, job), "caps": _left(run, caps, chain)}


def refused(c: sqlite3.Connection, run: Run) -> Ending | None:
    """Return how a follow-up whose time has come ends where it may not start; `None` where it may, as every other run.

    When it was asked for, the cost of the run that asked was not known yet.
    """
    if run.root_run_id is None:
        return None
    job = None if run.job_id is None else jobs.find(c, run.job_id)
    if job is not None and not job.enabled:
        sentence = f"the job '{job.name}' was disabled when this follow-up could start, so it was not run"
        return Ending(State.CANCELLED, reason="job_disabled", error=sentence)
    caps = followup_caps(c)
    if too_costly := _too_costly(caps, runs.chain_of(c, run)):
        return Ending(State.ERROR, reason="budget", error=f"this follow-up was not run: {too_costly}")
    return None


def _reached(run: Run, caps: FollowUpCaps, chain: Chain) -> str | None:
    if run.depth >= caps.max_depth:
        return (
            f"it would be number {run.depth + 1} one after the other, and {caps.max_depth:g} may be "
            "(max_depth of the setting followups)"
        )
    if chain.follow_ups >= caps.max_runs:
        return (
            f"this chain of runs has {chain.follow_ups} of them already, and {caps.max_runs:g} may be "
            "(max_runs of the setting followups)"
        )
    return _too_costly(caps, chain)


def _too_costly(caps: FollowUpCaps, chain: Chain) -> str | None:
    if chain.cost_usd < caps.max_cost_usd:
        return None
    return (
        f"this chain of runs has cost ${chain.cost_usd:.2f}{_uncounted(chain)}, and up to ${caps.max_cost_usd:.2f} "
        "another may follow (max_cost_usd of the setting followups)"
    )


def _uncounted(chain: Chain) -> str:
    if not chain.unpriced:
        return ""
    runs_of = "a run" if chain.unpriced == 1 else f"{chain.unpriced} runs"
    return f", {runs_of} of unknown price not counted"


def _times(not_before: datetime, job: Job | None) -> dict[str, str]:
    zone = job.timezone if job else local_timezone()
    return {
        "not_before": not_before.isoformat(timespec="seconds"),
        "local_time": not_before.astimezone(ZoneInfo(zone)).isoformat(timespec="seconds"),
        "timezone": zone,
    }


def _left(run: Run, caps: FollowUpCaps, chain: Chain) -> dict[str, Any]:
    return {
        "depth": run.depth + 1,
        "max_depth": caps.max_depth,
        "follow_ups_of_chain": chain.follow_ups + 1,
        "max_runs": caps.max_runs,
        "cost_usd_known": round(chain.cost_usd, 6),
        "runs_of_unknown_cost": chain.unpriced,
        "max_cost_usd": caps.max_cost_usd,
        "note": "runs of unknown cost, such as those going on, count as 0 until their cost is known; "
        "the cost is looked at again when the follow-up starts",
    }
