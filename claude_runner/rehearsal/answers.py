"""Writes an answer of the Messages API: as one message, or as the events of a stream.

The shapes are those of Anthropic's API reference, "Create a Message", "Streaming messages" and "Errors".
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Words for the reader, streamed in so many deltas as far as there are letters."""

    text: str
    pieces: int = 1

    def whole(self) -> Json:
        """Return the block as it stands in a message."""
        return {"type": "text", "text": self.text}

    def opening(self) -> Json:
        """Return the block as a stream begins it."""
        return {"type": "text", "text": ""}

    def deltas(self) -> Iterator[Json]:
        """Yield what a stream adds to the opening, in order."""
        for piece in _split(self.text, self.pieces):
            yield {"type": "text_delta", "text": piece}


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the model thought before it answered, streamed like `Text`."""

    text: str
    pieces: int = 1
    signature: str = field(default_factory=lambda: secrets.token_hex(16))

    def whole(self) -> Json:
        """Return the block as it stands in a message."""
        return {"type": "thinking", "thinking": self.text, "signature": self.signature}

    def opening(self) -> Json:
        """Return the block as a stream begins it."""
        return {"type": "thinking", "thinking": "", "signature": ""}

    def deltas(self) -> Iterator[Json]:
        """Yield what a stream adds to the opening, in order."""
        for piece in _split(self.text, self.pieces):
            yield {"type": "thinking_delta", "thinking": piece}
        yield {"type": "signature_delta", "signature": self.signature}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a tool, for the client to make."""

    name: str
    input: Mapping[str, Any]
    id: str = field(default_factory=lambda: f"toolu_{secrets.token_hex(12)}")

    def whole(self) -> Json:
        """Return the block as it stands in a message."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": dict(self.input)}

    def opening(self) -> Json:
        """Return the block as a stream begins it."""
        return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}

    def deltas(self) -> Iterator[Json]:
        """Yield what a stream adds to the opening, in order."""
        yield {"type": "input_json_delta", "partial_json": json.dumps(self.input)}


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that an answer is said to have taken."""

    input_tokens: int
    output_tokens: int
    cache_read: int = 0
    cache_write: int = 0

    def whole(self) -> Json:
        """Return the counts under the API's names."""
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_write,
            "cache_read_input_tokens": self.cache_read,
            "output_tokens": self.output_tokens,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a model."""

    model: str
    blocks: tuple[Text | Thinking | ToolUse, ...]
    usage: Usage
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")

    @property
    def stop_reason(self) -> str:
        """Return why the model stopped: for the client to call tools, or because it is done."""
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.blocks) else "end_turn"

    def message(self) -> Json:
        """Return the answer to a request that does not ask for a stream."""
        return self._message([block.whole() for block in self.blocks], self.stop_reason, self.usage.whole())

    def events(self) -> Iterator[Json]:
        """Yield the events of the answer to a request that asks for a stream."""
        # The API too begins with a placeholder; the true count of what it says comes with `message_delta`.
        begun = {**self.usage.whole(), "output_tokens": 1}
        yield {"type": "message_start", "message": self._message([], None, begun)}
        for index, block in enumerate(self.blocks):
            yield {"type": "content_block_start", "index": index, "content_block": block.opening()}
            for delta in block.deltas():
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        end = {"stop_reason": self.stop_reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": end, "usage": self.usage.whole()}
        yield {"type": "message_stop"}

    def _message(self, content: list[Json], stop_reason: str | None, usage: Json) -> Json:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }


def error(kind: str, message: str) -> Json:
    """Return the body of an answer that failed, or the event that ends a stream which did."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def encode(event: Json) -> bytes:
    """Return an event as it goes over the wire (WHATWG HTML, section 9.2, server-sent events)."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def estimate(size: int) -> int:
    """Return about how many tokens a text of so many letters takes, at least one."""
    return max(1, size // 4)


def _split(text: str, pieces: int) -> Iterator[str]:
    count = max(1, min(pieces, len(text)))
    for number in range(count):
        yield text[len(text) * number // count : len(text) * (number + 1) // count]
