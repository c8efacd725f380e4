"""Stand-ins for the model, so that a run can be tried from end to end at no cost.

They speak the Messages API on loopback, and the real Claude Code CLI is pointed at them. One asks it to make a few
harmless calls with its real tools and MCP servers, so that what a run needs shows before a model is paid. The other
only listens: it keeps the first request and asks for nothing.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_runner.rehearsal.conversations import Conversation

MODEL: Final = "claude-rehearsal"  # the name that runs are sent with; no real model bears it
LISTENED: Final = "This was a rehearsal: no model was asked."


@dataclass(frozen=True, slots=True)
class RehearsalModel:
    """A stand-in that is listening.

    Attributes:
        base_url: What to give the CLI as `ANTHROPIC_BASE_URL`.
        api_key: What to give it as `ANTHROPIC_API_KEY`. Made anew for each stand-in; nothing else is let in.
    """

    base_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FirstRequest:
    """The first that a CLI asked.

    Attributes:
        body: The request's JSON object.
        size: Its bytes.
        tokens: About how many tokens it takes; the CLI was told that it took so many.
    """

    body: dict[str, Any]
    size: int
    tokens: int


@dataclass(slots=True)
class ListeningModel:
    """A stand-in that only listens.

    Attributes:
        base_url: As of a `RehearsalModel`.
        api_key: As of a `RehearsalModel`.
        request: The first request, once it has come.
    """

    base_url: str
    api_key: str = field(repr=False)
    request: FirstRequest | None = None


@asynccontextmanager
async def open_rehearsal() -> AsyncIterator[RehearsalModel]:
    """Listen on a free port of 127.0.0.1 while the context is open.

    Leaving the context ends the requests still under way and takes less than half a second. Any number may
    be open at once. No signal handler is installed and nothing is written to standard output.

    Raises:
        OSError: The system gives no port.
    """
    # Loaded here: most servers never rehearse, and uvicorn with Starlette takes a while to load.
    from claude_runner.rehearsal.behaviour import rehearse  # noqa: PLC0415
    from claude_runner.rehearsal.serving import reply, serve  # noqa: PLC0415

    async def answer(conversation: "Conversation", _request: "Request") -> "Response":
        return reply(rehearse(conversation), conversation)

    api_key = _new_key()
    async with serve(answer, api_key) as base_url:
        yield RehearsalModel(base_url, api_key)


@asynccontextmanager
async def open_listener() -> AsyncIterator[ListeningModel]:
    """Listen like `open_rehearsal`, under the name of whatever model is asked, and answer that it was only listening.

    The answer asks for no tool, and counts no tokens of its own: what the CLI says it cost is the request alone.

    Raises:
        OSError: The system gives no port.
    """
    from claude_runner.rehearsal.answers import Answer, Text, Usage  # noqa: PLC0415 - as above
    from claude_runner.rehearsal.serving import reply, serve  # noqa: PLC0415

    async def answer(conversation: "Conversation", request: "Request") -> "Response":
        tokens = conversation.input_tokens
        if model.request is None:
            model.request = FirstRequest(conversation.body, len(await request.body()), tokens)
        return reply(Answer(conversation.model, (Text(LISTENED),), Usage(tokens, 0)), conversation)

    model = ListeningModel("", _new_key())
    async with serve(answer, model.api_key) as model.base_url:
        yield model


def _new_key() -> str:
    return f"rehearsal-{secrets.token_urlsafe(24)}"
