"""MCP over HTTP+SSE (revision 2024-11-05): a stream for each client, and messages that are posted beside it.

The library's own transport gives each stream half a dozen tasks and keeps what each client posted last, connection and
all: 113 KiB a stream. Here one task serves a stream and one waits for its end, and of what was posted the head is kept.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import parse_qs

import anyio
from fastmcp import FastMCP
from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    AuthorizationContext,
    authorization_context,
)
from mcp.server.runner import serve_loop
from mcp.shared._context_streams import ContextSendStream, create_context_streams
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from claude_runner.errors import NotFoundError
from claude_runner.web._answers import error_answer

PING_SECONDS: Final = 15.0  # proxies give a silent stream up after a minute

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx
]


@dataclass(frozen=True, slots=True)
class _Session:
    """A stream that is open: whose it is, and where what its client posts goes."""

    owner: AuthorizationContext | None
    inbox: ContextSendStream[SessionMessage | Exception]


class EventStreams:
    """The streams of an MCP server; they are served while it is open."""

    def __init__(self, mcp: FastMCP[Any], messages: str) -> None:
        self._server = mcp._mcp_server  # noqa: SLF001 - has no public name; versions are pinned
        self._messages = messages
        self._sessions: dict[str, _Session] = {}
        self._lifespan: Any = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with self._server.lifespan(self._server) as self._lifespan:
            yield

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a client's stream until it goes."""
        inbox, incoming = create_context_streams[SessionMessage | Exception](0)
        session_id = secrets.token_hex(16)
        self._sessions[session_id] = _Session(_owner(scope), inbox)
        wire = _Wire(send)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await wire.say("endpoint", f"{self._messages}?session_id={session_id}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_close_when_left, inbox, receive, wire)
                await serve_loop(self._server, incoming, wire, lifespan_state=self._lifespan)
                tasks.cancel_scope.cancel()
        finally:
            del self._sessions[session_id]
            inbox.close()
            incoming.close()

    async def take(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take what a client posts; it is answered on the client's stream.

        Raises:
            NotFoundError: There is no such stream, or it is another's: who asks is not told which.
        """
        named = parse_qs(scope["query_string"].decode("latin-1")).get("session_id", [""])
        session = self._sessions.get(named[0])
        if session is None or session.owner != _owner(scope):
            raise NotFoundError("there is no such session; open the stream anew")
        try:
            message = jsonrpc_message_adapter.validate_json(
                await Request(scope, receive).body(), by_name=False
            )
        except ValidationError:
            await error_answer("invalid", "this is no JSON-RPC message", 400)(scope, receive, send)
            return
        await Response("Accepted", status_code=202)(scope, receive, send)
        # Without `receive`, through which the connection would be kept for as long as the message.
        metadata = ServerMessageMetadata(request_context=Request(scope))
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the stream has ended meanwhile
            await session.inbox.send(SessionMessage(message, metadata))


class _Wire:
    """What a client hears: each event is one write, so none gets into another."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, item: SessionMessage) -> None:
        """Tell the client a message of the protocol."""
        await self.say("message", item.message.model_dump_json(by_alias=True, exclude_unset=True))

    async def say(self, event: str, text: str) -> None:
        """Send an event whose text is a single line."""
        await self._write(f"event: {event}\r\ndata: {text}\r\n\r\n")

    async def ping(self) -> None:
        """Send what is no event, for whoever cuts silent connections."""
        await self._write(": ping\r\n\r\n")

    async def _write(self, text: str) -> None:
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def aclose(self) -> None:
        """Do nothing: the stream ends with its request."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _close_when_left(inbox: ContextSendStream[Any], receive: Receive, wire: _Wire) -> None:
    """Wait until the client goes, pinging it meanwhile; then there is nothing more to come from it."""
    left = False
    while not left:
        with anyio.move_on_after(PING_SECONDS) as waiting:
            left = (await receive())["type"] == "http.disconnect"
        if waiting.cancelled_caught:
            await wire.ping()
    inbox.close()


def _owner(scope: Scope) -> AuthorizationContext | None:
    user = scope.get("user")
    return authorization_context(user) if isinstance(user, AuthenticatedUser) else None
