"""Turns the agent SDK's messages into events and counts tokens and dollars while they come."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from claude_agent_sdk import (
    AssistantMessage,
    RateLimitEvent,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from claude_runner.agent._prices import Rates
from claude_runner.agent._protocol import Listener
from claude_runner.agent._texts import storable
from claude_runner.runs import EventKind, Tokens, text_of

_NOTICES: Final = ("model_fallback", "permission_denied", "informational", "mirror_error")
_DETAILS: Final = (
    "tool_name",
    "tool_use_id",
    "message",
    "content",
    "error",
    "fallback_model",
    "original_model",
)


class Transcript:
    """What was heard of a run.

    Attributes:
        started: Whether anything was heard at all.
        result: The SDK's closing message, once it has come.
        api_error: The SDK's word for the last request that failed, `None` after one that did not.
        resets_at: When the usage limit is over that the session has met.
    """

    def __init__(self, listener: Listener, rates: Callable[[str], Rates | None]) -> None:
        self.started = False
        self.result: ResultMessage | None = None
        self.api_error: str | None = None
        self.resets_at: datetime | None = None
        self._listener = listener
        self._meter = Meter(rates)
        self._block = 0
        self._streamed: set[str] = set()  # ids of the messages whose text has come in pieces

    def hear(self, message: object) -> None:
        """Take the next message; a kind that is not known here, as a later SDK may add, is passed over."""
        self.started = True
        self._listener.heard()
        match message:
            case StreamEvent():
                self._stream_event(message)
            case AssistantMessage():
                self._assistant(message)
            case UserMessage():
                self._user(message)
            case SystemMessage():
                self._system(message)
            case RateLimitEvent():
                self._rate_limit(message)
            case ResultMessage():
                self._result(message)
            case _:
                pass

    def _tell(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        self._listener.happened(kind, storable(body))

    def _tell_use(self, model: str | None) -> None:
        self._listener.used(self._meter.tokens(), model, self._meter.cost())

    def _user(self, message: UserMessage) -> None:
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                self._tool_result(block)

    def _rate_limit(self, message: RateLimitEvent) -> None:
        limit = message.rate_limit_info
        if limit.status == "rejected" and limit.resets_at is not None:
            with suppress(ValueError, OverflowError, OSError):  # a number that is no time tells nothing
                self.resets_at = datetime.fromtimestamp(limit.resets_at, UTC)
        self._tell(
            EventKind.NOTICE, {"notice": "rate_limit", "status": limit.status, "resets_at": limit.resets_at}
        )

    def _stream_event(self, message: StreamEvent) -> None:
        if self._meter.feed(message.event, message.parent_tool_use_id):
            self._tell_use(self._meter.model)
        if message.parent_tool_use_id is not None:
            return  # a subagent's words are not the run's
        event = message.event
        if event["type"] == "message_start":
            self._streamed.add(event["message"]["id"])
        elif event["type"] == "message_stop":
            self._tell(EventKind.USAGE, asdict(self._meter.step()))
        elif event["type"] == "content_block_start":
            self._block += 1
        elif event["type"] == "content_block_delta":
            self._delta(event["delta"])

    def _delta(self, delta: Mapping[str, Any]) -> None:
        if delta["type"] == "text_delta":
            self._say(EventKind.TEXT, delta["text"])
        elif delta["type"] == "thinking_delta":
            self._say(EventKind.THINKING, delta["thinking"])

    def _assistant(self, message: AssistantMessage) -> None:
        self.api_error = message.error
        if message.error is not None:  # the CLI's own words about it, not the model's
            text = " ".join(block.text for block in message.content if isinstance(block, TextBlock))
            self._tell(EventKind.NOTICE, {"notice": message.error, "message": text})
            return
        came_in_pieces = message.message_id in self._streamed
        for block in message.content:
            match block:
                case TextBlock(text=text) | ThinkingBlock(thinking=text) if not came_in_pieces:
                    self._block += 1
                    self._say(EventKind.TEXT if isinstance(block, TextBlock) else EventKind.THINKING, text)
                case ToolUseBlock():
                    body = {"id": block.id, "name": block.name, "input": block.input}
                    self._tell(EventKind.TOOL_USE, body)
                case _:
                    continue

    def _say(self, kind: EventKind, text: str) -> None:
        self._tell(kind, {"block": self._block, "text": text})

    def _tool_result(self, block: ToolResultBlock) -> None:
        body = {"id": block.tool_use_id, "is_error": bool(block.is_error), "content": text_of(block.content)}
        self._tell(EventKind.TOOL_RESULT, body)

    def _system(self, message: SystemMessage) -> None:
        heard = message.data
        if message.subtype == "init":
            self._listener.started()
            wanted = ("model", "tools", "mcp_servers", "permissionMode", "claude_code_version")
            self._tell(EventKind.STARTED, {name: heard.get(name) for name in wanted})
            self._meter.asked = heard.get("model")
            self._tell_use(self._meter.asked)
        elif message.subtype == "api_retry":
            told = ("attempt", "max_retries", "retry_delay_ms", "error_status", "error")
            self._tell(EventKind.RETRY, {name: heard.get(name) for name in told})
        elif message.subtype in _NOTICES:
            if message.subtype == "model_fallback":
                self._meter.asked = heard.get("fallback_model") or self._meter.asked
            details: dict[str, Any] = {name: heard[name] for name in _DETAILS if name in heard}
            self._tell(EventKind.NOTICE, details | {"notice": message.subtype})

    def _result(self, message: ResultMessage) -> None:
        self.result = message
        self._tell(
            EventKind.RESULT,
            {
                "subtype": message.subtype,
                "is_error": message.is_error,
                "turns": message.num_turns,
                "duration_ms": message.duration_ms,
                "terminal_reason": message.terminal_reason,
                "api_error_status": message.api_error_status,
                "denials": len(message.permission_denials or ()),
            },
        )


class Step(NamedTuple):
    """What one answer used.

    Attributes:
        model: Whose price it has.
        kept_an_hour: Those of the cache writes that are dearer, since they are kept for an hour.
    """

    model: str
    tokens: Tokens
    kept_an_hour: int


class Meter:
    """Counts tokens and dollars while a run goes on, from the stream's events: messages carry placeholders.

    The count is an estimate until the closing message: helper calls and what is not a token come only with that.

    Attributes:
        model: Which one answers the main loop.
        asked: Which one Claude Code asks there; it counts by that name, whatever the answer says.
    """

    def __init__(self, rates: Callable[[str], Rates | None]) -> None:
        self.model: str | None = None
        self.asked: str | None = None
        self._rates = rates
        self._steps: dict[str, Step] = {}
        self._current: dict[
            str | None, str
        ] = {}  # the message that streams, for each subagent and the main loop

    def feed(self, event: Mapping[str, Any], agent: str | None) -> bool:
        """Take a stream event; tells whether the count changed."""
        if event["type"] == "message_start":
            self._begin(event["message"], agent)
            return True
        if event["type"] == "message_delta" and agent in self._current:
            message_id = self._current[agent]
            before = self._steps[message_id]
            output = (event.get("usage") or {}).get("output_tokens") or 0
            self._steps[message_id] = before._replace(tokens=replace(before.tokens, output=output))
            return True
        return False

    def _begin(self, message: Mapping[str, Any], agent: str | None) -> None:
        usage = message.get("usage") or {}
        answers = message.get("model")
        self._current[agent] = message["id"]
        if agent is None:
            self.model = answers
        tokens = Tokens(
            input=usage.get("input_tokens") or 0,
            cache_read=usage.get("cache_read_input_tokens") or 0,
            cache_write=usage.get("cache_creation_input_tokens") or 0,
        )
        kept_an_hour = (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0
        counted_as = (self.asked if agent is None else None) or answers or ""
        self._steps[message["id"]] = Step(counted_as, tokens, kept_an_hour)

    def step(self) -> Tokens:
        """Return what the main loop's last message used."""
        last = self._steps.get(self._current.get(None, ""))
        return Tokens() if last is None else last.tokens

    def tokens(self) -> Tokens:
        """Return the count up to now."""
        return sum((step.tokens for step in self._steps.values()), Tokens())

    def cost(self) -> float | None:
        """Return what that costs, `None` where the price of a model is not known that is asked or has answered."""
        if not self._steps and self.asked is not None and self._rates(self.asked) is None:
            return None
        costs = 0.0
        for step in self._steps.values():
            rates = self._rates(step.model)
            if rates is None:
                return None
            costs += rates.cost(step.tokens, step.kept_an_hour)
        return costs
