"""A stand-in for the model, so that a run can be tried from end to end at no cost.

It speaks the Messages API on loopback. The real Claude Code CLI is pointed at it, starts its real tools and
MCP servers and is asked to make a few harmless calls, so that what a run needs shows before a model is paid.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from claude_runner.rehearsal.conversations import Conversation

MODEL: Final = "claude-rehearsal"  # the name that runs are sent with; no real model bears it


@dataclass(frozen=True, slots=True)
class RehearsalModel:
    """A stand-in that is listening.

    Attributes:
        base_url: What to give the CLI as `ANTHROPIC_BASE_URL`.
        api_key: What to give it as `ANTHROPIC_API_KEY`. Made anew for each stand-in; nothing else is let in.
    """

    base_url: str
    api_key: str = field(repr=False)


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

    api_key = f"rehearsal-{secrets.token_urlsafe(24)}"
    async with serve(answer, api_key) as base_url:
        yield RehearsalModel(base_url, api_key)
