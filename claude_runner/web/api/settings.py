"""Endpoints about what the owner has decided for the whole server."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import to_json
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError
from claude_runner.permissions import Profile
from claude_runner.settings import OwnerSettings
from claude_runner.views.decisions import ChosenProfile
from claude_runner.views.policies import decided_view, wished_policy
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._seen import Seen, tag_of
from claude_runner.web.api._types import Flag

Amount = Annotated[float | None, Field(ge=0, strict=True)]


class FollowUpChanges(TypedDict):
    """How far a chain of runs that ask for one another may go."""

    max_depth: Annotated[int, Field(ge=0, strict=True, description="Follow-ups one after the other.")]
    max_runs: Annotated[int, Field(ge=0, strict=True, description="Follow-ups of one chain in all.")]
    max_cost_usd: Annotated[float, Field(ge=0, strict=True, description="What a chain may have cost.")]


class BudgetChanges(TypedDict, total=False):
    """What runs may cost in US dollars; null is no bound, what is left out stays as it is."""

    day_usd: Amount
    month_usd: Amount
    run_usd: Amount
    job_day_usd: Amount
    webhook_day_usd: Amount


class PriceChange(TypedDict):
    """What a million tokens of a model cost in US dollars."""

    input: Annotated[float, Field(ge=0, strict=True, description="Of a million that go in.")]
    output: Annotated[float, Field(ge=0, strict=True, description="Of a million that come out.")]


class SettingChanges(TypedDict, total=False):
    """What is to be changed; what is left out stays as it is."""

    allowed_tools: Annotated[list[str], Field(description="Built-in tools that runs may have.")]
    webhook_base_url: Annotated[
        str | None,
        Field(description="Base of the URLs that leave the machine; null for where the server listens."),
    ]
    sandbox_mode: Annotated[Flag, Field(description="Whether no run may have the profile `full`.")]
    permission_profile: Annotated[
        ChosenProfile | None,
        Field(description="That of whatever names none; null for what sandbox_mode makes of it."),
    ]
    followups: FollowUpChanges
    install_dependencies: Annotated[
        Flag, Field(description="Whether packages that tool servers declare may be installed.")
    ]
    timezone: Annotated[
        str | None, Field(description="That of a job that names none; null for the machine's.")
    ]
    default_model: Annotated[
        str | None, Field(description="Of what names none; null for Claude Code's default.")
    ]
    budgets: BudgetChanges
    job_defaults: Annotated[
        dict[str, Any],
        Field(
            description="Rules of jobs that decide nothing themselves, by name; null goes back to the standard, and "
            "what is left out stays as it is."
        ),
    ]
    prices: Annotated[
        dict[str, PriceChange | None],
        Field(
            description="By the full name of a model; null takes a price out, what is left out stays as it is."
        ),
    ]


@dataclass(frozen=True, slots=True)
class FollowUps:
    """How far a chain of runs that ask for one another may go."""

    max_depth: int
    max_runs: int
    max_cost_usd: float


@dataclass(frozen=True, slots=True)
class BudgetsView:
    """What runs may cost in US dollars; null is no bound."""

    day_usd: float | None
    month_usd: float | None
    run_usd: float | None
    job_day_usd: float | None
    webhook_day_usd: float | None


@dataclass(frozen=True, slots=True)
class PriceView:
    """What a million tokens of a model cost in US dollars."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class SettingsView:
    """What the owner has decided for the whole server; of the rules of jobs just what was decided."""

    allowed_tools: list[str]
    webhook_base_url: str | None
    sandbox_mode: bool
    permission_profile: Profile | None
    followups: FollowUps
    install_dependencies: bool
    timezone: str | None
    default_model: str | None
    budgets: BudgetsView
    job_defaults: dict[str, Any]
    prices: dict[str, PriceView]


def _version(view: SettingsView) -> str:
    return hashlib.sha256(to_json(view)).hexdigest()[:16]


class SettingsEndpoints(EndpointGroup):
    """What the owner has decided."""

    subject = "Settings"

    @endpoint("GET /api/settings", tag=_version)
    async def get_settings(self) -> SettingsView:
        """Show the settings."""
        return _view(await self.app.stored.owned())

    @endpoint("PATCH /api/settings", ConflictError, tag=_version)
    async def change_settings(self, body: SettingChanges, seen: Seen) -> SettingsView:
        """Change some settings; what is left out stays as it is."""
        old = await self.app.stored.owned()
        minds = seen.holds(tag_of(_version(_view(old))), "a setting")
        changes: dict[str, Any] = {**body}
        if "job_defaults" in changes:
            await wished_policy(self.app, changes["job_defaults"], old.job_defaults)
        return _view(await self.app.stored.change(changes, old if minds else None))


def _view(owned: OwnerSettings) -> SettingsView:
    return SettingsView(
        allowed_tools=list(owned.allowed_tools),
        webhook_base_url=owned.webhook_base_url,
        sandbox_mode=owned.sandbox_mode,
        permission_profile=owned.permission_profile,
        followups=FollowUps(*owned.followups),
        install_dependencies=owned.install_dependencies,
        timezone=owned.timezone,
        default_model=owned.default_model,
        budgets=BudgetsView(**owned.budgets._asdict()),
        job_defaults=decided_view(owned.job_defaults),
        prices={model: PriceView(price.input, price.output) for model, price in owned.prices.items()},
    )
