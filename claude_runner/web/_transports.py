"""MCP over HTTP: Streamable HTTP at `/mcp`, and HTTP+SSE at `/sse` with `/messages/` for clients that know no other.

Both eras of the protocol are served at the one address: the SDK tells them apart by a header of the request. What the
library's own applications add (routing, a guard of hosts, authorization) stands before this one, and is not done twice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import Any, Final

import anyio
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from fastmcp.server.http import FastMCPStreamableHTTPSessionManager, set_http_request
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from claude_runner.web._answers import error_answer
from claude_runner.web._sse import EventStreams

MOST_STREAMS: Final = 2_000  # open at a time, far more than clients of one owner; each costs some memory
MOST_SESSIONS: Final = 2_000  # in memory, 40 KiB each; some clients open one for each call
REMEMBERED_SESSIONS: Final = 1_000  # that clients have ended
CALLS_SECONDS: Final = 0.5  # what calls get once the server is told to stop; uvicorn's patience is a second
SSE: Final = "/sse"
MESSAGES: Final = "/messages/"
STREAMABLE: Final = "/mcp"


class _Sessions(FastMCPStreamableHTTPSessionManager):
    """Sessions that a restart of the server does not break.

    A session lives in memory. A client that comes with one from before the restart would be told 404, and not all begin
    anew then; here its request is served without a session, which is all that most requests need. So the session that
    idles for longest can give way where there are too many. A session that its client has ended stays ended.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ended: deque[str] = deque(maxlen=REMEMBERED_SESSIONS)

    async def _handle_stateful_request(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        session = _header(scope, b"mcp-session-id")
        method, is_open = scope["method"], session in self._server_instances
        if session is None or is_open or session in self._ended or method != "POST":
            if session is None:
                await self._make_room()
            await super()._handle_stateful_request(scope, receive, send)
            if session is not None and is_open and session not in self._server_instances:
                self._ended.append(session)
            return
        version = _header(scope, b"mcp-protocol-version")
        await self._handle_stateless_request(version, scope, receive, send)

    async def _make_room(self) -> None:
        """Where a new session would be too many, forget the one that idles for longest; one in use is not forgotten."""
        if len(self._server_instances) < MOST_SESSIONS:
            return
        since = {
            name: session.idle_scope.deadline
            for name, session in self._server_instances.items()
            if session.idle_scope is not None and session.idle_scope.deadline < inf
        }
        if since:
            oldest = min(since, key=since.__getitem__)
            await self._discard_session(oldest, self._server_instances[oldest])

    async def end(self) -> None:
        """End every session, so that none waits for somebody to hear its last words."""
        for session in list(self._server_instances.values()):
            await session.terminate()


class Transports:
    """The two ways of MCP over HTTP, as one ASGI application; it is served while it is open."""

    def __init__(self, mcp: FastMCP[Any]) -> None:
        self._mcp = mcp
        # Host and Origin are looked at before a request comes here.
        self._security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._sse = EventStreams(mcp, MESSAGES)
        self._sessions: _Sessions | None = None
        self._requests: dict[anyio.CancelScope, str] = {}  # those going on, with their methods
        self._streams = 0  # how many of these are streams: counted, since every one that is refused asks
        self._none_left = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        server = self._mcp._mcp_server  # noqa: SLF001 - has no public name; versions are pinned
        self._sessions = _Sessions(server, security_settings=self._security)
        # The library closes the server's lifespan with the first transport that ends; holding it keeps it for all.
        async with self._mcp._lifespan_manager(), self._sessions.run(), self._sse.open():  # noqa: SLF001 - as above
            yield

    async def finish(self) -> None:
        """End every stream at once, and calls that are not answered soon."""
        self._end(streams_alone=True)
        if self._requests:
            with suppress(TimeoutError):
                async with asyncio.timeout(CALLS_SECONDS):
                    await self._none_left.wait()
        if self._sessions is not None:
            await self._sessions.end()
        self._end(streams_alone=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose sender is let in."""
        app = self._app_of(scope)
        if isinstance(app, Response):
            await app(scope, receive, send)
            return
        answer = _Answer(send)
        with anyio.CancelScope() as ending:
            self._requests[ending] = scope["method"]
            self._streams += scope["method"] == "GET"
            self._none_left.clear()
            transport = set_transport("streamable-http" if scope["path"] == STREAMABLE else "sse")
            try:
                with set_http_request(Request(scope)):
                    await app(scope, receive, answer.send)
            finally:
                reset_transport(transport)
                del self._requests[ending]
                self._streams -= scope["method"] == "GET"
                if not self._requests:
                    self._none_left.set()
        if ending.cancelled_caught:
            await answer.complete(scope, receive)

    def _app_of(self, scope: Scope) -> ASGIApp:
        """Return what serves the request, or the response that refuses it."""
        method, path = scope["method"], scope["path"]
        if method == "GET" and self._streams >= MOST_STREAMS:
            return error_answer(
                "too_many_streams",
                f"{MOST_STREAMS:,} streams are open, the most that are served at a time; close some",
                503,
                headers={"Retry-After": "30"},
            )
        if path == STREAMABLE:
            return self._streamable
        if path == SSE:
            return self._sse.stream if method == "GET" else _only("GET")
        return self._sse.take if method == "POST" else _only("POST")

    async def _streamable(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sessions is None:
            raise RuntimeError("the transports are not open")
        await self._sessions.handle_request(scope, receive, send)

    def _end(self, *, streams_alone: bool) -> None:
        for ending, method in list(self._requests.items()):
            if method == "GET" or not streams_alone:
                ending.cancel()


class _Answer:
    """Remembers how far an answer has come, so that one that was given up can be brought to its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started = False
        self._completed = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        self._started = True
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._completed = True
        await self._send(message)

    async def complete(self, scope: Scope, receive: Receive) -> None:
        """End the answer where it is, or say that there is none."""
        if not self._started:
            refusal = error_answer(
                "stopping", "the server is stopping; try again", 503, headers={"Retry-After": "5"}
            )
            await refusal(scope, receive, self._send)
        elif not self._completed:
            with suppress(OSError):  # the client has gone
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _only(method: str) -> Response:
    return error_answer("method", f"only {method} is served here", 405, headers={"Allow": method})


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
