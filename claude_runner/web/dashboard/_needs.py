"""What needs the owner: each with the sentence that says why and the one thing that mends it."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from claude_runner.app import App
from claude_runner.errors import RunnerError
from claude_runner.holds import HoldKind
from claude_runner.runs import Totals
from claude_runner.views.decisions import owners_zone
from claude_runner.web.dashboard._words import clock_time

RECENT: Final = timedelta(days=2)  # how long a missed slot is told
NEAR: Final = 0.8  # of a budget
MOST: Final = 8  # of one kind


class Need(NamedTuple):
    """One of them.

    Attributes:
        kind: What the style sheet calls it: `bad` or `warn`.
        title: What it is about.
        words: What is the matter.
        link: Where it is looked at.
        label: What the button that mends it says.
        action: Where the button's form goes; empty where the link is what mends it.
    """

    kind: str
    title: str
    words: str
    link: str
    label: str
    action: str = ""


async def needs(app: App, now: datetime, today: Totals, month: Totals) -> list[Need]:
    """Return what needs the owner, the most pressing first.

    Args:
        app: Whose.
        now: The present.
        today: What was used today.
        month: What was used this month.
    """
    found = [need async for need in _sign_in(app)]
    found += [need async for need in _held(app, now)]
    found += [need async for need in _paused(app, now)]
    found += [need async for need in _budgets(app, today, month)]
    found += [need async for need in _failing(app)]
    found += [need async for need in _missed(app, now)]
    found += [need async for need in _servers(app)]
    return found


async def _sign_in(app: App) -> AsyncIterator[Need]:
    state = await app.sign_in()
    if state.state == "not_signed_in":
        yield Need("bad", "Claude is not signed in", state.how, "/settings#claude", "How to sign in")


async def _held(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell what holds runs back; that nobody is signed in is told by itself."""
    zone = await owners_zone(app)
    for hold in await app.pausing.held():
        until = "" if hold.until is None else f" (until {clock_time(hold.until, now, zone)})"
        match hold.kind:
            case HoldKind.PAUSED:
                yield Need(
                    "warn", "Everything is paused", f"{hold.reason}{until}", "/jobs", "Resume", "/resume-all"
                )
            case HoldKind.BILLING | HoldKind.USAGE_LIMIT:
                yield Need(
                    "warn", "Runs wait", f"{hold.reason}{until}", "/runs?state=pending", "Look at them"
                )
            case HoldKind.NOT_SIGNED_IN:
                continue


async def _paused(app: App, now: datetime) -> AsyncIterator[Need]:
    """Tell of jobs that paused themselves."""
    for job in await app.jobs.paused_by_themselves(MOST):
        if job.pause is not None and job.is_paused(now):
            link = f"/jobs/{job.id}"
            yield Need("bad", job.name, f"paused: {job.pause.reason}", link, "Resume", f"{link}/resume")


async def _budgets(app: App, today: Totals, month: Totals) -> AsyncIterator[Need]:
    budgets = (await app.stored.owned()).budgets
    for name, budget, used in (
        ("Today", budgets.day_usd, today.cost_usd),
        ("This month", budgets.month_usd, month.cost_usd),
    ):
        if budget is None or used < budget * NEAR:
            continue
        spent = f"${used:,.2f} of ${budget:,.2f} are spent"
        yield Need(
            "bad" if used >= budget else "warn", f"{name}'s budget", spent, "/settings#budgets", "Change it"
        )


async def _failing(app: App) -> AsyncIterator[Need]:
    for job in await app.jobs.failing(MOST):
        words = job.last_error or "its last run failed"
        yield Need("bad", job.name, words, f"/jobs/{job.id}", "Run it again", f"/jobs/{job.id}/run")


async def _missed(app: App, now: datetime) -> AsyncIterator[Need]:
    zone = await owners_zone(app)
    for slot in await app.jobs.missed(now - RECENT, MOST):
        several = "" if slot.count == 1 else f"{slot.count or 'more than 100'} slots, from "
        at = clock_time(slot.scheduled_for, now, zone)
        words = f"missed {several}{at}: {slot.reason or 'no server was at work'}"
        yield Need(
            "warn", slot.job_name, words, f"/jobs/{slot.job_id}", "Run it now", f"/jobs/{slot.job_id}/run"
        )


async def _servers(app: App) -> AsyncIterator[Need]:
    for server in await app.servers.enabled():
        link = f"/servers/{server.name}"
        if server.problem is not None:
            yield Need("bad", f"Server {server.name}", server.problem, link, "Look at it")
            continue
        try:
            missing = server.missing(await app.credentials.of(server.name))
        except RunnerError as error:
            yield Need("bad", f"Server {server.name}", str(error), link, "Look at it")
            continue
        if missing:
            words = f"it needs {', '.join(missing)}"
            yield Need("warn", f"Server {server.name}", words, f"{link}#credentials", "Configure it")
