"""What callers decide about jobs and webhooks, read into the form in which it is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.grants import read_tools
from claude_runner.jobs import Job, Policy
from claude_runner.permissions import Profile, read_commands
from claude_runner.schedule import local_timezone, zone_of
from claude_runner.text_lists import read_list
from claude_runner.views.policies import wished_policy
from claude_runner.webhooks import MAX_PLAIN_FIELDS, Signature, Webhook


class ChosenProfile(StrEnum):
    """A permission profile, or the owner's default."""

    CONTAINED = "contained"
    RULES = "rules"
    FULL = "full"
    DEFAULT = "default"


class ChosenSignature(StrEnum):
    """How deliveries are signed, or that they are not."""

    NONE = "none"
    GITHUB = "github"
    STRIPE = "stripe"
    SLACK = "slack"
    GITLAB = "gitlab"
    SHOPIFY = "shopify"
    STANDARD = "standard"


@dataclass(frozen=True, slots=True)
class Decided:
    """Decisions in the form in which they are kept.

    Attributes:
        values: Fields of a draft, with their values.
        warnings: What there is to say about the tools; `None` where nothing was decided about them.
    """

    values: dict[str, Any]
    warnings: tuple[str, ...] | None


async def decided(app: App, given: Mapping[str, Any], old: Job | Webhook | None = None) -> Decided:
    """Read decisions about a job or a webhook, and have what they grant looked at.

    Args:
        app: Whose rights are granted.
        given: Fields of the draft that were decided. `tools`, `commands` and `plain_fields` may be texts that hold a
            list as JSON; `profile` and `signature` may be `default` and `none`; an empty `model` is the default, a
            cost of 0 no bound; `policy` are rules by name, of which null goes back to the owner's default.
        old: What is changed; `None` for something new.

    Raises:
        InvalidError: A value can't be read, or a tool or the profile may not or can't be granted.
    """
    values = {name: _READERS[name](value) if name in _READERS else value for name, value in given.items()}
    if "policy" in values:
        values["policy"] = await _policy(app, values, old)
    if old is not None and "signature" in values and values["signature"] is None:
        values["signing_secret"] = None  # which goes with the signature that it is for
    if old is not None and not values.keys() & _RIGHTS.keys():
        return Decided(values, None)
    rights = {right: values.get(right, getattr(old, right, empty)) for right, empty in _RIGHTS.items()}
    grant = await app.reach.grant(*rights.values())
    return Decided(values | {"tools": grant.tools}, grant.warnings)


async def _policy(app: App, values: Mapping[str, Any], old: Job | Webhook | None) -> Policy:
    before = old.policy if isinstance(old, Job) else Policy()
    if (wished := values["policy"]) is None or wished == "":
        return before
    timezone = values.get("timezone") or (old.timezone if isinstance(old, Job) else None)
    return await wished_policy(app, wished, before, None if timezone is None else zone_of(timezone))


async def owners_zone(app: App) -> ZoneInfo:
    """Return the zone of the owner's clock: the one that the settings name, else the machine's."""
    return ZoneInfo((await app.stored.owned()).timezone or local_timezone())


def chosen_profile(chosen: ChosenProfile | None) -> Profile | None:
    """Return the profile that was chosen, `None` for the owner's default."""
    return None if chosen in {None, ChosenProfile.DEFAULT} else Profile(str(chosen))


def _chosen_signature(chosen: ChosenSignature | None) -> Signature | None:
    return None if chosen in {None, ChosenSignature.NONE} else Signature(str(chosen))


def _fields(given: list[str] | str | None) -> tuple[str, ...]:
    return tuple(read_list(given, "plain_fields", MAX_PLAIN_FIELDS, '["payload.action"]'))


# What a run may do, in the order in which it is granted, each with what stands for nothing said.
_RIGHTS: Final[Mapping[str, Any]] = MappingProxyType({"tools": (), "profile": None, "commands": ()})
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "tools": read_tools,
        "commands": read_commands,
        "profile": chosen_profile,
        "model": lambda model: model or None,
        "signature": _chosen_signature,
        "plain_fields": _fields,
        "max_cost_usd": lambda dollars: dollars or None,
        "max_cost_per_day_usd": lambda dollars: dollars or None,
    }
)
