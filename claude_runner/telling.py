"""What somebody is to hear of: each event becomes rows of the outbox, in the transaction of what it tells of.

Functions of a connection that insert and do nothing else: whoever calls publishes `Topic.OUTBOX` once it is committed,
and what has been written is sent afterwards, by the process that leads. Runs against the stand-in model are told of to
nobody: they are a rehearsal.
"""

import sqlite3
import uuid
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from claude_runner import notifications, webhooks
from claude_runner.holds import Hold, HoldKind
from claude_runner.jobs import Job, NotifyOn, Occurrence, Pause, PausedBy, Policy
from claude_runner.notifications import About, Event, Message
from claude_runner.runs import Ending, Run, State, Trigger, failures_before
from claude_runner.settings import job_defaults

MAX_ERROR: Final = 300
COUNTED: Final = 50  # failures in a row that are counted
HELD_ONCE_IN: Final = timedelta(hours=1)
ZERO_COST: Final = 0.00005

_BY_MONEY: Final = (PausedBy.BUDGET, PausedBy.COST_BREAKER)
_HELD: Final = {
    HoldKind.NOT_SIGNED_IN: "All runs wait: Claude is not signed in",
    HoldKind.BILLING: "All runs wait: there is something about the bill",
    HoldKind.USAGE_LIMIT: "All runs wait: the usage limit is reached",
}
_PAUSED: Final = "Its slots are skipped. Resume it by resume_job or on its page."
_BUDGETS: Final = (
    "get_usage shows what was spent by whom; update_job, update_webhook and set_policies change budgets."
)


def on_start(c: sqlite3.Connection, run: Run, job: Job | None, now: datetime) -> None:
    """Ping the job's heartbeat: an attempt of a run has started."""
    url = _heartbeat(c, run, job)
    if job is not None and url is not None:
        _ping(c, url, "/start", Event.STARTED, f"run {run.id} has started", run, job, now)


def on_end(c: sqlite3.Connection, run: Run, job: Job | None, ending: Ending, now: datetime) -> None:
    """Tell of a run that ended for good, and not of one that is parked.

    Args:
        c: The transaction that ends the run.
        run: The run as it was.
        job: Its job as it was before this end.
        ending: How it ended.
        now: The present.
    """
    if run.rehearsal:
        return
    _ping_end(c, run, job, ending, now)
    if ending.state is State.CANCELLED or _is_by_hand(
        run, job
    ):  # whoever starts a prompt sees what comes of it
        return
    policy = _policy(c, job)
    if ending.reason == "budget" and NotifyOn.BUDGET in _wanted(policy):
        return  # a budget that was met is told of by itself
    name, needed = _name(c, run, job), policy.notify_after_failures or 1
    if ending.state is State.ERROR:
        counted = max(COUNTED, needed)
        before = failures_before(c, run, counted)
        if before + 1 >= needed:
            _tell(
                c,
                policy,
                NotifyOn.FAILURE,
                Message(f"{name} failed", _failure(run, job, ending, _in_a_row(before, counted), now)),
                run,
                job,
                now,
            )
        return
    if NotifyOn.RECOVERY in _wanted(policy) and failures_before(c, run, needed) >= needed:
        _tell(
            c,
            policy,
            NotifyOn.RECOVERY,
            Message(f"{name} works again", _success(run, job, ending, now)),
            run,
            job,
            now,
        )
    else:
        _tell(
            c,
            policy,
            NotifyOn.SUCCESS,
            Message(f"{name} succeeded", _success(run, job, ending, now)),
            run,
            job,
            now,
        )


def on_missed(c: sqlite3.Connection, job: Job, occurrence: Occurrence, now: datetime) -> None:
    """Tell of slots that nobody was there for."""
    one = occurrence.until is None or occurrence.until == occurrence.scheduled_for
    first = _local(occurrence.scheduled_for, job)
    if one:
        title, when = f"{job.name} missed a run", f"The slot of {first} was not run"
    else:
        many = "many runs" if occurrence.count is None else f"{occurrence.count:,} runs"
        title = f"{job.name} missed {many}"
        when = f"The slots from {first} to {_local(occurrence.until or now, job)} were not run"
    why = f"{when}: {occurrence.reason}." if occurrence.reason else f"{when}."
    _tell(c, _policy(c, job), NotifyOn.MISSED, Message(title, _lines(why, _next(job, now))), None, job, now)


