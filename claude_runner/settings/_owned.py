"""What each setting may be: how its value is read, checked and written. Which servers there are is not decided here."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from claude_runner.config import is_host
from claude_runner.errors import InvalidError
from claude_runner.grants import BUILT_INS
from claude_runner.jobs import Policy, check_model, decided_in, read_policy
from claude_runner.permissions import IN_SANDBOX_MODE, Profile
from claude_runner.prices import Price
from claude_runner.schedule import parse
from claude_runner.settings._amounts import (
    NOTHING,
    Budgets,
    FollowUpCaps,
    as_json,
    read_budgets,
    read_caps,
    read_prices,
)

# What is a job's own alone: when it runs, and who is told that it has.
OF_ONE_JOB: Final = frozenset({"starts_at", "ends_at", "blackouts", "heartbeat_url"})

# A rule of jobs with the budget that it must not be above.
_BOUNDED: Final = MappingProxyType({"max_cost_usd": "run_usd", "max_cost_per_day_usd": "job_day_usd"})

# Of these, what is left out of a change stays as it is, and null takes an entry out.
MERGED: Final = frozenset({"budgets", "job_defaults", "prices"})

DEFAULTS: Final = MappingProxyType(
    {
        "allowed_tools": ["WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash"],
        "mcp_servers": [],
        "mcp_env_vars": {},
        "webhook_base_url": "http://localhost:8080",
        "sandbox_mode": True,
        "permission_profile": None,
        "followups": FollowUpCaps()._asdict(),
        "install_dependencies": False,
        "timezone": None,
        "default_model": None,
        "budgets": Budgets()._asdict(),
        "job_defaults": {},
        "prices": {},
    }
)


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """What the owner has decided, but for which servers there are.

    Attributes:
        allowed_tools: Built-in tools that runs may have.
        webhook_base_url: Base of the URLs that leave the machine; `None` for where the server listens.
        sandbox_mode: Whether no run may have the profile `full`.
        permission_profile: That of whatever names none; `None` for what `sandbox_mode` makes of it.
        install_dependencies: Whether packages that tool servers declare may be installed.
        timezone: That of a new job that names none; `None` for the machine's.
        default_model: That of whatever names none; `None` for Claude Code's own default.
        budgets: What runs may cost; unreadable ones are `NOTHING`.
        job_defaults: Rules of jobs that decide nothing themselves.
        prices: What models cost whose price is not known here, or is another for the owner.
    """

    allowed_tools: tuple[str, ...]
    webhook_base_url: str | None
    sandbox_mode: bool
    permission_profile: Profile | None
    followups: FollowUpCaps
    install_dependencies: bool
    timezone: str | None
    default_model: str | None
    budgets: Budgets
    job_defaults: Policy = field(default_factory=Policy)
    prices: Mapping[str, Price] = field(default_factory=lambda: MappingProxyType({}))

    def refuse_contradictions(self, changed: Mapping[str, object]) -> None:
        """Raise `InvalidError` where what was changed does not go together with the rest."""
        if self.sandbox_mode and self.permission_profile is Profile.FULL:
            field = "permission_profile" if "permission_profile" in changed else "sandbox_mode"
            raise InvalidError(IN_SANDBOX_MODE, field=field)
        if {"budgets", "job_defaults"} & changed.keys():
            for rule, budget in _BOUNDED.items():
                self._check_default(rule, budget, "job_defaults" in changed)

    def _check_default(self, rule: str, budget: str, rule_is_new: bool) -> None:  # noqa: FBT001 - one of two to blame
        by_default, most = getattr(self.job_defaults, rule), getattr(self.budgets, budget)
        if by_default is not None and most is not None and by_default > most:
            raise InvalidError(
                f"{rule} of a job that decides nothing is {by_default:g} and the budget {budget} only {most:g}, so it "
                f"could never be reached: lower {rule}, or raise {budget}",
                field=f"job_defaults.{rule}" if rule_is_new else f"budgets.{budget}",
            )


def checked(key: str, value: object, before: OwnerSettings) -> Any:
    """Return a value for a setting in the form in which it is used.

    Args:
        key: Which setting.
        value: What it is to be; of those that are `MERGED`, the entries that are to change.
        before: The settings as they are.

    Raises:
        InvalidError: There is no such setting, or the value can't be used; `field` is the setting.
    """
    if key not in _READERS:
        known = ", ".join(_READERS)
        raise InvalidError(f"there is no setting {key[:60]!r} to change here; there are {known}", field=key)
    read = _READERS[key](_merged(key, value, getattr(before, key)) if key in MERGED else value)
    if key == "allowed_tools" and (unknown := [name for name in read if name not in BUILT_INS]):
        raise InvalidError(
            f"{unknown[0][:60]!r} is no built-in tool; there are {', '.join(BUILT_INS)}", field=key
        )
    return read


def read_owned(stored: Mapping[str, str]) -> OwnerSettings:
    """Return what is stored, by key as JSON; what can't be read counts as its default, or as what allows least."""
    return OwnerSettings(
        **{each.name: read_setting(each.name, stored.get(each.name)) for each in fields(OwnerSettings)}
    )


