"""Turns the agent SDK's messages into events and counts tokens while they come."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

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

from claude_runner.agent._protocol import Listener
from claude_runner.agent._texts import storable
from claude_runner.runs import EventKind, Tokens, text_of

_NOTICES: Final = ("model_fallback", "permission_denied", "informational")
_DETAILS: Final = ("tool_name", "tool_use_id", "message", "content", "fallback_model", "original_model")


class Transcript:
    """What was heard of a run.

    Attributes:
        started: Whether anything was heard at all.
        result: The SDK's closing message, once it has come.
        api_error: The SDK's word for the last request that failed, `None` after one that did not.
        resets_at: When the usage limit is over that the session has met.
    """

    def __init__(self, listener: Listener) -> None:
        self.started = False
        self.result: ResultMessage | None = None
        self.api_error: str | None = None
        self.resets_at: datetime | None = None
        self._listener = listener
        self._meter = Meter()
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

    def _user(self, message: UserMessage) -> None:
        for block in message.content:
            if isinstance(block, ToolResultBlock):
                self._tool_result(block)

    def _rate_limit(self, message: RateLimitEvent) -> None:
        limit = message.rate_limit_info
        if limit.status == "rejected" and limit.resets_at is not None:
            self.resets_at = datetime.fromtimestamp(limit.resets_at, UTC)
        self._tell(
            EventKind.NOTICE, {"notice": "rate_limit", "status": limit.status, "resets_at": limit.resets_at}
        )

    def _stream_event(self, message: StreamEvent) -> None:
        if self._meter.feed(message.event, message.parent_tool_use_id):
            self._listener.used(self._meter.tokens(), self._meter.model)
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
            self._listener.used(self._meter.tokens(), heard.get("model"))
        elif message.subtype == "api_retry":
            told = ("attempt", "max_retries", "retry_delay_ms", "error_status", "error")
            self._tell(EventKind.RETRY, {name: heard.get(name) for name in told})
        elif message.subtype in _NOTICES:
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


class Meter:
    """Counts tokens while a run goes on, from the stream's own events: messages carry placeholders until they end.

    The count is an estimate until the closing message: helper calls and subagents come only with that.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self._by_message: dict[str, Tokens] = {}
        self._current: dict[
            str | None, str
        ] = {}  # the message that streams, for each subagent and the main loop

    def feed(self, event: Mapping[str, Any], agent: str | None) -> bool:
        """Take a stream event; tells whether the count changed."""
        if event["type"] == "message_start":
            message = event["message"]
            usage = message.get("usage") or {}
            self._current[agent] = message["id"]
            if agent is None:
                self.model = message.get("model")
            self._by_message[message["id"]] = Tokens(
                input=usage.get("input_tokens") or 0,
                cache_read=usage.get("cache_read_input_tokens") or 0,
                cache_write=usage.get("cache_creation_input_tokens") or 0,
            )
            return True
        if event["type"] == "message_delta" and agent in self._current:
            message_id = self._current[agent]
            before = self._by_message[message_id]
            output = (event.get("usage") or {}).get("output_tokens") or 0
            self._by_message[message_id] = Tokens(before.input, output, before.cache_read, before.cache_write)
            return True
        return False

    def step(self) -> Tokens:
        """Return what the main loop's last message used."""
        return self._by_message.get(self._current.get(None, ""), Tokens())

    def tokens(self) -> Tokens:
        """Return the count up to now."""
        every = self._by_message.values()
        return Tokens(
            input=sum(tokens.input for tokens in every),
            output=sum(tokens.output for tokens in every),
            cache_read=sum(tokens.cache_read for tokens in every),
            cache_write=sum(tokens.cache_write for tokens in every),
        )
