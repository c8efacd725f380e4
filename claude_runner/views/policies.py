"""A job's rules: what is told of them, and how a caller's wishes for them are read."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.jobs import (
    STANDARD,
    CatchUp,
    NotifyOn,
    OnCrash,
    Overlap,
    Policy,
    decided_in,
)
from claude_runner.views.fitting import joined, shown
from claude_runner.views.instants import iso, read_instant
from claude_runner.views.pauses import read_moment


async def owners_policy(app: App) -> Policy:
    """Return the rules of a job that decides nothing itself."""
    return (await app.stored.owned()).job_defaults.or_else(STANDARD)


def policy_view(policy: Policy, default: Policy) -> dict[str, Any]:
    """Return a job's rules by name, those of the owner in place of what it does not decide.

    `own` are the names of those that it decided itself.
    """
    holds = policy.or_else(default)
    values = {name: _told(getattr(holds, name)) for name in _READERS}
    return {**values, "own": [*decided_view(policy)]}


def decided_view(policy: Policy) -> dict[str, Any]:
    """Return just the rules that were decided."""
    return {name: value for name, value in decided_in(policy).items() if name in _READERS}


def read_policy_changes(
    wished: Mapping[str, Any] | str, policy: Policy, zone: ZoneInfo | None = None
) -> Policy:
    """Return a policy with what a caller wishes: the rules that are given change, null goes back to the default.

    Args:
        wished: Rules by name, or a text that holds them as JSON.
        policy: What they change.
        zone: Whose clock is meant by instants without an offset; without it each must have one.

    Raises:
        InvalidError: There is no such rule, its value can't be used, or two contradict each other; `field` is the
            rule's name.
    """
    given = read_object(wished, "policy", '{"overlap": "queue_one"}')
    if unknown := [name for name in given if name not in _READERS]:
        raise InvalidError(
            f"a policy has no rule {shown(unknown[0])}; there are {', '.join(_READERS)}",
            field=unknown[0][:60],
        )
    changes: dict[str, Any] = {
        name: _DEFAULTS[name] if value is None else _read(name, value, zone) for name, value in given.items()
    }
    changed = replace(policy, **changes)
    changed.check()
    return changed


async def wished_policy(
    app: App, wished: Mapping[str, Any] | str, before: Policy, zone: ZoneInfo | None = None
) -> Policy:
    """Return a policy with what a caller wishes, its channels among those that there are; raises `InvalidError`."""
    policy = read_policy_changes(wished, before, zone)
    if policy.notify_channels != before.notify_channels:
        await check_channels(app, policy.notify_channels)
    return policy


async def check_channels(app: App, names: tuple[str, ...] | None) -> None:
    """Refuse names that no notification channel has; raises `InvalidError`."""
    if not names:
        return
    known = [channel.name for channel in await app.channels.list()]
    if unknown := [name for name in names if name not in known]:
        there = f"there are {', '.join(known)}" if known else "create_notification_channel makes one"
        raise InvalidError(f"there is no channel {shown(unknown[0])}; {there}", field="notify_channels")


def read_object(given: Mapping[str, Any] | str, field: str, example: str) -> Mapping[str, Any]:
    """Return an object, or the one that a text holds as JSON; raises `InvalidError` where there is none."""
    content: object = given
    if isinstance(given, str):
        with suppress(ValueError, RecursionError):
            content = json.loads(given)
    if not isinstance(content, Mapping):
        raise InvalidError(f"{field} is {shown(given)}; give an object such as {example}", field=field)
    return content


def _told(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return list(value) if isinstance(value, tuple) else value


# How each rule is read


def _read(name: str, value: object, zone: ZoneInfo | None) -> Any:
    if zone is not None and name in _INSTANTS:
        return _on_a_clock(name, value, zone)
    return _READERS[name](name, value)


def _on_a_clock(name: str, value: object, zone: ZoneInfo) -> datetime:
    """Read an instant; what ends on a day, ends with it."""
    text = _text(name, value)
    if name == "ends_at":
        with suppress(ValueError):
            text = f"{date.fromisoformat(text)}T23:59:59"
    return read_moment(text, name, zone)


def _choice(kind: type[StrEnum]) -> Callable[[str, object], StrEnum]:
    def read(name: str, value: object) -> StrEnum:
        with suppress(ValueError):
            return kind(str(value).strip().lower())
        raise InvalidError(f"{name} is {shown(value)}; it must be {joined([*kind], 'or')}", field=name)

    return read


def _count(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidError(f"{name} is {shown(value)}; it must be a whole number, such as 3", field=name)
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidError(f"{name} is {shown(value)}; it must be a number, such as 1.5", field=name)
    with suppress(OverflowError):  # so large that it is none in any case
        return float(value)
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    items: object = value
    if isinstance(value, str):
        try:
            items = json.loads(value)
        except (ValueError, RecursionError):
            items = [value] if value.strip() else []  # one by itself
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InvalidError(f"{name} is {shown(value)}; it must be a list of texts", field=name)
    return tuple(dict.fromkeys(item.strip() for item in items))


def _events(name: str, value: object) -> tuple[StrEnum, ...]:
    return tuple(_choice(NotifyOn)(name, text) for text in _texts(name, value))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidError(f"{name} is {shown(value)}; it must be a text", field=name)
    return value.strip()


def _instant(name: str, value: object) -> datetime | None:
    return read_instant(_text(name, value), name)


_INSTANTS: Final = ("starts_at", "ends_at")
_DEFAULTS: Final = MappingProxyType({each.name: each.default for each in fields(Policy)})
_READERS: Final[Mapping[str, Callable[[str, object], Any]]] = MappingProxyType(
    {
        "overlap": _choice(Overlap),
        "catch_up": _choice(CatchUp),
        "catch_up_minutes": _count,
        "jitter_seconds": _count,
        "starts_at": _instant,
        "ends_at": _instant,
        "blackouts": _texts,
        "max_retries": _count,
        "on_crash": _choice(OnCrash),
        "pause_after_failures": _count,
        "max_cost_usd": _number,
        "max_cost_per_day_usd": _number,
        "cost_breaker": _number,
        "notify_on": _events,
        "notify_after_failures": _count,
        "notify_channels": _texts,
        "heartbeat_url": _text,
    }
)
