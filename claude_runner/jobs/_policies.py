"""What is done when a slot comes at a bad time, when a run fails, and when it costs too much: a job's own rules."""

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from claude_runner.db import from_text, to_text
from claude_runner.errors import InvalidError
from claude_runner.jobs._choices import CatchUp, NotifyOn, OnCrash, Overlap
from claude_runner.prices import MOST_USD, is_number
from claude_runner.schedule import parse_blackout

MAX_RETRIES: Final = 10
MAX_JITTER_SECONDS: Final = 86_400
MAX_CATCH_UP_MINUTES: Final = 44_640  # a month
MAX_BLACKOUTS: Final = 20
MAX_BREAKER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """A job's own rules; `None` stands for the owner's default.

    Attributes:
        catch_up_minutes: How late a slot may be to be caught up, with `all`.
        jitter_seconds: A slot's run starts up to so many seconds later, by chance but the same for one slot.
        starts_at: No slot before it.
        ends_at: No slot after it.
        blackouts: Windows in which slots are skipped, as `schedule.parse_blackout` reads them in the job's zone.
        max_retries: How often a run is tried again after a failure that may pass.
        pause_after_failures: Failures in a row after which the job pauses itself; 0 for never.
        max_cost_usd: What one run may cost in US dollars, but for one turn.
        max_cost_per_day_usd: What the job's runs of one day may cost together, in the owner's zone.
        cost_breaker: Above so many times the job's usual cost a run is stopped and the job paused; 0 for never.
        notify_after_failures: From which failure in a row on somebody is told.
        notify_channels: Names of the channels that are told; empty for nobody.
        heartbeat_url: What is pinged at the start and the end of each run, in the form of Healthchecks.
    """

    overlap: Overlap | None = None
    catch_up: CatchUp | None = None
    catch_up_minutes: int | None = None
    jitter_seconds: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    blackouts: tuple[str, ...] = ()
    max_retries: int | None = None
    on_crash: OnCrash | None = None
    pause_after_failures: int | None = None
    max_cost_usd: float | None = None
    max_cost_per_day_usd: float | None = None
    cost_breaker: float | None = None
    notify_on: tuple[NotifyOn, ...] | None = None
    notify_after_failures: int | None = None
    notify_channels: tuple[str, ...] | None = None
    heartbeat_url: str | None = None

    def or_else(self, default: "Policy") -> "Policy":
        """Return the rules that hold: these, and where nothing was decided those of the default."""
        undecided = {
            each.name: getattr(default, each.name)
            for each in fields(self)
            if getattr(self, each.name) is None
        }
        return replace(self, **undecided)

    def check(self) -> None:
        """Refuse values that can't be used or do not go together.

        Raises:
            InvalidError: `field` is the name of the rule.
        """
        _check_counts(self)
        check_costs(self.max_cost_usd, self.max_cost_per_day_usd)
        _check_breaker(self.cost_breaker)
        check_ping_url(self.heartbeat_url)
        _check_together(self)


UNDECIDED: Final = Policy()
# What holds where neither the job nor the owner has decided.
STANDARD: Final = Policy(
    overlap=Overlap.SKIP,
    catch_up=CatchUp.LATEST,
    catch_up_minutes=1440,
    jitter_seconds=0,
    max_retries=2,
    on_crash=OnCrash.FAIL,
    pause_after_failures=0,
    cost_breaker=0.0,
    notify_on=(NotifyOn.FAILURE, NotifyOn.RECOVERY, NotifyOn.MISSED, NotifyOn.PAUSED, NotifyOn.BUDGET),
    notify_after_failures=1,
    notify_channels=None,
)


def check_amount(name: str, amount: Any) -> None:
    """Refuse what is no amount of US dollars that a run could be begun with; raises `InvalidError`."""
    if amount is None:
        return
    if not is_number(amount):
        raise InvalidError(f"{name} is a number of US dollars, not {str(amount)[:60]!r}", field=name)
    if amount <= 0:
        raise InvalidError(
            f"{name} is {amount:g}; with that nothing could run: give more than 0, leave it out for no bound, or "
            "pause the job",
            field=name,
        )
    if amount > MOST_USD:
        raise InvalidError(
            f"{name} is more than {MOST_USD:,}; give less, or leave it out for no bound", field=name
        )


def check_costs(a_run: float | None, a_day: float | None) -> None:
    """Refuse what one run, and all runs of a day, can't be bounded by; raises `InvalidError`."""
    check_amount("max_cost_usd", a_run)
    check_amount("max_cost_per_day_usd", a_day)
    if a_run is not None and a_day is not None and a_run > a_day:
        raise InvalidError(
            f"one run may cost {a_run:g} US dollars and all of a day {a_day:g}: let the day's be as much",
            field="max_cost_usd",
        )


def check_ping_url(url: str | None) -> None:
    """Refuse what can't be pinged; raises `InvalidError`."""
    if url is None:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not set(url) & set(" \t\r\n")
    except ValueError:
        good = False
    if not good or len(url) > 2000:
        raise InvalidError(
            "heartbeat_url is an http or https URL, such as https://hc-ping.com/your-uuid",
            field="heartbeat_url",
        )


