"""What bounds a run: its own, its job's or its webhook's, and everybody's; of two the narrower one holds."""

import sqlite3
from dataclasses import dataclass, replace

from claude_runner import jobs, settings, webhooks
from claude_runner.budgets._records import Scope, in_dollars
from claude_runner.runs import Run


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run and those that count with it may cost, in US dollars; `None` for no bound.

    Attributes:
        breaker: Above so many times the usual cost of its job it is stopped; 0 for never.
    """

    run_usd: float | None = None
    job_day_usd: float | None = None
    webhook_day_usd: float | None = None
    day_usd: float | None = None
    month_usd: float | None = None
    breaker: float = 0.0

    def together(self) -> dict[Scope, float]:
        """Return what is bounded besides the run itself, the widest first."""
        every = {
            Scope.MONTH: self.month_usd,
            Scope.DAY: self.day_usd,
            Scope.JOB_DAY: self.job_day_usd,
            Scope.WEBHOOK_DAY: self.webhook_day_usd,
        }
        return {scope: bound for scope, bound in every.items() if bound is not None}

    def unkept(self, model: str | None) -> str | None:
        """Return what there is to say where the price of the model is not known; `None` where nothing is bounded."""
        named = {
            "its budget of {}": self.run_usd,
            "its job's budget of {} a day": self.job_day_usd,
            "its webhook's budget of {} a day": self.webhook_day_usd,
            "the budget of {} a day": self.day_usd,
            "the budget of {} a month": self.month_usd,
        }
        said = next((said.format(in_dollars(bound)) for said, bound in named.items() if bound), None)
        if said is None:
            return None
        name = "the model" if model is None else repr(model[:60])
        return f"the price of {name} is not known, so {said} can't be kept; give it with set_policies(prices=...)"


def bounds_of(c: sqlite3.Connection, job_id: str | None = None, webhook_id: str | None = None) -> Bounds:
    """Read what bounds the runs of a job or a webhook, or of neither."""
    whole = settings.budgets(c)
    job = None if job_id is None else jobs.find(c, job_id)
    run_usd, job_day_usd, webhook_day_usd, breaker = whole.run_usd, None, None, 0.0
    if job is not None:
        policy = job.policy.or_else(settings.job_defaults(c))
        run_usd = narrower(run_usd, policy.max_cost_usd)
        job_day_usd = narrower(whole.job_day_usd, policy.max_cost_per_day_usd)
        breaker = policy.cost_breaker or 0.0
    if webhook_id is not None:
        a_run, a_day = webhooks.max_costs(c, webhook_id)
        run_usd = narrower(run_usd, a_run)
        webhook_day_usd = narrower(whole.webhook_day_usd, a_day)
    return Bounds(run_usd, job_day_usd, webhook_day_usd, whole.day_usd, whole.month_usd, breaker)


def bounds_of_run(c: sqlite3.Connection, run: Run) -> Bounds:
    """Read what bounds a run; its own bound is as it was when the run was made, where it was given one."""
    found = bounds_of(c, run.job_id, run.webhook_id)
    if run.max_cost_usd is None:
        return found
    return replace(found, run_usd=narrower(run.max_cost_usd, settings.budgets(c).run_usd))


def narrower(one: float | None, other: float | None) -> float | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)
