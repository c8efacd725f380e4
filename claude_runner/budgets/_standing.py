"""How the budgets of days and months stand: what is used of each, before it is used up."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from claude_runner import jobs, runs, settings, webhooks
from claude_runner.budgets._bounds import narrower
from claude_runner.budgets._reached import period_of, spent_in
from claude_runner.budgets._records import Scope
from claude_runner.runs import Dimension
from claude_runner.settings import Budgets

NEAR: Final = 0.8  # of a budget
_MOST: Final = 1_000  # jobs, and webhooks, that spent anything today


class Standing(NamedTuple):
    """A budget of a day or a month, and what is used of it.

    Attributes:
        key: The job or the webhook whose it is; `None` for everybody's.
        name: What people call that.
        bound_usd: 0 where the settings can't be read, so that nothing may be spent.
        until: When it begins anew.
    """

    scope: Scope
    key: str | None
    name: str | None
    spent_usd: float
    bound_usd: float
    until: datetime

    @property
    def share(self) -> float:
        """Return how much of it is used, 1 for all."""
        return self.spent_usd / self.bound_usd if self.bound_usd else 1.0

    @property
    def is_reached(self) -> bool:
        """Tell whether nothing more of its kind is begun."""
        return self.spent_usd >= self.bound_usd

    @property
    def is_near(self) -> bool:
        """Tell whether it will be reached before long, or is already."""
        return self.share >= NEAR


def standings(
    c: sqlite3.Connection,
    now: datetime,
    scopes: Collection[Scope] = (Scope.MONTH, Scope.DAY, Scope.JOB_DAY, Scope.WEBHOOK_DAY),
) -> list[Standing]:
    """Read what is used of the budgets: everybody's, then those that jobs and webhooks have used anything of.

    Args:
        c: A connection.
        now: The present.
        scopes: Which; in this order, within each the most used first.
    """
    zone, whole = settings.owners_zone(c), settings.budgets(c)
    found: list[Standing] = []
    for scope in scopes:
        if scope in {Scope.MONTH, Scope.DAY}:
            found += _of_all(c, scope, whole, now, zone)
        else:
            found += sorted(_of_each(c, scope, whole, now, zone), key=lambda it: (-it.share, it.key or ""))
    return found


def _of_all(
    c: sqlite3.Connection, scope: Scope, whole: Budgets, now: datetime, zone: ZoneInfo
) -> Iterator[Standing]:
    bound = whole.month_usd if scope is Scope.MONTH else whole.day_usd
    if bound is not None:
        period = period_of(scope, now, zone)
        yield Standing(scope, None, None, spent_in(c, scope, None, period), bound, period.end)


def _of_each(
    c: sqlite3.Connection, scope: Scope, whole: Budgets, now: datetime, zone: ZoneInfo
) -> Iterator[Standing]:
    """Read those of jobs, or of webhooks: of what they spent, and what is theirs or else everybody's bound."""
    of_jobs = scope is Scope.JOB_DAY
    own: Mapping[str, float] = jobs.day_budgets(c) if of_jobs else webhooks.day_budgets(c)
    usual = settings.job_defaults(c).max_cost_per_day_usd if of_jobs else None
    widest = whole.job_day_usd if of_jobs else whole.webhook_day_usd
    if not own and usual is None and widest is None:
        return
    dimension, period = Dimension.JOB if of_jobs else Dimension.WEBHOOK, period_of(scope, now, zone)
    spent = {it.key: it.totals.cost_usd for it in runs.usage_by(c, dimension, *period, _MOST)}
    for key, cost in runs.costs_going_on(c, dimension).items():
        spent[key] = spent.get(key, 0.0) + cost
    for key, cost in spent.items():
        bound = narrower(own.get(key, usual), widest)
        if bound is None or cost <= 0:
            continue
        name = jobs.title(c, key) if of_jobs else webhooks.title(c, key)
        if name is not None:  # else it is deleted
            yield Standing(scope, key, name, cost, bound, period.end)
