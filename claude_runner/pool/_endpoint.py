"""Speaks Streamable HTTP to the CLI of a run: each request bears the run's token and stands for itself."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from claude_runner import __version__
from claude_runner.errors import RunnerError
from claude_runner.pool._access import Access
from claude_runner.pool._session import Json

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext


# The library tells of each request it serves.
logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)


@asynccontextmanager
async def endpoint(
    access_of: Callable[[str], Access | None],
    list_tools: Callable[[Access, str], Awaitable[list[Json]]],
    call_tool: Callable[[Access, str, str, Json], Awaitable[Json]],
) -> AsyncIterator[ASGIApp]:
    """Yield an ASGI application that offers each server at a path of its name.

    Args:
        access_of: Tells what a token opens.
        list_tools: Lists the tools of a server that a run may call.
        call_tool: Calls one.
    """

    async def on_list(
        context: "ServerRequestContext[Any, Any]", _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        scope = cast("Request", context.request).scope
        try:
            tools = await list_tools(scope["access"], scope["server"])
        except RunnerError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        return ListToolsResult.model_validate({"tools": tools})

    async def on_call(
        context: "ServerRequestContext[Any, Any]", params: CallToolRequestParams
    ) -> CallToolResult:
        scope = cast("Request", context.request).scope
        result = await call_tool(scope["access"], scope["server"], params.name, params.arguments or {})
        return _read(result, scope["server"])

    server: Server[Any] = Server(
        "claude-runner", version=__version__, on_list_tools=on_list, on_call_tool=on_call
    )
    manager = StreamableHTTPSessionManager(server, json_response=True, stateless=True)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        access = access_of(request.headers.get("authorization", "").removeprefix("Bearer "))
        name = request.url.path.removeprefix("/")
        if access is None:
            await PlainTextResponse("no such run", 401)(scope, receive, send)
        elif name not in access.wanted:
            await PlainTextResponse("this run has no such server", 404)(scope, receive, send)
        elif request.method != "POST":  # nothing is said unasked, and there is no session to end
            await PlainTextResponse("POST only", 405, {"Allow": "POST"})(scope, receive, send)
        else:
            await manager.handle_request({**scope, "access": access, "server": name}, receive, send)

    async with manager.run():
        yield guarded


def _read(result: Json, server: str) -> CallToolResult:
    try:
        return CallToolResult.model_validate(result)
    except ValidationError:
        said = TextContent(text=f"{server}: its answer can't be read: it is no result of a tool")
        return CallToolResult(content=[said], is_error=True)
