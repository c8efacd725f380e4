"""Whether anything more may start: what was spent, compared with what may be."""

import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner import runs, settings
from claude_runner.budgets._bounds import Bounds, bounds_of
from claude_runner.budgets._periods import Period, day_of, month_of
from claude_runner.budgets._records import Reached, Scope, in_dollars
from claude_runner.runs import Dimension

UNREADABLE: Final = (
    "the budgets in the settings can't be read, so nothing may be spent; set them anew with set_policies"
)

_SAID: Final[Mapping[Scope, str]] = MappingProxyType(
    {
        Scope.JOB_DAY: "the job's runs have cost {spent} today, and its budget is {bound} a day",
        Scope.WEBHOOK_DAY: "the webhook's runs have cost {spent} today, and its budget is {bound} a day",
        Scope.DAY: "all runs have cost {spent} today, and the budget is {bound} a day",
        Scope.MONTH: "all runs have cost {spent} this month, and the budget is {bound} a month",
    }
)


def reached(
    c: sqlite3.Connection, now: datetime, job_id: str | None = None, webhook_id: str | None = None
) -> Reached | None:
    """Read which budget is used up, so that no run may start: everybody's, or that of a job or a webhook."""
    bounds = bounds_of(c, job_id, webhook_id)
    if not bounds.together():
        return None
    zone = settings.owners_zone(c)
    keys = {Scope.JOB_DAY: job_id, Scope.WEBHOOK_DAY: webhook_id}

    def spent(scope: Scope) -> float:
        return spent_in(c, scope, keys.get(scope), period_of(scope, now, zone))

    return first_reached(bounds, spent, now, zone)


def first_reached(
    bounds: Bounds, spent: Callable[[Scope], float], now: datetime, zone: ZoneInfo
) -> Reached | None:
    """Return the first of the bounds that is used up, the widest before the others.

    Args:
        bounds: What bounds a run.
        spent: Tells what was spent in the day or month.
        now: The present.
        zone: The owner's.
    """
    for scope, bound in bounds.together().items():
        cost = spent(scope)
        if cost >= bound:
            until = period_of(scope, now, zone).end
            return Reached(scope, _sentence(scope, cost, bound, until.astimezone(zone)), until, bound)
    return None


def period_of(scope: Scope, now: datetime, zone: ZoneInfo) -> Period:
    """Return the day or the month that counts now."""
    return month_of(now, zone) if scope is Scope.MONTH else day_of(now, zone)


def spent_in(c: sqlite3.Connection, scope: Scope, key: str | None, period: Period) -> float:
    """Read what was spent: by runs that ended in a day or month, and up to now by those that have not ended."""
    if scope is Scope.JOB_DAY and key is not None:
        return runs.cost_of(c, Dimension.JOB, key, *period) + runs.cost_going_on(c, job_id=key)
    if scope is Scope.WEBHOOK_DAY and key is not None:
        return runs.cost_of(c, Dimension.WEBHOOK, key, *period) + runs.cost_going_on(c, webhook_id=key)
    return runs.cost_between(c, *period) + runs.cost_going_on(c)


def _sentence(scope: Scope, cost: float, bound: float, until: datetime) -> str:
    if bound == 0:
        return UNREADABLE
    said = _SAID[scope].format(spent=in_dollars(cost), bound=in_dollars(bound))
    return f"{said}; it begins anew at {until:%Y-%m-%d %H:%M} ({until.tzinfo})"
