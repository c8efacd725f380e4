"""A model that does what it is told: the Messages API on loopback, for tests that drive the real CLI.

A test writes the script into the prompt with `script`, or sets it as the model's `default_script`. It is a
list of steps; the nth answer after the prompt follows the nth step. By hand, `python -m tests.scripted_model
[port]` prints the base URL, then the key.
"""

import argparse
import asyncio
import json
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse

from claude_runner.errors import InvalidError
from claude_runner.rehearsal.answers import Answer, Text, Thinking, ToolUse, Usage, encode, error
from claude_runner.rehearsal.conversations import Conversation
from claude_runner.rehearsal.serving import serve

OPENING: Final = "<<mock "
CLOSING: Final = ">>"


class Tool(TypedDict, total=False):
    """A call of a tool."""

    tool: str
    input: Mapping[str, Any]


class Step(Tool, total=False):
    """What one answer is made of and how it goes; everything may be left out."""

    thinking: str
    text: str
    tools: Sequence[Tool]  # several calls at once; `tool` and `input` are one
    delay: float  # seconds before the answer begins
    hang: bool  # no answer at all, until the client leaves or the model closes
    status: int  # an HTTP error in place of an answer, with these two
    etype: str
    msg: str
    headers: Mapping[str, str]  # of the answer or of the error
    times: int  # the step counts for so many requests of its session; from then on it is `then`
    then: "Step"
    chunks: int  # deltas of the text and of the thinking
    chunk_delay: float  # seconds from one delta to the next
    stall: bool  # the stream goes silent after the blocks
    cut: bool  # the stream ends after the blocks
    mid_error: bool  # the stream ends in an error after the blocks
    input_tokens: int
    output_tokens: int
    cache_read: int
    cache_write: int
    model: str  # the name it answers under


GREETING: Final[Step] = {"text": "Hello from the scripted model."}
OVER: Final[Step] = {"text": "The script is over."}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came.

    Attributes:
        session_id: The CLI's session, "" where another client asks.
        arrived: When it came, on the monotonic clock.
        step: The index of the script's step that answers it.
    """

    body: dict[str, Any]
    headers: Mapping[str, str]
    session_id: str
    arrived: float
    step: int


def script(*steps: Step) -> str:
    """Return the text that makes the model follow these steps, to be put anywhere in a prompt."""

    # Inside strings, whatever templates, tags or the script's own end are made of is written as an escape.
    def escape(string: re.Match[str]) -> str:
        return re.sub(r"[<>&{}$%`]", lambda found: f"\\u{ord(found[0]):04x}", string[0])

    return OPENING + re.sub(r'"(?:[^"\\]|\\.)*"', escape, json.dumps(steps)) + CLOSING


@dataclass(slots=True)
class ScriptedModel:
    """A scripted model that is listening; `requests` are those for a message, oldest first."""

    base_url: str = ""
    api_key: str = field(default_factory=lambda: f"scripted-{secrets.token_urlsafe(24)}")
    default_script: Sequence[Step] = (GREETING,)
    requests: list[Request] = field(default_factory=list)
    _arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    _asked: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def asked(self, count: int) -> None:
        """Return once so many requests have come; the caller bounds the wait."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)

    async def answer(self, conversation: Conversation, http: HttpRequest) -> Response:
        """Answer a request as the script says."""
        steps, index = _script_of(conversation) or (self.default_script, conversation.step)
        session_id = http.headers.get("x-claude-code-session-id", "")
        async with self._arrival:
            arrived = time.monotonic()
            self.requests.append(Request(conversation.body, http.headers, session_id, arrived, index))
            self._arrival.notify_all()
        step = self._now(_checked(steps[index] if index < len(steps) else OVER), (session_id, index))
        await _wait(http, None if step.get("hang") else step.get("delay", 0))
        if status := step.get("status"):
            failure = error(step.get("etype", "api_error"), step.get("msg", "The script says so."))
            return JSONResponse(failure, status, headers=step.get("headers"))
        answer = _answer(step, conversation.model)
        if conversation.wants_stream:
            stream = _stream(answer, step)
            return StreamingResponse(stream, headers=step.get("headers"), media_type="text/event-stream")
        return JSONResponse(answer.message(), headers=step.get("headers"))

    def _now(self, step: Step, key: tuple[str, int]) -> Step:
        if "times" not in step:
            return step
        self._asked[key] += 1
        recovered: Step = {"text": f"Recovered after {step['times']}."}
        return step if self._asked[key] <= step["times"] else _checked(step.get("then", recovered))


@asynccontextmanager
async def scripted_model(port: int = 0) -> AsyncIterator[ScriptedModel]:
    """Open a scripted model on 127.0.0.1; hanging and stalled requests end with the context."""
    model = ScriptedModel()
    async with serve(model.answer, model.api_key, port) as model.base_url:
        yield model


def _script_of(conversation: Conversation) -> tuple[Sequence[Step], int] | None:
    """Return the newest script in the prompts and how many answers came after it."""
    said = 0
    for message in reversed(conversation.messages):
        for text in reversed(list(message.texts()) if message.role == "user" else []):
            _, opening, rest = text.rpartition(OPENING)
            if opening:
                return _steps(rest), said
        said += message.role == "assistant"
    return None


def _steps(text: str) -> Sequence[Step]:
    try:
        steps, end = json.JSONDecoder().raw_decode(text)
    except ValueError as cause:
        raise InvalidError(f"the script is not JSON: {cause}") from cause
    if not text[end:].lstrip().startswith(CLOSING) or not isinstance(steps, list):
        raise InvalidError(f"the script is not a list with {CLOSING} after it")
    return steps


def _checked(step: Step) -> Step:
    if unknown := sorted(step.keys() - Step.__annotations__.keys()):
        raise InvalidError(f"the script has a step with unknown keys: {', '.join(unknown)}")
    return step


async def _wait(http: HttpRequest, seconds: float | None) -> None:
    """Return after so many seconds, `None` for never, or once the client has left."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await http.receive())["type"] != "http.disconnect":
                pass


def _answer(step: Step, model: str) -> Answer:
    chunks = step.get("chunks", 1)
    blocks: list[Text | Thinking | ToolUse] = []
    if "thinking" in step:
        blocks.append(Thinking(step["thinking"], chunks))
    if "text" in step:
        blocks.append(Text(step["text"], chunks))
    calls = [*step.get("tools", []), *([step] if "tool" in step else [])]
    blocks += [ToolUse(call["tool"], call.get("input", {})) for call in calls]
    usage = Usage(
        step.get("input_tokens", 100),
        step.get("output_tokens", 20),
        step.get("cache_read", 0),
        step.get("cache_write", 0),
    )
    return Answer(step.get("model", model), tuple(blocks), usage)


async def _stream(answer: Answer, step: Step) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for event in answer.events():
        match event["type"]:
            case "message_delta" if step.get("stall"):
                await loop.create_future()  # ends with the connection
            case "message_delta" if step.get("cut"):
                return
            case "message_delta" if step.get("mid_error"):
                yield encode(error("overloaded_error", "Overloaded"))
                return
            case "content_block_delta":
                # Paced by the clock, not by pauses: two hundred a second stay two hundred a second.
                await asyncio.sleep(due - loop.time())
                due += step.get("chunk_delay", 0)
            case _:
                pass
        yield encode(event)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve a scripted model until interrupted.")
    parser.add_argument("port", type=int, nargs="?", default=0)
    async with scripted_model(parser.parse_args().port) as model:
        sys.stdout.write(f"{model.base_url}\n{model.api_key}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
