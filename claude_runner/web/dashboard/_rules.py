"""A job's rules in words: those that hold, and what a form offers for each."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from claude_runner.jobs import CatchUp, NotifyOn, OnCrash, Overlap, Policy
from claude_runner.settings import Budgets
from claude_runner.web.dashboard._words import money

OVERLAPS: Final = {
    Overlap.SKIP: "the slot is skipped",
    Overlap.QUEUE_ONE: "one waits, more are skipped",
    Overlap.QUEUE_ALL: "all wait for their turn",
    Overlap.CANCEL_RUNNING: "the older run is stopped",
    Overlap.ALLOW: "they run side by side",
}
CATCH_UPS: Final = {
    CatchUp.NONE: "nothing is caught up",
    CatchUp.LATEST: "the latest slot is caught up",
    CatchUp.ALL: "all slots are caught up",
}
CRASHES: Final = {
    OnCrash.FAIL: "the run is over",
    OnCrash.RETRY: "the run begins anew",
    OnCrash.RESUME: "the run goes on where it was",
}
TOLD: Final = {
    NotifyOn.FAILURE: "failures",
    NotifyOn.RECOVERY: "the success after them",
    NotifyOn.MISSED: "missed slots",
    NotifyOn.PAUSED: "that it paused itself",
    NotifyOn.BUDGET: "a budget that is reached",
    NotifyOn.SUCCESS: "every success",
}
CHOICES: Final[Mapping[str, Mapping[Any, str]]] = MappingProxyType(
    {"overlap": OVERLAPS, "catch_up": CATCH_UPS, "on_crash": CRASHES, "notify_on": TOLD}
)


class Rule(NamedTuple):
    """A rule as it is shown; `name` is that of the policy."""

    name: str
    title: str
    words: str


def rules_in_words(policy: Policy, zone: ZoneInfo, channels: Collection[str] | None = None) -> Iterator[Rule]:
    """Yield the rules that hold, complete, but for those that bound nothing.

    Args:
        policy: The rules.
        zone: On whose clock instants are told.
        channels: The names of the channels that there are, `None` where that is not known.
    """
    yield Rule("overlap", "While a run goes on", OVERLAPS[policy.overlap or Overlap.SKIP])
    yield Rule("catch_up", "After an outage", _caught_up(policy))
    yield from _times(policy, zone)
    yield Rule("max_retries", "What may pass", _again(policy.max_retries or 0))
    yield Rule("on_crash", "If the server dies", CRASHES[policy.on_crash or OnCrash.FAIL])
    if failures := policy.pause_after_failures:
        words = "after a failure" if failures == 1 else f"after {failures} failures in a row"
        yield Rule("pause_after_failures", "Pauses itself", words)
    yield from _costs(policy)
    yield from _told(policy, channels)
    if policy.heartbeat_url:
        yield Rule("heartbeat_url", "Heartbeat", f"{urlsplit(policy.heartbeat_url).hostname} is pinged")


def defaults_in_words(default: Policy, budgets: Budgets) -> dict[str, str]:
    """Return what a rule comes to that a job does not decide itself, by its name.

    Args:
        default: The owner's rules, complete.
        budgets: What bounds every run and job besides them.
    """
    chosen = {name: CHOICES[name][getattr(default, name)] for name in ("overlap", "catch_up", "on_crash")}
    counts = (
        "catch_up_minutes",
        "jitter_seconds",
        "max_retries",
        "pause_after_failures",
        "notify_after_failures",
    )
    return {
        **chosen,
        **{name: str(getattr(default, name)) for name in counts},
        "max_cost_usd": _bound(default.max_cost_usd, budgets.run_usd),
        "max_cost_per_day_usd": _bound(default.max_cost_per_day_usd, budgets.job_day_usd),
        "cost_breaker": f"{default.cost_breaker or 0:g}",
        "notify_on": ", ".join(TOLD[each] for each in default.notify_on or ()) or "nothing",
        "notify_channels": _channels(default),
    }


def _caught_up(policy: Policy) -> str:
    if policy.catch_up is CatchUp.ALL:
        return f"all slots of the last {policy.catch_up_minutes} minutes are caught up"
    return CATCH_UPS[policy.catch_up or CatchUp.LATEST]


def _times(policy: Policy, zone: ZoneInfo) -> Iterator[Rule]:
    if policy.jitter_seconds:
        yield Rule("jitter_seconds", "Starts", f"up to {policy.jitter_seconds:,} s later, by chance")
    if policy.starts_at is not None:
        yield Rule("starts_at", "From", _at(policy.starts_at, zone))
    if policy.ends_at is not None:
        yield Rule("ends_at", "Until", _at(policy.ends_at, zone))
    if policy.blackouts:
        yield Rule("blackouts", "Not at", "; ".join(policy.blackouts))


def _at(instant: datetime, zone: ZoneInfo) -> str:
    local = instant.astimezone(zone)
    return f"{local.day} {local:%b %Y, %H:%M}"


def _again(retries: int) -> str:
    match retries:
        case 0:
            return "is not tried again"
        case 1:
            return "is tried again once"
        case _:
            return f"is tried again, {retries} times at most"


def _costs(policy: Policy) -> Iterator[Rule]:
    if policy.max_cost_usd is not None:
        yield Rule("max_cost_usd", "A run may cost", money(policy.max_cost_usd))
    if policy.max_cost_per_day_usd is not None:
        yield Rule("max_cost_per_day_usd", "A day may cost", money(policy.max_cost_per_day_usd))
    if policy.cost_breaker:
        yield Rule(
            "cost_breaker", "Stopped and paused", f"above {policy.cost_breaker:g} times its usual cost"
        )


def _told(policy: Policy, channels: Collection[str] | None) -> Iterator[Rule]:
    if not policy.notify_on:
        yield Rule("notify_on", "Is told", "nothing")
        return
    yield Rule("notify_on", "Is told", ", ".join(TOLD[each] for each in policy.notify_on))
    after = policy.notify_after_failures or 1
    if after > 1 and NotifyOn.FAILURE in policy.notify_on:
        yield Rule("notify_after_failures", "Failures", f"are told from number {after} in a row on")
    yield Rule("notify_channels", "By", _channels(policy, channels))


def _channels(policy: Policy, known: Collection[str] | None = None) -> str:
    if policy.notify_channels is None:
        return "all channels"
    if gone := [name for name in policy.notify_channels if known is not None and name not in known]:
        return f"all channels, as there is none called {' or '.join(gone)} any more"
    return ", ".join(policy.notify_channels) or "no channel"


def _bound(*bounds: float | None) -> str:
    narrowest = min((bound for bound in bounds if bound is not None), default=None)
    return "no bound" if narrowest is None else f"{narrowest:g}"