def on_pause(c: sqlite3.Connection, job: Job, pause: Pause, now: datetime) -> None:
    """Tell of a job that was paused by its failures or its costs; what its owner did needs no telling.

    A pause that a budget is the cause of is told of by `on_budget`, where budgets are told of.
    """
    policy = _policy(c, job)
    if pause.by is PausedBy.OWNER or (pause.by in _BY_MONEY and NotifyOn.BUDGET in _wanted(policy)):
        return
    until = "" if pause.until is None else f"It goes on by itself at {_local(pause.until, job)}."
    body = _lines(_sentence(pause.reason), until, _PAUSED)
    _tell(c, policy, NotifyOn.PAUSED, Message(f"{job.name} is paused", body), None, job, now)


def on_budget(c: sqlite3.Connection, sentence: str, job: Job | None, run: Run | None, now: datetime) -> None:
    """Tell of a budget that is used up; whoever calls tells of each once.

    Args:
        c: The transaction that ends the run or passes over the slot.
        sentence: What was reached, and what follows from it.
        job: Whose budget it is, or whose run met it.
        run: Which run met it.
        now: The present.
    """
    if run is not None and run.rehearsal:
        return
    whose = _name(c, run, job) if run is not None or job is not None else "All runs"
    body = _lines(_sentence(sentence), _BUDGETS)
    _tell(c, _policy(c, job), NotifyOn.BUDGET, Message(f"{whose}: a budget is used up", body), run, job, now)


def on_hold(c: sqlite3.Connection, hold: Hold, now: datetime) -> None:
    """Tell that all runs wait, such as until Claude is signed in again; what the owner did needs no telling."""
    policy = job_defaults(c)
    title = _HELD.get(hold.kind)
    if title is None or hold.streak > 1 or not {NotifyOn.FAILURE, NotifyOn.PAUSED} & _wanted(policy):
        return
    if notifications.was_told(c, Event.HELD, title, None, now - HELD_ONCE_IN):
        return
    until = "" if hold.until is None else f"It is tried again at {hold.until:%Y-%m-%d %H:%M} UTC."
    body = _lines(_sentence(hold.reason), until, "Nothing is lost: what waits is run afterwards.")
    channels, _ = notifications.enabled(c, policy.notify_channels)
    notifications.tell(c, channels, Event.HELD, Message(title, body), About(), now)


def _tell(
    c: sqlite3.Connection,
    policy: Policy,
    what: NotifyOn,
    message: Message,
    run: Run | None,
    job: Job | None,
    now: datetime,
) -> None:
    """Tell whom the policy names of what it names; where a channel that it names is gone, all are told."""
    if what not in _wanted(policy):
        return
    channels, gone = notifications.enabled(c, policy.notify_channels)
    if gone:
        said = (
            f"(Every channel is told, as there is none of the name {' or '.join(map(repr, gone))} any more.)"
        )
        message = Message(message.title, _lines(message.body, said))
    about = About(None if job is None else job.id, None if run is None else run.id)
    notifications.tell(c, channels, Event(what.value), message, about, now)


def _policy(c: sqlite3.Connection, job: Job | None) -> Policy:
    """Return the rules that hold, complete: the job's own, else the owner's."""
    defaults = job_defaults(c)
    return defaults if job is None else job.policy.or_else(defaults)


def _wanted(policy: Policy) -> set[NotifyOn]:
    return set(policy.notify_on or ())


def _is_by_hand(run: Run, job: Job | None) -> bool:
    return job is None and run.trigger in {Trigger.QUICK, Trigger.MANUAL}


