"""The end of an attempt at a run: it is over or waits to be taken up again, and whoever must know is told.

All of that is one transaction.
What the run has used is what all its attempts used: Claude Code counts a session that goes on from its beginning.
"""

import logging
import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from claude_runner import holds, jobs, runs, telling
from claude_runner.agent import account, since
from claude_runner.db import Database
from claude_runner.errors import InvalidError, UnavailableError
from claude_runner.holds import HoldKind
from claude_runner.jobs import Job, OnCrash, Pause, PausedBy, Policy
from claude_runner.retrying import Retry, decide, is_blameless
from claude_runner.runs import Ending, Event, EventKind, Parking, Run, State, Tokens
from claude_runner.settings import job_defaults, prices

UNTOLD: Final = Tokens()

_HOLDS: Final = {
    "not_signed_in": HoldKind.NOT_SIGNED_IN,
    "billing": HoldKind.BILLING,
    "usage_limit": HoldKind.USAGE_LIMIT,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Use:
    """What all attempts at a run have used.

    Attributes:
        tokens: `None` where the last live count stands.
        cost_usd: `None` where the price of any of it is not known.
    """

    tokens: Tokens | None
    cost_usd: float | None
    model_usage: Mapping[str, Any] | None
    session_usage: Mapping[str, Any] | None


async def ended_by(
    database: Database, change: Callable[[sqlite3.Connection], bool], run: Run, ending: Ending, now: datetime
) -> bool:
    """Carry out the change that concludes an attempt; tells whether it was ours to end.

    Where somebody has spoiled what the conclusion reads, the run is ended by itself: else it would never be.

    Raises:
        UnavailableError: The database can't be written.
    """

    def end_alone(c: sqlite3.Connection) -> bool:
        cost = runs.cost_so_far(c, run.id) or None
        return runs.end(c, run, replace(ending, tokens=None, cost_usd=cost, model_usage=None), now)

    try:
        return await database.write(change)
    except UnavailableError:
        raise
    except Exception:
        log.exception("run %s: what follows from its end can't be told; it is ended all the same", run.id)
        return await database.write(end_alone)


def conclude(c: sqlite3.Connection, run: Run, ending: Ending, now: datetime) -> bool:
    """End the attempt, and the run with it unless it is to be taken up again; tells whether it was ours to end.

    An ending without output gets what the model had said up to then.
    """
    if (
        ending.resets_at is not None and ending.resets_at <= now
    ):  # it tells nothing, as the limit is still there
        ending = replace(ending, resets_at=None)
    job = _job_of(c, run)
    policy = rules_of(c, job)
    use = use_of(c, run, ending)
    retry = _retry(c, run, ending, policy, now)
    _heed(c, run, ending, retry, use, now)
    if retry is not None:
        return _park(c, run, ending, retry, use, now)
    said = ending.output if ending.output is not None else runs.text_so_far(c, run.id) or None
    whole = replace(
        ending,
        output=said,
        error=f"{ending.error}; it was not run again" if ending.reason == "server_stopped" else ending.error,
        tokens=use.tokens,
        cost_usd=use.cost_usd,
        model_usage=use.model_usage,
    )
    if not runs.end(c, run, whole, now):
        return False
    if run.session_id is not None and policy.on_crash is OnCrash.RESUME:
        runs.forget_transcript(c, run.session_id)
    if run.job_id is not None:
        jobs.record_execution(c, run.job_id, now, whole.error)
    if job is not None:
        _count(c, job, policy, ending, now)
    telling.on_end(c, run, job, whole, now)
    return True


def _retry(c: sqlite3.Connection, run: Run, ending: Ending, policy: Policy, now: datetime) -> Retry | None:
    """Return how the run is taken up again; `None` where it is over, as where a newer one takes its place by now."""
    if ending.state is not State.ERROR or runs.is_superseded(c, run.id):
        return None
    begun = runs.has_begun(c, run)
    since_when = runs.first_failed_at(c, run, ending.reason or "")
    return decide(run, ending, policy, now, random.random, has_begun=begun, limited_since=since_when)


def rules_of(c: sqlite3.Connection, job: Job | None) -> Policy:
    """Read the rules that hold for the runs of a job, or for those of none, complete."""
    default = job_defaults(c)
    return default if job is None else job.policy.or_else(default)


def use_of(c: sqlite3.Connection, run: Run, ending: Ending) -> Use:
    """Add what the attempt used to what those before it had."""
    kept, said, model = runs.usage_before(c, run)
    if ending.tokens is None:  # all that is known of it was written while it went on
        cost = run.cost_usd if ending.cost_usd is None else ending.cost_usd
        return Use(None, cost, _merged(kept, _rest(run, kept, model)) or None, said or None)
    usage = ending.model_usage or _as_told(ending.tokens, ending.cost_usd, model)
    if run.attempt <= 1:
        return Use(ending.tokens, ending.cost_usd, usage or None, ending.session_usage)
    tokens, cost = ending.tokens, ending.cost_usd
    if ending.session_usage is not None and run.resumes:
        usage = since(ending.session_usage, said, prices(c))
        tokens, cost = account(usage)
        cost = 0.0 if run.rehearsal else cost
    return Use(
        run.tokens + tokens,
        None if run.cost_usd is None or cost is None else run.cost_usd + cost,
        _merged(kept, usage) or None,
        ending.session_usage or said or None,
    )


def _job_of(c: sqlite3.Connection, run: Run) -> Job | None:
    """Read the run's job; one that was spoiled by hand must not keep the run from its end."""
    with suppress(InvalidError):
        return None if run.job_id is None else jobs.find(c, run.job_id)
    return None


def _park(c: sqlite3.Connection, run: Run, ending: Ending, retry: Retry, use: Use, now: datetime) -> bool:
    """Let the run wait, with an event that tells what became of the attempt."""
    told = {
        "notice": "attempt_failed",
        "attempt": run.attempt,
        "reason": ending.reason,
        "message": f"{ending.error}; {retry.said}",
        "not_before": retry.not_before.isoformat(),
    }
    # An attempt that used nothing has cost nothing, whatever is known of the price.
    free = use.cost_usd is None and (use.tokens is None or use.tokens == UNTOLD) and run.tokens == UNTOLD
    parking = Parking(
        not_before=retry.not_before,
        reason=ending.reason or "",
        error=ending.error or "",
        resumes=retry.resumes,
        retries=retry.retries,
        tokens=use.tokens,
        cost_usd=0.0 if free else use.cost_usd,
        model_usage=use.model_usage,
        session_usage=use.session_usage if retry.resumes else None,
    )
    runs.append(c, run.id, run.attempt, [Event(EventKind.NOTICE, told, now)])
    return runs.park(c, run, parking)


def _heed(
    c: sqlite3.Connection, run: Run, ending: Ending, retry: Retry | None, use: Use, now: datetime
) -> None:
    """Hold the other runs back where they would be refused as this one was; let them go where a model has answered."""
    if run.rehearsal:
        return
    kind = _HOLDS.get(ending.reason or "")
    if kind is None:
        # What was answered before they were held back says nothing.
        if use.tokens is not None and use.tokens.output > run.tokens.output:
            holds.lift_those_of_the_model(c, before=run.started_at)
        return
    until = holds.look_again_at(c, kind, now)
    if kind is not HoldKind.USAGE_LIMIT:
        since_then = holds.since(c, kind)
        if since_then is not None and run.started_at is not None and run.started_at <= since_then:
            return  # it had begun before they were held back, so it is not another one in a row
    else:
        until = ending.resets_at or (until if retry is None else retry.not_before)
    held = holds.hold(c, kind, max(until, now), ending.error or kind, now)
    if held.streak == 1:
        telling.on_hold(c, held, now)


def _count(c: sqlite3.Connection, job: Job, policy: Policy, ending: Ending, now: datetime) -> None:
    """Count the failures in a row that are the job's own, and pause it where they are too many."""
    if ending.state is State.FINISHED:
        jobs.count_failures(c, job.id, 0)
        return
    if ending.state is not State.ERROR or is_blameless(ending.reason):
        return
    failures = job.failures + 1
    jobs.count_failures(c, job.id, failures)
    most = policy.pause_after_failures or 0
    if not most or failures < most:
        return
    times = "1 run has failed" if failures == 1 else f"{failures} runs in a row have failed"
    pause = Pause(now, None, PausedBy.FAILURES, f"{times}, the last with: {ending.error}")
    if jobs.pause(c, job.id, pause):
        telling.on_pause(c, job, pause, now)


def _rest(run: Run, kept: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    """Return what the attempt used by the count that was written while it went on, without that of the earlier ones."""
    before, cost_before = account(kept) if kept else (UNTOLD, 0.0)
    names = ("input", "output", "cache_read", "cache_write")
    tokens = Tokens(*(max(0, getattr(run.tokens, name) - getattr(before, name)) for name in names))
    known = run.cost_usd is not None and cost_before is not None
    return _as_told(tokens, max(0.0, (run.cost_usd or 0.0) - (cost_before or 0.0)) if known else None, model)


def _as_told(tokens: Tokens, cost_usd: float | None, model: str | None) -> dict[str, Any]:
    """Return what was counted of an attempt that was cut off, in the form in which Claude Code tells it at the end."""
    if model is None or tokens == UNTOLD:
        return {}
    use = {
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "cacheReadInputTokens": tokens.cache_read,
        "cacheCreationInputTokens": tokens.cache_write,
        "costUSD": cost_usd or 0.0,
    }
    return {model: use if cost_usd is None else use | {"costBasis": "list"}}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Add up what two attempts used of each model."""
    merged = {model: dict(use) for model, use in one.items()}
    for model, use in other.items():
        kept = merged.setdefault(model, {})
        for name, value in use.items():
            counts = isinstance(value, (int, float)) and not isinstance(value, bool)
            kept[name] = kept.get(name, 0) + value if counts else value
    return merged
