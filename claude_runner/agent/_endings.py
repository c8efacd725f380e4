"""What a run's end means: from what the SDK and the CLI say to a state, a reason and a sentence.

Every failing run closes with a result whose `subtype` may well be "success": what counts is `is_error`, the
terminal reason, the HTTP status and the SDK's word for the error. An end without a result is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from claude_runner.agent._prices import OWNERS, priced
from claude_runner.agent._texts import readable
from claude_runner.prices import Price
from claude_runner.runs import Ending, State, Tokens

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

# What is counted of each model of the SDK's `model_usage`.
_COUNTED: Final = (
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "webSearchRequests",
    "costUSD",
)
SIGN_IN: Final = (
    "Claude is not signed in on this machine: run `claude` in a terminal and /login once, or put ANTHROPIC_API_KEY "
    "or CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`) into .env"
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed run.

    Attributes:
        said: The CLI's own words.
        api_error: The SDK's word for a failed request (`AssistantMessage.error`).
        status: The failed request's HTTP status.
        terminal: The CLI's terminal reason.
    """

    said: str
    api_error: str | None = None
    status: int | None = None
    terminal: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to fail, and what is said about it. It is meant where one of its marks is found.

    Attributes:
        reason: The code that the run's row gets.
        sentence: What a person reads; `{said}` stands for the CLI's own words.
        phrases: Marks in the CLI's own words, lower case.
        errors: Marks in `Failure.api_error`.
        statuses: Marks in `Failure.status`.
        terminals: Marks in `Failure.terminal`.
    """

    reason: str
    sentence: str
    phrases: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    terminals: tuple[str, ...] = ()

    def matches(self, failure: Failure) -> bool:
        """Tell whether the failure is of this kind."""
        return (
            any(phrase in failure.said.lower() for phrase in self.phrases)
            or failure.api_error in self.errors
            or failure.status in self.statuses
            or failure.terminal in self.terminals
        )


# The first that matches counts: what is said in words before what is only a number.
RULES: Final = (
    Rule(
        "billing",
        "Claude refused for billing reasons: {said}",
        phrases=("credit balance",),
        errors=("billing_error",),
    ),
    Rule(
        "not_signed_in",
        f"{SIGN_IN} ({{said}})",
        phrases=("not logged in", "could not load aws credentials"),
        errors=("authentication_failed", "oauth_org_not_allowed"),
        statuses=(401, 403),
    ),
    Rule(
        "usage_limit",
        "Claude's usage limit is reached: {said}",
        errors=("rate_limit",),
        statuses=(429,),
    ),
    Rule(
        "invalid_model",
        "the model can't be used: {said}; choose another for the job",
        errors=("model_not_found",),
        statuses=(404,),
    ),
    Rule(
        "unreachable",
        "Claude's service can't be reached, also when tried again: {said}",
        phrases=(
            "econnrefused",
            "enotfound",
            "econnreset",
            "unable to connect",
            "connection error",
            "timed out",
        ),
    ),
    Rule(
        "overloaded",
        "Claude's service answered with an error, also when asked again: {said}",
        errors=("server_error", "overloaded"),
        statuses=(500, 502, 503, 504, 529),
    ),
    Rule(
        "too_large",
        "the request has grown too large for Claude: {said}",
        phrases=("prompt is too long",),
        statuses=(413,),
    ),
    Rule(
        "answer_too_large",
        "Claude Code said more in one message than can be taken: {said}",
        phrases=("maximum buffer size",),
    ),
    Rule("invalid_request", "Claude refused the request: {said}", statuses=(400,)),
    Rule("max_turns", "it took more turns than allowed: {said}", terminals=("max_turns",)),
    Rule("budget", "it reached its budget: {said}", terminals=("budget_exhausted",)),
    Rule(
        "sandbox_missing",
        "shell commands can't be confined on this machine: {said}",
        phrases=("sandbox required but unavailable", "sandbox.failifunavailable"),
    ),
    Rule(
        "start_timeout",
        "Claude Code did not start: {said}",
        phrases=("control request timeout",),
    ),
    Rule(
        "folder_unavailable",
        "the run's folder is not there: {said}",
        phrases=("working directory does not exist",),
    ),
    Rule(
        "session_lost",
        "what the run had done is not known any more, so it can't go on: {said}",
        phrases=("no conversation found",),
    ),
    Rule(
        "session_in_use",
        "Claude Code has a session of this id already: {said}",
        phrases=("already in use",),
    ),
)
SERVERS_MISSING: Final = Rule(
    "mcp_server_failed",
    "before Claude was asked anything, MCP servers that the run needs were missing: {said}",
)
CRASHED: Final = Rule(
    "agent_crashed",
    "Claude Code ended unexpectedly: {said}",
)


def ending_of_result(
    result: "ResultMessage", api_error: str | None, prices: Mapping[str, Price], *, free: bool
) -> Ending:
    """Return what a run's closing message means.

    Args:
        result: The closing message.
        api_error: The SDK's word for the last failed request, if it failed.
        prices: What models cost by the owner's word.
        free: Whether the model was one that costs nothing.
    """
    said_to_be_used = result.model_usage or {}
    usage = priced(said_to_be_used, prices)
    tokens, cost = account(usage)
    common: dict[str, Any] = {
        "output": None if result.is_error or result.result is None else readable(result.result),
        "tokens": tokens if usage else None,
        "cost_usd": 0.0 if free else cost,
        "model_usage": usage,
        "session_usage": said_to_be_used,
    }
    if not result.is_error:
        return Ending(State.FINISHED, **common)
    said = (result.result or "; ".join(result.errors or ()) or result.subtype).strip()
    failure = Failure(readable(said), api_error, result.api_error_status, result.terminal_reason)
    return _failed(failure, common)


def ending_of_failure(said: str, stderr: str, *, started: bool) -> Ending:
    """Return what an end without a closing message means.

    Args:
        said: What the SDK raised.
        stderr: The last of the CLI's standard error.
        started: Whether the CLI had got going. One that did not says why on standard error; later there may be
            anything there.
    """
    whole = readable("\n".join(filter(None, (said, stderr))))
    return _failed(Failure(readable(said) if started else whole), {}, whole)


def ending_without(servers: str) -> Ending:
    """Return the end of a run that was not begun for want of MCP servers.

    Args:
        servers: Which are missing, and why.
    """
    return Ending(
        State.ERROR,
        error=SERVERS_MISSING.sentence.format(said=readable(servers)),
        reason=SERVERS_MISSING.reason,
        tokens=Tokens(),
        cost_usd=0.0,
    )


def account(usage: Mapping[str, Mapping[str, Any]]) -> tuple[Tokens, float | None]:
    """Add up what each model used; the cost is `None` where the price of one is not known.

    `usage` is the SDK's `model_usage`: the only count that has subagents and helper calls in it.
    """
    models = list(usage.values())
    tokens = Tokens(
        input=sum(model["inputTokens"] for model in models),
        output=sum(model["outputTokens"] for model in models),
        cache_read=sum(model["cacheReadInputTokens"] for model in models),
        cache_write=sum(model["cacheCreationInputTokens"] for model in models),
    )
    if not models or any(model.get("costBasis") not in ("list", OWNERS) for model in models):
        return tokens, None
    return tokens, float(sum(model["costUSD"] for model in models))


def since(
    now: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]],
    prices: Mapping[str, Price] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what was used of each model since a session's earlier attempt ended.

    Claude Code counts a session that goes on from its beginning, as far as it had written that down. A model of which
    it counts less than before is counted anew.

    Args:
        now: The SDK's `model_usage` of this attempt.
        before: That of the attempt before.
        prices: What models cost by the owner's word: of those the cost is counted by it.
    """
    return priced(
        {model: _difference(use, before.get(model, {})) for model, use in now.items()}, prices or {}
    )


def _difference(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    counted = [name for name in _COUNTED if name in now]
    if any(now[name] < before.get(name, 0) for name in counted):
        return dict(now)
    return dict(now) | {name: now[name] - before.get(name, 0) for name in counted}


def rule_of(failure: Failure) -> Rule:
    """Return the rule that a failure falls under; there is one for whatever nobody thought of."""
    return next((rule for rule in RULES if rule.matches(failure)), CRASHED)


def _failed(failure: Failure, common: Mapping[str, Any], said: str | None = None) -> Ending:
    rule = rule_of(failure)
    return Ending(
        State.ERROR,
        error=rule.sentence.format(said=said or failure.said),
        reason=rule.reason,
        **common,
    )
