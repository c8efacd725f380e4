"""What follows when an attempt at a run fails: whether it is made again, when, and why not.

Only what may pass by itself is tried again. Nothing is done twice blindly: an attempt that has said or called anything
goes on in its own session, where the model sees what it has done. A run that met a usage limit waits until that is
over, however often; all else is tried again as often as the job's rules say.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from claude_runner.jobs import OnCrash, Policy
from claude_runner.runs import Ending, Run, State

SPREAD: Final = 0.2  # of a pause, by chance, so that runs that failed together are not tried again together
AFTER_A_RESET: Final = timedelta(seconds=60)  # within which runs that waited for the same limit go on
LONGEST_LIMIT: Final = timedelta(hours=24)  # of a usage limit that does not say when it is over
RUSH: Final = timedelta(seconds=1)
# A run that goes on when its server dies may be what it dies of: it is taken up less and less soon, then not at all.
AT_ONCE: Final = 5  # attempts after which the next follows at once
MOST_ATTEMPTS: Final = 20


class When(StrEnum):
    """When a failed attempt is made again."""

    NEVER = "never"
    LATER = "later"
    AT_RESET = "at_reset"
    BY_POLICY = "by_policy"


class Rule(NamedTuple):
    """What follows from a reason.

    Attributes:
        why: A sentence for a person.
        first: The pause before the first attempt that follows; each one is twice as long as the one before.
        longest: The longest pause.
        blameless: Whether it says nothing about the job: it does not count towards its pause.
    """

    when: When
    why: str
    first: timedelta = timedelta()
    longest: timedelta = timedelta()
    blameless: bool = False


def _later(why: str, *, blameless: bool = False) -> Rule:
    return Rule(When.LATER, why, timedelta(seconds=30), timedelta(minutes=15), blameless)


def _never(why: str, *, blameless: bool = False) -> Rule:
    return Rule(When.NEVER, why, blameless=blameless)


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        "overloaded": _later("the service may have room again", blameless=True),
        "unreachable": _later("the network or the service may be back", blameless=True),
        "start_timeout": _later("the machine may be less busy, and nothing had begun"),
        "mcp_server_failed": _never("somebody must see to the tool server or its credentials"),
        "usage_limit": Rule(
            When.AT_RESET,
            "the limit ends at its time",
            timedelta(minutes=5),
            timedelta(hours=1),
            blameless=True,
        ),
        "server_stopped": Rule(
            When.BY_POLICY,
            "the run itself had not failed",
            timedelta(seconds=30),
            timedelta(minutes=15),
            blameless=True,
        ),
        "not_signed_in": _never("somebody must sign in; the other runs wait for that", blameless=True),
        "billing": _never("somebody must see to the bill; the other runs wait for that", blameless=True),
        "budget": _never("it would only cost more", blameless=True),
        "timeout": _never("it would take as long again, and cost as much"),
        "silent": _never("what it had begun is not known"),
        "agent_crashed": _never("it would most likely crash again"),
        "session_lost": _never("what it had done is not known any more"),
        "session_in_use": _never("another process goes on with it"),
        "max_turns": _never("it would take as many turns again"),
        "too_large": _never("it would grow as large again"),
        "answer_too_large": _never("the answer would be as large again"),
        "invalid_model": _never("another model must be chosen"),
        "invalid_request": _never("it would be refused again"),
        "sandbox_missing": _never("what is missing must be installed"),
        "cli_missing": _never("what is missing must be installed"),
        "folder_unavailable": _never("somebody must see to the folder"),
        "profile_refused": _never("the job or the settings must be changed"),
        "tool_refused": _never("the job or the settings must be changed"),
        "unreadable": _never("somebody must mend its row"),
        "unavailable": _never("somebody must see to what is in the way"),
        "internal_error": _never("it is a mistake of the server"),
        "given_up": _never("another attempt is at work", blameless=True),
        "cancelled": _never("somebody wanted it to end", blameless=True),
        "superseded": _never("a newer run takes its place", blameless=True),
        "job_disabled": _never("its job is disabled", blameless=True),
    }
)
_UNKNOWN: Final = _never("nobody has decided that it may be")


class Retry(NamedTuple):
    """A run that is to be taken up again.

    Attributes:
        retries: How often it was tried again then; waits for a usage limit and deaths of the server are not counted.
        said: When and why, for a person.
    """

    not_before: datetime
    resumes: bool
    retries: int
    said: str


def decide(
    run: Run,
    ending: Ending,
    policy: Policy,
    now: datetime,
    chance: Callable[[], float],
    *,
    has_begun: bool,
    limited_since: datetime | None = None,
) -> Retry | None:
    """Return how a run is taken up again whose attempt has ended; `None` where it is over.

    Args:
        run: The attempt.
        ending: How it ended.
        policy: The rules that hold for the run, complete.
        now: The present.
        chance: Gives numbers from 0 to below 1.
        has_begun: Whether the model has said or called anything in this attempt or an earlier one.
        limited_since: When it first met a usage limit; `None` where it has not before.
    """
    if ending.state is not State.ERROR:
        return None
    rule = RULES.get(ending.reason or "", _UNKNOWN)
    match rule.when:
        case When.NEVER:
            return None
        case When.LATER:
            return _again(run, rule, policy, now, chance(), has_begun)
        case When.AT_RESET:
            return _at_reset(run, ending, rule, now, chance(), has_begun, limited_since)
        case When.BY_POLICY:
            return _by_policy(run, rule, policy, now, has_begun)


def is_blameless(reason: str | None) -> bool:
    """Tell whether a reason says nothing about the job whose run it ended."""
    return RULES.get(reason or "", _UNKNOWN).blameless


def _again(
    run: Run,
    rule: Rule,
    policy: Policy,
    now: datetime,
    chance: float,
    has_begun: bool,  # noqa: FBT001 - as decided
) -> Retry | None:
    most = policy.max_retries or 0
    if run.retries >= most:
        return None
    pause = _pause(rule, run.retries) * (1 - SPREAD + 2 * SPREAD * chance)
    said = f"tried again ({run.retries + 1} of {most}): {rule.why}"
    return Retry(now + pause, has_begun, run.retries + 1, said)


def _at_reset(
    run: Run,
    ending: Ending,
    rule: Rule,
    now: datetime,
    chance: float,
    has_begun: bool,  # noqa: FBT001 - as decided
    limited_since: datetime | None,
) -> Retry | None:
    if ending.resets_at is not None:
        begins = max(ending.resets_at, now) + RUSH + AFTER_A_RESET * chance
        return Retry(begins, has_begun, run.retries, "it goes on when the limit is over")
    if limited_since is not None and now - limited_since >= LONGEST_LIMIT:
        return None
    pause = _pause(rule, max(run.attempt - 1, 0)) * (1 + SPREAD * chance)
    return Retry(
        now + pause,
        has_begun,
        run.retries,
        "when the limit is over is not known, so it is tried now and then",
    )


def _by_policy(
    run: Run,
    rule: Rule,
    policy: Policy,
    now: datetime,
    has_begun: bool,  # noqa: FBT001 - as decided
) -> Retry | None:
    if policy.on_crash in {None, OnCrash.FAIL} or run.attempt >= MOST_ATTEMPTS:
        return None
    pause = timedelta() if run.attempt <= AT_ONCE else _pause(rule, run.attempt - AT_ONCE - 1)
    resumes = has_begun and policy.on_crash is OnCrash.RESUME
    said = "it goes on where it was" if resumes else "it begins anew"
    return Retry(now + pause, resumes, run.retries, f"{said}, as its job's rules say")


def _pause(rule: Rule, times: int) -> timedelta:
    return min(rule.longest, rule.first * (1 << min(times, 16)))