def _check_counts(policy: Policy) -> None:
    bounds = {
        "catch_up_minutes": (1, MAX_CATCH_UP_MINUTES),
        "jitter_seconds": (0, MAX_JITTER_SECONDS),
        "max_retries": (0, MAX_RETRIES),
        "pause_after_failures": (0, 1000),
        "notify_after_failures": (1, 1000),
    }
    for name, (least, most) in bounds.items():
        count: object = getattr(policy, name)
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
            raise InvalidError(f"{name} is {str(count)[:60]}; give {least} to {most:,}", field=name)


def _check_breaker(times: Any) -> None:
    if times is None or (times == 0 and times is not False):
        return
    if not is_number(times) or not 1 < times <= MAX_BREAKER:
        raise InvalidError(
            f"cost_breaker is {str(times)[:60]}; give how many times the usual cost is too much, more than 1, "
            f"at most {MAX_BREAKER:,}, or 0 for never",
            field="cost_breaker",
        )


def _check_together(policy: Policy) -> None:
    # What is caught up runs one after the other, whatever holds for slots that come while a run goes on.
    if policy.catch_up is CatchUp.ALL and policy.overlap is Overlap.CANCEL_RUNNING:
        raise InvalidError(
            "catch_up 'all' has what was missed run one after the other, and overlap 'cancel_running' would end that "
            "when the next slot comes: choose another overlap, or catch_up 'latest'",
            field="catch_up",
        )
    if policy.starts_at and policy.ends_at and policy.ends_at <= policy.starts_at:
        raise InvalidError("ends_at is not after starts_at, so nothing would ever run", field="ends_at")
    if len(policy.blackouts) > MAX_BLACKOUTS:
        raise InvalidError(f"a job has at most {MAX_BLACKOUTS} blackouts", field="blackouts")
    for blackout in policy.blackouts:
        parse_blackout(blackout)


def decided_in(policy: Policy) -> dict[str, Any]:
    """Return the rules that were decided, as JSON can hold them."""
    return {
        each.name: _plain(value)
        for each in fields(policy)
        if (value := getattr(policy, each.name)) is not None and value != each.default
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def read_policy(given: Mapping[str, Any], own: Collection[str]) -> Policy:
    """Return the rules that a JSON object decides.

    Args:
        given: Rules by name; null is the same as none.
        own: Rules that can't be decided here.

    Raises:
        InvalidError: A rule is not known or not to be decided here, or its value can't be used; `field` is its name.
    """
    known = [name for name in COLUMNS if name not in own]
    if unknown := [name for name in given if name not in known]:
        raise InvalidError(
            f"there is no rule {unknown[0][:60]!r} here; there are {', '.join(known)}", field=unknown[0][:60]
        )
    policy = Policy(**{name: _read(name, value) for name, value in given.items() if value is not None})
    policy.check()
    return policy


_KINDS: Final[Mapping[str, type[StrEnum]]] = MappingProxyType(
    {"overlap": Overlap, "catch_up": CatchUp, "on_crash": OnCrash, "notify_on": NotifyOn}
)


def _read(name: str, value: Any) -> Any:
    if name in _LISTS:
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
            raise InvalidError(f"{name} is a list of texts", field=name)
        return tuple(_member(name, each) if name in _KINDS else each for each in value)
    return _member(name, value) if name in _KINDS else value


def _member(name: str, value: object) -> StrEnum:
    with suppress(ValueError):
        return _KINDS[name](str(value))
    raise InvalidError(f"{name} is one of {', '.join(_KINDS[name])}, not {str(value)[:60]!r}", field=name)


COLUMNS: Final = tuple(each.name for each in fields(Policy))
_LISTS: Final = frozenset({"blackouts", "notify_on", "notify_channels"})
_INSTANTS: Final = frozenset({"starts_at", "ends_at"})


def values_of(policy: Policy) -> dict[str, Any]:
    """Return the rules as the columns of a job keep them."""
    return {name: _written(name, getattr(policy, name)) for name in COLUMNS}


def policy_from(row: sqlite3.Row | Mapping[str, Any]) -> Policy:
    """Make the rules of a job's row; raises `ValueError` where they were spoiled by hand."""
    found = {name: row[name] for name in COLUMNS}
    for name in _LISTS:
        found[name] = None if found[name] is None else _listed(name, found[name])
    for name in _INSTANTS:
        found[name] = None if found[name] is None else from_text(found[name])
    if found["notify_on"] is not None:
        found["notify_on"] = tuple(NotifyOn(each) for each in found["notify_on"])
    for name, kind in (("overlap", Overlap), ("catch_up", CatchUp), ("on_crash", OnCrash)):
        found[name] = None if found[name] is None else kind(found[name])
    return Policy(**found)


def _listed(name: str, text: str) -> tuple[str, ...]:
    """Return the texts of a column; raises `ValueError` where there is something else."""
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} is no list of texts")
    return tuple(value)


def _written(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _LISTS:
        return json.dumps([str(each) for each in value])
    if name in _INSTANTS:
        return to_text(value)
    return str(value) if isinstance(value, StrEnum) else value
