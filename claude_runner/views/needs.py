"""What needs the owner: decided here once, for the overview and for programs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from claude_runner.app import App
from claude_runner.budgets import Scope, Standing, standings
from claude_runner.errors import RunnerError
from claude_runner.holds import HoldKind
from claude_runner.runs import RunQuery, State
from claude_runner.signing_in import SignInState
from claude_runner.views.decisions import owners_zone
from claude_runner.views.instants import clock_time

RECENT: Final = timedelta(days=2)  # how long a missed slot is told
TRIED: Final = timedelta(days=3)  # how long a notification is tried, and what came of it told
LONG: Final = timedelta(minutes=30)  # a run that waits for longer is told
MOST: Final = 8  # of one kind


class NeedKind(StrEnum):
    """What a need is about; the order of these is that in which they press."""

    SIGN_IN = "sign_in"
    HELD = "held"
    PAUSED_ALL = "paused_all"
    BUDGET = "budget"
    JOB_PAUSED = "job_paused"
    FAILING = "failing"
    MISSED = "missed"
    PARKED = "parked"
    NOTIFICATIONS = "notifications"
    SERVER = "server"
    CREDENTIALS = "credentials"


@dataclass(frozen=True, slots=True)
class Need:
    """One of them.

    Attributes:
        title: What it is about, such as the name of a job.
        words: What is the matter.
        urgent: Whether something fails or is not begun until somebody does something about it.
        job_id: The job that it is about; so are `run_id`, `webhook_id`, `channel_id` and `server`, its name.
        until: When it is over by itself, as far as that is known.
    """

    kind: NeedKind
    title: str
    words: str
    urgent: bool = False
    job_id: str | None = None
    run_id: str | None = None
    webhook_id: str | None = None
    channel_id: str | None = None
    server: str | None = None
    until: datetime | None = None


async def needs(app: App) -> list[Need]:
    """Return what needs the owner, the most pressing first, at most eight of a kind."""
    now = app.clock.now()
    several = (_sign_in, _held, _budgets, _paused, _failing, _missed, _parked, _undelivered, _servers)
    return [need for find in several async for need in find(app, now)]


async def _sign_in(app: App, _: datetime) -> AsyncIterator[Need]:
    state = await app.sign_in()
    if state.state is SignInState.NOT_SIGNED_IN:
        yield Need(NeedKind.SIGN_IN, "Claude is not signed in", state.how, urgent=True)


async def _held(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell what holds runs back; that nobody is signed in is told by itself."""
    zone = await owners_zone(app)
    for hold in await app.pausing.held():
        words = hold.reason
        if hold.until is not None:
            words += f" (until {clock_time(hold.until, now, zone)})"
        match hold.kind:
            case HoldKind.PAUSED:
                yield Need(NeedKind.PAUSED_ALL, "Everything is paused", words, until=hold.until)
            case HoldKind.BILLING | HoldKind.USAGE_LIMIT:
                is_urgent = hold.kind is HoldKind.BILLING
                yield Need(NeedKind.HELD, "Runs wait", words, urgent=is_urgent, until=hold.until)
            case HoldKind.NOT_SIGNED_IN:
                continue


async def _budgets(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell of budgets that are nearly used up; a job's own day pauses the job, which is told by itself."""
    scopes = (Scope.MONTH, Scope.DAY, Scope.WEBHOOK_DAY)
    found = await app.database.read(lambda c: standings(c, now, scopes))
    for it in [it for it in found if it.is_near][:MOST]:
        whose = {Scope.MONTH: "This month's", Scope.DAY: "Today's"}.get(it.scope, f"{it.name}: today's")
        yield Need(
            NeedKind.BUDGET,
            f"{whose} budget",
            _spent(it),
            urgent=it.is_reached,
            webhook_id=it.key,
            until=it.until,
        )


async def _paused(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell of jobs that paused themselves."""
    for job in await app.jobs.paused_by_themselves(MOST):
        if job.pause is not None and job.is_paused(now):
            until = job.pause.until
            words = f"paused: {job.pause.reason}"
            yield Need(NeedKind.JOB_PAUSED, job.name, words, urgent=until is None, job_id=job.id, until=until)


async def _failing(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell of jobs whose last run failed; one that is paused does not go on failing."""
    for job in [job for job in await app.jobs.failing(MOST) if not job.is_paused(now)]:
        words = job.last_error or "its last run failed"
        yield Need(NeedKind.FAILING, job.name, words, urgent=True, job_id=job.id)


async def _missed(app: App, now: datetime) -> AsyncIterator[Need]:
    zone = await owners_zone(app)
    for slot in await app.jobs.missed(now - RECENT, MOST):
        several = "" if slot.count == 1 else f"{slot.count or 'more than 100'} slots, from "
        at = clock_time(slot.scheduled_for, now, zone)
        words = f"missed {several}{at}: {slot.reason or 'no server was at work'}"
        yield Need(NeedKind.MISSED, slot.job_name, words, job_id=slot.job_id)


async def _parked(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell of runs that met a usage limit and wait for its end, where no hold tells of that limit."""
    if any(hold.kind is HoldKind.USAGE_LIMIT for hold in await app.pausing.held()):
        return
    zone = await owners_zone(app)
    query = RunQuery(states=(State.PENDING,), reason="usage_limit")
    for run in (await app.runs.search(query, MOST)).runs:
        if run.not_before is not None and run.not_before > now + LONG:
            words = f"waits until {clock_time(run.not_before, now, zone)}: {run.error or 'a usage limit'}"
            title = run.job_name or run.webhook_name or "A run"
            yield Need(
                NeedKind.PARKED, title, words,
                job_id=run.job_id, run_id=run.id, webhook_id=run.webhook_id, until=run.not_before,
            )  # fmt: skip


async def _undelivered(app: App, now: datetime) -> AsyncIterator[Need]:
    for trouble in await app.outbox.troubles(now - TRIED, MOST):
        what = "Channel" if trouble.job_id is None else "Heartbeat of"
        yield Need(
            NeedKind.NOTIFICATIONS, f"{what} {trouble.name}",
            f"what there is to tell is not taken: {trouble.error}",
            urgent=True, job_id=trouble.job_id, channel_id=trouble.channel_id,
        )  # fmt: skip


async def _servers(app: App, _: datetime) -> AsyncIterator[Need]:
    for server in await app.servers.enabled():
        title = f"Server {server.name}"
        problem = server.problem
        try:
            missing = () if problem else server.missing(await app.credentials.of(server.name))
        except RunnerError as error:
            missing, problem = (), str(error)
        if problem is not None:
            yield Need(NeedKind.SERVER, title, problem, urgent=True, server=server.name)
        elif missing:
            words = f"it needs {', '.join(missing)}"
            yield Need(NeedKind.CREDENTIALS, title, words, server=server.name)


def _spent(it: Standing) -> str:
    if not it.bound_usd:
        return "the budgets can't be read, so nothing may be spent: set them anew"
    return f"${it.spent_usd:,.2f} of ${it.bound_usd:,.2f} are spent"
