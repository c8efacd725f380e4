"""Reads a request of the Messages API: what was said, which tools are offered, what came of those called.

What decides something is checked here; the rest of a request passes as it is.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.errors import InvalidError
from claude_runner.rehearsal.answers import Json, estimate

# The CLI sends a placeholder of this name to models it does not know, and asks that it never be called.
PLACEHOLDER: Final = "DeferredToolPlaceholder"
# How words of the CLI's own begin that it sends in the user's name.
OWN_WORDS: Final = ("<system-reminder>", "Your response above was cut off mid-stream.")
WORKING_FOLDER: Final = re.compile(
    r"^[ \t]*(?:- )?(?:Primary working|Working) directory: (/[^\r\n]*)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client offers."""

    name: str
    schema: Json


@dataclass(frozen=True, slots=True)
class Call:
    """A call that the client was asked to make, and what came of it."""

    name: str
    result: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who speaks, and its blocks."""

    role: str
    blocks: tuple[Json, ...]

    def texts(self) -> Iterator[str]:
        """Yield the texts of the message's text blocks."""
        for block in self.blocks:
            if block.get("type") == "text":
                yield str(block.get("text", ""))

    @property
    def is_prompt(self) -> bool:
        """Return whether a user speaks here, rather than a tool or the CLI."""
        if self.role != "user" or any(block.get("type") == "tool_result" for block in self.blocks):
            return False
        return any(not text.lstrip().startswith(OWN_WORDS) for text in self.texts())


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request as it came.

    Attributes:
        body: The request's JSON object.
        messages: Its messages, oldest first.
        input_tokens: About how many tokens the request takes.
    """

    body: Json
    messages: tuple[Message, ...]
    input_tokens: int

    @classmethod
    def read(cls, raw: bytes) -> "Conversation":
        """Read a request's body.

        Raises:
            InvalidError: It is not a JSON object with a list of messages.
        """
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise InvalidError(f"the body is not JSON: {error}") from error
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
            raise InvalidError("messages: a list of messages is required", field="messages")
        messages = tuple(
            Message(str(message.get("role")), tuple(_blocks(message.get("content"))))
            for message in _objects(body["messages"])
        )
        return cls(body, messages, estimate(len(raw)))

    @property
    def model(self) -> str:
        """Return the model asked for."""
        return str(self.body.get("model", ""))

    @property
    def wants_stream(self) -> bool:
        """Return whether the answer is to come in pieces."""
        return self.body.get("stream") is True

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Return the tools that may be called, in the client's order."""
        return tuple(
            Tool(tool["name"], schema if isinstance(schema := tool.get("input_schema"), dict) else {})
            for tool in _objects(self.body.get("tools"))
            if isinstance(tool.get("name"), str) and tool["name"] != PLACEHOLDER
        )

    @property
    def turn(self) -> tuple[Message, ...]:
        """Return what came after the last prompt."""
        prompts = [index for index, message in enumerate(self.messages) if message.is_prompt]
        return self.messages[prompts[-1] + 1 :] if prompts else self.messages

    @property
    def step(self) -> int:
        """Return how many answers the last prompt has had."""
        return sum(message.role == "assistant" for message in self.turn)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return the tools called since the last prompt, in the order they were asked for."""
        blocks = [block for message in self.turn for block in message.blocks]
        # Results come in any order: those of calls made together need not be in the order of the calls.
        results = {block.get("tool_use_id"): block for block in blocks if block.get("type") == "tool_result"}
        return tuple(
            _call(block, results.get(block.get("id"), {}))
            for block in blocks
            if block.get("type") == "tool_use"
        )

    @property
    def working_folder(self) -> str | None:
        """Return the folder that the CLI says it works in, where it says so.

        Only what the CLI itself says counts, never a prompt. It says it in a message of the role `system`;
        the `system` text of the request, which a job may have written, is asked last.
        """
        said = [message for message in self.messages if message.role == "system"]
        own = Message("system", tuple(_blocks(self.body.get("system"))))
        for message in (*said, own):
            for text in message.texts():
                if found := WORKING_FOLDER.search(text):
                    return found.group(1)
        return None


def _call(use: Json, result: Json) -> Call:
    said = "\n".join(Message("user", tuple(_blocks(result.get("content")))).texts())
    return Call(str(use.get("name")), said, failed=result.get("is_error") is True)


def _blocks(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return _objects(content)


def _objects(value: Any) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
