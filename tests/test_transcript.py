"""What the SDK's messages become, for those that no scripted model can bring about."""

from collections.abc import Mapping
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    RateLimitEvent,
    RateLimitInfo,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from claude_runner.agent._endings import account
from claude_runner.agent._transcript import Meter, Transcript
from claude_runner.runs import EventKind, Tokens, Verdict


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[EventKind, Mapping[str, Any]]] = []
        self.counts: list[tuple[Tokens, str | None]] = []
        self.alive = 0

    def started(self) -> None:
        self.events.append((EventKind.STARTED, {}))

    def heard(self) -> None:
        self.alive += 1

    def happened(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        self.events.append((kind, body))

    async def calling(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> str | None:
        raise NotImplementedError  # hooks ask, never the transcript

    def called(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        raise NotImplementedError

    def used(self, tokens: Tokens, model: str | None, _cost_usd: float | None = None) -> None:
        self.counts.append((tokens, model))


def no_price(_model: str) -> None:
    return None


def stream(event: dict[str, Any], agent: str | None = None) -> StreamEvent:
    return StreamEvent(uuid="u", session_id="s", event=event, parent_tool_use_id=agent)


def start(message_id: str, **usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"id": message_id, "model": "m", "usage": usage}}


def test_text_that_did_not_come_in_pieces_is_taken_from_the_message() -> None:
    heard = Heard()
    thought, said = ThinkingBlock(thinking="hm", signature=""), TextBlock(text="hello")
    Transcript(heard, no_price).hear(AssistantMessage(content=[thought, said], model="m", message_id="1"))
    assert heard.events == [
        (EventKind.THINKING, {"block": 1, "text": "hm"}),
        (EventKind.TEXT, {"block": 2, "text": "hello"}),
    ]


def test_text_that_came_in_pieces_is_not_taken_twice() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    transcript.hear(stream(start("1")))
    transcript.hear(stream({"type": "content_block_start"}))
    for delta in ({"type": "thinking_delta", "thinking": "h"}, {"type": "text_delta", "text": "hello"}):
        transcript.hear(stream({"type": "content_block_delta", "delta": delta}))
    transcript.hear(AssistantMessage(content=[TextBlock(text="hello")], model="m", message_id="1"))
    assert [body["text"] for _, body in heard.events] == ["h", "hello"]


def test_each_step_tells_what_it_used() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    for number, read in (("1", 5), ("2", 7)):
        transcript.hear(stream(start(number, input_tokens=100, cache_read_input_tokens=read)))
        transcript.hear(stream(start("sub", input_tokens=9), agent="toolu_1"))
        transcript.hear(stream({"type": "message_delta", "usage": {"output_tokens": 3}}))
        transcript.hear(stream({"type": "message_stop"}, agent="toolu_1"))
        transcript.hear(stream({"type": "message_stop"}))
    used = {"input": 100, "output": 3, "cache_write": 0}
    assert heard.events == [
        (EventKind.USAGE, used | {"cache_read": 5}),
        (EventKind.USAGE, used | {"cache_read": 7}),
    ]


def test_a_subagents_words_are_not_the_runs_but_its_tokens_are() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    transcript.hear(stream(start("1", input_tokens=5), agent="toolu_1"))
    transcript.hear(
        stream({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "psst"}}, "toolu_1")
    )
    assert not heard.events
    assert heard.counts == [(Tokens(input=5), None)]


def test_a_usage_limit_is_noted_with_when_it_ends() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    for status, resets_at in (("allowed_warning", 1), ("rejected", 1_800_000_000)):
        limit = RateLimitInfo(status=status, resets_at=resets_at)  # type: ignore[arg-type]
        transcript.hear(RateLimitEvent(rate_limit_info=limit, uuid="u", session_id="s"))
    assert [(body["status"], body["resets_at"]) for _, body in heard.events] == [
        ("allowed_warning", 1),
        ("rejected", 1_800_000_000),
    ]


def test_what_a_retry_or_a_fallback_was_about_is_noted() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    retry = {"attempt": 1, "max_retries": 2, "error_status": 529, "error": "overloaded", "secret": "x"}
    transcript.hear(SystemMessage(subtype="api_retry", data=retry))
    transcript.hear(SystemMessage(subtype="model_fallback", data={"fallback_model": "haiku"}))
    transcript.hear(SystemMessage(subtype="ui_invalidate", data={}))
    (kind, told), fallback = heard.events
    assert kind is EventKind.RETRY
    assert (told["attempt"], told["error_status"]) == (1, 529)
    assert "secret" not in told
    assert fallback == (EventKind.NOTICE, {"notice": "model_fallback", "fallback_model": "haiku"})


def test_the_parts_of_a_result_that_are_no_text_are_told_by_their_type() -> None:
    heard = Heard()
    transcript = Transcript(heard, no_price)
    transcript.hear(AssistantMessage(content=[ToolUseBlock(id="t", name="Shot", input={"of": 7})], model="m"))
    parts: list[dict[str, Any]] = [{"type": "text", "text": "y"}, {"type": "image"}]
    transcript.hear(
        UserMessage(content=[ToolResultBlock(tool_use_id="t", content=parts), TextBlock(text="z")])
    )
    transcript.hear(UserMessage(content="a prompt"))
    (_, use), (_, result) = heard.events
    assert use == {"id": "t", "name": "Shot", "input": {"of": 7}}
    assert result["content"] == "y\n[image]"


def test_a_kind_of_message_that_is_not_known_is_a_sign_of_life() -> None:
    heard = Heard()
    Transcript(heard, no_price).hear(object())
    assert (heard.alive, heard.events) == (1, [])


def test_the_meter_adds_up_messages_and_ignores_what_it_does_not_know() -> None:
    meter = Meter(no_price)
    assert meter.feed(start("1", input_tokens=10, cache_read_input_tokens=3), None)
    assert meter.feed({"type": "message_delta", "usage": {"output_tokens": 7}}, None)
    assert meter.feed(start("2", input_tokens=1, cache_creation_input_tokens=4), None)
    assert not meter.feed({"type": "message_delta", "usage": {"output_tokens": 9}}, "unknown")
    assert not meter.feed({"type": "ping"}, None)
    assert meter.tokens() == Tokens(input=11, output=7, cache_read=3, cache_write=4)


def test_one_model_without_a_known_price_makes_the_cost_unknown() -> None:
    used = {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokens": 3, "cacheCreationInputTokens": 4}
    known = {**used, "costUSD": 0.5, "costBasis": "list"}
    unknown = {**used, "costUSD": 0.4, "costBasis": "unknown"}
    assert account({"a": known, "b": known}) == (Tokens(2, 4, 6, 8), 1.0)
    assert account({"a": known, "b": unknown}) == (Tokens(2, 4, 6, 8), None)
    assert account({}) == (Tokens(), None)