def written(key: str, value: Any) -> str:
    """Return a value in the form in which it is stored."""
    if key == "webhook_base_url" and value is None:
        value = DEFAULTS[key]
    if isinstance(value, Policy):
        value = decided_in(value)
    return json.dumps(
        as_json(value) if isinstance(value, (FollowUpCaps, Budgets)) or key == "prices" else value
    )


def as_text(owned: OwnerSettings) -> str:
    """Return settings as a text that `from_text` reads, such as a form bears to say what it was filled with."""
    values = {each.name: json.loads(written(each.name, getattr(owned, each.name))) for each in fields(owned)}
    return json.dumps(values, separators=(",", ":"))


def from_text(text: str) -> OwnerSettings | None:
    """Return the settings of such a text, `None` where it is none."""
    with suppress(ValueError, RecursionError):
        values = json.loads(text)
        if isinstance(values, dict):
            return read_owned({key: json.dumps(value) for key, value in values.items()})
    return None


def is_url(text: str) -> bool:
    """Tell whether a text is an http or https URL."""
    with suppress(ValueError):  # brackets that hold no address
        return text.startswith(("http://", "https://")) and is_host(urlsplit(text).netloc)
    return False


def read_setting(key: str, text: str | None) -> Any:
    """Return a setting of which this is stored; see `read_owned`."""
    if text is None:
        return _READERS[key](DEFAULTS[key])
    with suppress(InvalidError, ValueError, RecursionError):
        value = json.loads(text)
        if key == "allowed_tools" and isinstance(value, list):
            value = [name for name in value if isinstance(name, str)]  # what was meant is plain
        return _READERS[key](value)
    return _LEAST[key] if key in _LEAST else _READERS[key](DEFAULTS[key])


def _merged(key: str, changes: object, before: Any) -> object:
    """Return what a setting comes to by a change of some of its entries; unreadable ones are set anew.

    JSON has entries as a `dict`, `OwnerSettings` never does: what it has is the whole.
    """
    if not isinstance(changes, dict):
        return changes
    kept = {} if key in _LEAST and before == _LEAST[key] else json.loads(written(key, before))
    merged = kept | changes
    return {name: value for name, value in merged.items() if value is not None}


def _is_nothing(value: object) -> bool:
    return value is None or value == ""


def _tools(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        raise InvalidError('give a list of tools, such as ["Read", "WebSearch"]', field="allowed_tools")
    return tuple(dict.fromkeys(value))


def _base_url(value: object) -> str | None:
    if _is_nothing(value) or value == DEFAULTS["webhook_base_url"]:
        return None
    if not isinstance(value, str) or not is_url(value.strip()):
        raise InvalidError(
            "give a URL such as https://runner.example.com, or nothing for where the server listens",
            field="webhook_base_url",
        )
    return value.strip().rstrip("/")


def _switch(key: str) -> Callable[[object], bool]:
    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise InvalidError(f"{key} is true or false", field=key)
        return value

    return read


def _profile(value: object) -> Profile | None:
    if _is_nothing(value) or value == "default":
        return None
    with suppress(ValueError):
        return Profile(str(value))
    raise InvalidError(
        f"give one of {', '.join(Profile)}, or nothing for what sandbox_mode makes of it",
        field="permission_profile",
    )


def _zone(value: object) -> str | None:
    if _is_nothing(value):
        return None
    if not isinstance(value, str):
        raise InvalidError("give the name of a zone, such as 'Europe/Berlin', or nothing", field="timezone")
    return parse("@daily", value).timezone


def _model(value: object) -> str | None:
    if _is_nothing(value):
        return None
    if not isinstance(value, str):
        raise InvalidError("give the name of a model, such as 'sonnet', or nothing", field="default_model")
    try:
        check_model(value)
    except InvalidError as error:
        raise InvalidError(str(error), field="default_model") from error
    return value


def _job_defaults(value: object) -> Policy:
    if isinstance(value, Policy):
        value = decided_in(value)
    if not isinstance(value, Mapping):
        raise InvalidError('give rules of jobs, such as {"overlap": "queue_one"}', field="job_defaults")
    try:
        return read_policy(value, OF_ONE_JOB)
    except InvalidError as error:
        raise InvalidError(str(error), field=f"job_defaults.{error.field}") from error


_READERS: Final[Mapping[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "allowed_tools": _tools,
        "webhook_base_url": _base_url,
        "sandbox_mode": _switch("sandbox_mode"),
        "permission_profile": _profile,
        "followups": read_caps,
        "install_dependencies": _switch("install_dependencies"),
        "timezone": _zone,
        "default_model": _model,
        "budgets": read_budgets,
        "job_defaults": _job_defaults,
        "prices": read_prices,
    }
)
# What an unreadable value counts as, where the default would allow more than its owner may have meant.
_LEAST: Final[Mapping[str, Any]] = MappingProxyType(
    {"allowed_tools": (), "permission_profile": Profile.CONTAINED, "budgets": NOTHING}
)
