"""A job's rules in words."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from claude_runner.jobs import CatchUp, OnCrash, Overlap, Policy
from claude_runner.web.dashboard._words import money

OVERLAPS: Final = {
    Overlap.SKIP: "the slot is skipped",
    Overlap.QUEUE_ONE: "one waits, more are skipped",
    Overlap.QUEUE_ALL: "all wait for their turn",
    Overlap.CANCEL_RUNNING: "the older run is stopped",
    Overlap.ALLOW: "they run side by side",
}
CRASHES: Final = {
    OnCrash.FAIL: "the run is over",
    OnCrash.RETRY: "the run begins anew",
    OnCrash.RESUME: "the run goes on where it was",
}


class Rule(NamedTuple):
    """A rule as it is shown; `name` is that of the policy."""

    name: str
    title: str
    words: str


def rules_in_words(policy: Policy) -> Iterator[Rule]:
    """Yield the rules that hold, complete, but for those that bound nothing."""
    yield Rule("overlap", "While a run goes on", OVERLAPS[policy.overlap or Overlap.SKIP])
    yield Rule("catch_up", "After an outage", _caught_up(policy))
    if policy.jitter_seconds:
        yield Rule("jitter_seconds", "Starts", f"up to {policy.jitter_seconds} s later, by chance")
    yield Rule("max_retries", "What may pass", f"is tried again, {policy.max_retries} times at most")
    yield Rule("on_crash", "If the server dies", CRASHES[policy.on_crash or OnCrash.FAIL])
    if policy.pause_after_failures:
        yield Rule(
            "pause_after_failures", "Pauses itself", f"after {policy.pause_after_failures} failures in a row"
        )
    if policy.max_cost_usd is not None:
        yield Rule("max_cost_usd", "A run may cost", money(policy.max_cost_usd))


def _caught_up(policy: Policy) -> str:
    match policy.catch_up:
        case CatchUp.NONE:
            return "nothing is caught up"
        case CatchUp.ALL:
            return f"all slots of the last {policy.catch_up_minutes} minutes are caught up"
        case _:
            return "the latest slot is caught up"
