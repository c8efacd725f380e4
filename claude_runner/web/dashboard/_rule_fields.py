"""The rules of a job in its form: as they are stored, as somebody typed them, and the policy that they come to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.jobs import Policy
from claude_runner.schedule import zone_of
from claude_runner.views.pauses import read_moment
from claude_runner.views.policies import wished_policy
from claude_runner.web.dashboard._forms import Form

RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "overlap": "While a run goes on",
        "catch_up": "After an outage",
        "catch_up_minutes": "Late by at most",
        "jitter_seconds": "Start later, by chance",
        "starts_at": "From",
        "ends_at": "Until",
        "blackouts": "Not at these times",
        "max_retries": "Try again",
        "on_crash": "If the server dies",
        "pause_after_failures": "Pause after failures",
        "max_cost_usd": "A run may cost",
        "max_cost_per_day_usd": "A day may cost",
        "cost_breaker": "Unusual cost",
        "notify_on": "What is told",
        "notify_after_failures": "Failures are told from",
        "notify_channels": "Where it is told",
        "heartbeat_url": "Heartbeat",
    }
)  # in the form's order
OWN: Final = "own"  # what a form says of a list that does not go by the owner's default
_NUMBERS: Final = frozenset(
    {
        "catch_up_minutes",
        "jitter_seconds",
        "max_retries",
        "pause_after_failures",
        "max_cost_usd",
        "max_cost_per_day_usd",
        "cost_breaker",
        "notify_after_failures",
    }
)
_MOMENTS: Final = frozenset({"starts_at", "ends_at"})  # on the job's own clock
_TICKED: Final = frozenset({"notify_on", "notify_channels"})


@dataclass(frozen=True, slots=True)
class RuleFields:
    """The rules in a job's form, as they are typed; what is empty, or `None`, is the owner's default."""

    overlap: str = ""
    catch_up: str = ""
    catch_up_minutes: str = ""
    jitter_seconds: str = ""
    starts_at: str = ""
    ends_at: str = ""
    blackouts: str = ""
    max_retries: str = ""
    on_crash: str = ""
    pause_after_failures: str = ""
    max_cost_usd: str = ""
    max_cost_per_day_usd: str = ""
    cost_breaker: str = ""
    notify_on: tuple[str, ...] | None = None
    notify_after_failures: str = ""
    notify_channels: tuple[str, ...] | None = None
    heartbeat_url: str = ""

    @property
    def own(self) -> int:
        """How many rules do not go by the owner's default."""
        return sum(getattr(self, name) not in {"", None} for name in RULES)


def stored_rules(policy: Policy, timezone: str) -> dict[str, Any]:
    """Return the fields of a policy, its instants on the clock of a zone, in UTC where there is no such zone."""
    zone = clock_of(timezone) or ZoneInfo("UTC")
    return {name: _text(name, getattr(policy, name), zone) for name in RULES}


def typed_rules(form: Form) -> dict[str, Any]:
    """Return the fields as somebody typed them."""
    return {name: _typed(form, name) for name in RULES}


def clock_of(timezone: str) -> ZoneInfo | None:
    """Return the zone of a name; `None` where there is none."""
    with suppress(InvalidError):
        return zone_of(timezone.strip())
    return None


async def read_rules(
    app: App, fields: RuleFields, timezone: str, before: Policy
) -> tuple[Policy, dict[str, str]]:
    """Return a policy with the rules that were typed otherwise than they are stored, read as the API reads them.

    Beside it is a sentence for each rule that can't be used, by its name; the policy is without those.
    """
    errors: dict[str, str] = {}
    wished = _wished(fields, timezone, before, errors)
    while True:
        try:
            return await wished_policy(app, wished, before), errors
        except InvalidError as error:
            name = error.field or ""
            errors.setdefault(name, str(error))
            if name not in wished:
                return before, errors
            del wished[name]  # what may be wrong with the others is told as well


def _wished(fields: RuleFields, timezone: str, before: Policy, errors: dict[str, str]) -> dict[str, Any]:
    """Return the rules that were typed otherwise, as the API takes them; null is the owner's default."""
    zone = clock_of(timezone)
    stored = stored_rules(before, timezone)
    wished: dict[str, Any] = {}
    for name in RULES:
        typed = getattr(fields, name)
        if typed == stored[name] or (name in _MOMENTS and zone is None):
            continue
        with _told(errors):
            wished[name] = None if typed in {"", None} else _wish(name, typed, zone)
    return wished


@contextmanager
def _told(errors: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except InvalidError as error:
        errors[error.field or ""] = str(error)


def _wish(name: str, typed: Any, zone: ZoneInfo | None) -> Any:
    if name in _MOMENTS and zone is not None:
        return read_moment(typed, name, zone).isoformat()
    if name in _NUMBERS:
        return _number(typed)
    if name == "blackouts":
        return typed.split("\n")
    return list(typed) if name in _TICKED else typed


def _number(text: str) -> int | float | str:
    """Return a number, or what was typed, which whoever reads it refuses in its own words."""
    plain = text.removeprefix("$").strip()
    if plain.isascii() and plain.isdigit() and len(plain) <= 15:
        return int(plain)
    try:
        return float(plain) if plain.isascii() else text
    except ValueError:
        return text


def _typed(form: Form, name: str) -> Any:
    if name in _TICKED:
        return tuple(dict.fromkeys(form.all(name))) if form.text(f"{name}_by") == OWN else None
    text = form.text(name).strip()
    if name == "blackouts":
        return "\n".join(line for line in (" ".join(each.split()) for each in text.split("\n")) if line)
    return text


def _text(name: str, value: Any, zone: ZoneInfo) -> Any:
    if name in _TICKED:
        return None if value is None else tuple(map(str, value))
    if value is None:
        return ""
    match value:
        case datetime():
            local = value.astimezone(zone).replace(tzinfo=None)
            return local.isoformat(timespec="auto" if local.second or local.microsecond else "minutes")
        case tuple():
            return "\n".join(value)
        case float():
            return f"{value:g}" if float(f"{value:g}") == value and value < 1e6 else str(value)
        case _:
            return str(value)
