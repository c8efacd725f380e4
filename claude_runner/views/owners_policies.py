"""What the owner has decided for all jobs: rules, budgets and prices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.jobs import STANDARD, Policy
from claude_runner.settings import OF_ONE_JOB, OwnerSettings
from claude_runner.views.decisions import owners_zone
from claude_runner.views.policies import (
    check_channels,
    policy_view,
    read_object,
    read_policy_changes,
)

_EXAMPLES = {
    "defaults": '{"max_retries": 1}',
    "budgets": '{"day_usd": 10}',
    "prices": '{"my-model": {"input": 3, "output": 15}}',
}


@dataclass(frozen=True, slots=True)
class OwnersPolicies:
    """Rules of jobs that decide nothing themselves, budgets in US dollars, and prices per million tokens.

    Of the defaults, `own` are those that the owner set. Days and months of the budgets are those of `timezone`.
    """

    defaults: dict[str, Any]
    budgets: dict[str, float | None]
    prices: dict[str, dict[str, float]]
    timezone: str


async def owners_policies(app: App) -> OwnersPolicies:
    """Return what the owner has decided."""
    return await _view(app, await app.stored.owned())


async def set_owners_policies(app: App, wished: Mapping[str, Mapping[str, Any] | str]) -> OwnersPolicies:
    """Change what is named of `defaults`, `budgets` and `prices`; null takes an entry away.

    Raises:
        InvalidError: A value can't be used; `field` tells which.
    """
    changes = {key: dict(read_object(value, key, _EXAMPLES[key])) for key, value in wished.items()}
    if (rules := changes.pop("defaults", None)) is not None:
        if own := [name for name, value in rules.items() if value is not None and name in OF_ONE_JOB]:
            raise InvalidError(
                f"{own[0]} is decided for each job by itself: update_job sets it", field=own[0]
            )
        await check_channels(app, read_policy_changes(rules, Policy()).notify_channels)
        changes["job_defaults"] = rules
    return await _view(app, await app.stored.change(changes))


async def _view(app: App, owned: OwnerSettings) -> OwnersPolicies:
    return OwnersPolicies(
        defaults=policy_view(owned.job_defaults, STANDARD),
        budgets=owned.budgets._asdict(),
        prices={model: {"input": each.input, "output": each.output} for model, each in owned.prices.items()},
        timezone=(await owners_zone(app)).key,
    )
