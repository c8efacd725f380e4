"""What each setting may be: how its value is read, checked and written. Which servers there are is not decided here."""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from claude_runner.config import is_host
from claude_runner.errors import InvalidError
from claude_runner.grants import BUILT_INS
from claude_runner.jobs import Policy, check_model, decided_in, read_policy
from claude_runner.permissions import IN_SANDBOX_MODE, Profile
from claude_runner.schedule import parse


class FollowUpCaps(NamedTuple):
    """How far a chain of runs that ask for one another may go.

    Attributes:
        max_depth: Follow-ups one after the other.
        max_runs: Follow-ups of one chain in all.
        max_cost_usd: What a chain may have cost, its first run included, for another follow-up to be made or started.
    """

    max_depth: int = 3
    max_runs: int = 10
    max_cost_usd: float = 5.0


class Budgets(NamedTuple):
    """What all runs of a day and of a month may cost before the owner is warned; `None` for no bound."""

    day_usd: float | None = None
    month_usd: float | None = None


# What is a job's own alone: when it runs, and who is told that it has.
OF_ONE_JOB: Final = frozenset({"starts_at", "ends_at", "blackouts", "heartbeat_url"})

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
        budgets: Where the owner is warned; nothing is stopped by them.
        job_defaults: Rules of jobs that decide nothing themselves.
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

    def refuse_contradictions(self, changed: Mapping[str, object]) -> None:
        """Raise `InvalidError` where what was changed does not go together with the rest."""
        if self.sandbox_mode and self.permission_profile is Profile.FULL:
            field = "permission_profile" if "permission_profile" in changed else "sandbox_mode"
            raise InvalidError(IN_SANDBOX_MODE, field=field)


def checked(key: str, value: object) -> Any:
    """Return a value for a setting in the form in which it is used.

    Raises:
        InvalidError: There is no such setting, or the value can't be used; `field` is the setting.
    """
    if key not in _READERS:
        known = ", ".join(_READERS)
        raise InvalidError(f"there is no setting {key[:60]!r} to change here; there are {known}", field=key)
    read = _READERS[key](value)
    if key == "allowed_tools" and (unknown := [name for name in read if name not in BUILT_INS]):
        raise InvalidError(
            f"{unknown[0][:60]!r} is no built-in tool; there are {', '.join(BUILT_INS)}", field=key
        )
    return read


def read_owned(stored: Mapping[str, str]) -> OwnerSettings:
    """Return what is stored, by key as JSON; what can't be read counts as its default, or as what allows least."""
    return OwnerSettings(**{each.name: _read(each.name, stored) for each in fields(OwnerSettings)})


def written(key: str, value: Any) -> str:
    """Return a value in the form in which it is stored."""
    if key == "webhook_base_url" and value is None:
        value = DEFAULTS[key]
    if isinstance(value, Policy):
        value = decided_in(value)
    return json.dumps(value._asdict() if isinstance(value, (FollowUpCaps, Budgets)) else value)


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


def is_amount(value: object) -> bool:
    """Tell whether a value is a number from 0 on."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def is_url(text: str) -> bool:
    """Tell whether a text is an http or https URL."""
    with suppress(ValueError):  # brackets that hold no address
        return text.startswith(("http://", "https://")) and is_host(urlsplit(text).netloc)
    return False


def _read(key: str, stored: Mapping[str, str]) -> Any:
    if key not in stored:
        return _READERS[key](DEFAULTS[key])
    with suppress(InvalidError, ValueError, RecursionError):
        return _READERS[key](json.loads(stored[key]))
    return _LEAST[key] if key in _LEAST else _READERS[key](DEFAULTS[key])


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


def _caps(value: object) -> FollowUpCaps:
    given = value._asdict() if isinstance(value, FollowUpCaps) else value
    if not isinstance(given, Mapping) or not given.keys() <= set(FollowUpCaps._fields):
        raise InvalidError(f"give {', '.join(FollowUpCaps._fields)}", field="followups")
    for name, amount in given.items():
        if not is_amount(amount) or (name != "max_cost_usd" and amount != int(amount)):
            raise InvalidError(f"{name} is a number from 0 on, not {str(amount)[:60]!r}", field="followups")
    return FollowUpCaps(
        **{name: amount if name == "max_cost_usd" else int(amount) for name, amount in given.items()}
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


def _budgets(value: object) -> Budgets:
    given = value._asdict() if isinstance(value, Budgets) else value
    if not isinstance(given, Mapping) or not given.keys() <= set(Budgets._fields):
        raise InvalidError(f"give {', '.join(Budgets._fields)}", field="budgets")
    for name, amount in given.items():
        if amount is not None and not is_amount(amount):
            raise InvalidError(
                f"{name} is an amount of US dollars from 0 on, not {str(amount)[:60]!r}", field="budgets"
            )
    return Budgets(**given)


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
        "followups": _caps,
        "install_dependencies": _switch("install_dependencies"),
        "timezone": _zone,
        "default_model": _model,
        "budgets": _budgets,
        "job_defaults": _job_defaults,
    }
)
# What an unreadable value counts as, where the default would allow more than its owner may have meant.
_LEAST: Final[Mapping[str, Any]] = MappingProxyType(
    {"allowed_tools": (), "permission_profile": Profile.CONTAINED}
)
