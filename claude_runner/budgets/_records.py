"""What may be used up, and what is said of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Scope(StrEnum):
    """What has a bound: a run, those of a job or a webhook in a day, those of a day or a month, a job's usual cost."""

    RUN = "run"
    JOB_DAY = "job_day"
    WEBHOOK_DAY = "webhook_day"
    DAY = "day"
    MONTH = "month"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget that is used up.

    Attributes:
        sentence: What was spent of what, for a person.
        until: When it begins anew; `None` for one that does not.
        bound_usd: How much it is; of a job's usual cost, how much was too much.
    """

    scope: Scope
    sentence: str
    until: datetime | None
    bound_usd: float


def in_dollars(amount: float) -> str:
    """Return an amount as people write it, exact enough for what a turn costs."""
    if amount == int(amount):
        return f"${amount:,.0f}"
    cents = f"{amount:,.2f}"
    return f"${cents}" if abs(float(cents.replace(",", "")) - amount) < amount / 100 else f"${amount:.4f}"