def _name(c: sqlite3.Connection, run: Run | None, job: Job | None) -> str:
    if job is not None:
        return job.name
    if run is not None and run.webhook_id is not None:
        return f"The webhook {webhooks.title(c, run.webhook_id) or run.webhook_id}"
    return "A run" if run is None else f"Run {run.id}"


def _in_a_row(before: int, counted: int) -> str:
    """Return how often it has failed in a row, of which no more are counted than so many before this time."""
    if before == 0:
        return ""
    return f"It has failed {before + 1} times{' or more' if before >= counted else ''} in a row."


def _failure(run: Run, job: Job | None, ending: Ending, row: str, now: datetime) -> str:
    error = _head(ending.error or "it did not finish")
    code = f" ({ending.reason})" if ending.reason else ""
    return _lines(f"{error}{code}", row, _spent(run, ending, now), _next(job, now))


def _success(run: Run, job: Job | None, ending: Ending, now: datetime) -> str:
    return _lines("It has finished.", _spent(run, ending, now), _next(job, now))


def _spent(run: Run, ending: Ending, now: datetime) -> str:
    took = "" if run.started_at is None else f"It took {_span(now - run.started_at)}."
    cost = _cost(ending.cost_usd if ending.cost_usd is not None else run.cost_usd)
    return " ".join(filter(None, (took, cost)))


def _cost(cost: float | None) -> str:
    if cost is None:
        return ""
    return f"It cost ${cost:.2f}." if cost >= 0.01 or cost < ZERO_COST else f"It cost ${cost:.4f}."


def _next(job: Job | None, now: datetime) -> str:
    """Return when the job runs next, as far as that is known."""
    if job is None:
        return ""
    if job.is_paused(now):
        return "The job is paused."
    if not job.enabled or job.next_run_at is None:
        return "Nothing more of it is planned."
    return f"Next planned: {_local(job.next_run_at, job)}."


def _local(instant: datetime, job: Job) -> str:
    """Return an instant on the job's own clock, as a person reads it."""
    try:
        zone = ZoneInfo(job.timezone)
    except (KeyError, ValueError):  # one that this machine does not know, or that was spoiled by hand
        zone = ZoneInfo("UTC")
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"


def _span(span: timedelta) -> str:
    seconds = max(0, round(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _head(text: str) -> str:
    """Return the beginning of a sentence that may hold what a model or a tool has said, as one line."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR else f"{line[: MAX_ERROR - 1]}…"


def _sentence(text: str) -> str:
    line = _head(text)
    return line if not line or line[-1] in ".!?…" else f"{line}."


def _lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


def _heartbeat(c: sqlite3.Connection, run: Run, job: Job | None) -> str | None:
    return None if job is None or run.rehearsal else _policy(c, job).heartbeat_url


def _ping_end(c: sqlite3.Connection, run: Run, job: Job | None, ending: Ending, now: datetime) -> None:
    """Ping the job's heartbeat; a run in whose place a newer one is begun is neither a success nor a failure."""
    url = _heartbeat(c, run, job)
    if job is None or url is None or ending.reason == "superseded":
        return
    if ending.state is State.FINISHED:
        _ping(c, url, "", Event.ENDED, f"run {run.id} has finished", run, job, now)
    else:
        error = _head(ending.error or "it did not finish")
        _ping(c, url, "/fail", Event.ENDED, f"run {run.id}: {error}", run, job, now)


def _ping(
    c: sqlite3.Connection, url: str, signal: str, event: Event, body: str, run: Run, job: Job, now: datetime
) -> None:
    notifications.ping(c, _signalled(url, signal, run), event, body, job_id=job.id, run_id=run.id, now=now)


def _signalled(url: str, signal: str, run: Run) -> str:
    """Return the address of a signal (Healthchecks, Pinging API), with the run that start and end are paired by."""
    parts = urlsplit(url)
    rid = urlencode({"rid": uuid.uuid5(uuid.NAMESPACE_OID, f"claude-runner {run.id}")})
    query = f"{parts.query}&{rid}" if parts.query else rid
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}{signal}", query, ""))
