"""Serves the Messages API on loopback: who is let in, what is asked, and how errors look.

What is answered is the caller's; this is what any stand-in for the model needs around it.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from claude_runner.errors import InvalidError
from claude_runner.loopback import listening
from claude_runner.rehearsal.answers import Answer, encode, error
from claude_runner.rehearsal.conversations import Conversation

Answerer = Callable[[Conversation, Request], Awaitable[Response]]


@asynccontextmanager
async def serve(answer: Answerer, api_key: str, port: int = 0) -> AsyncIterator[str]:
    """Serve answers on 127.0.0.1 while the context is open, and yield the base URL.

    Args:
        answer: Called with each request for a message. When the context is left, its client counts as gone.
        api_key: What a request must bear, as `x-api-key` or as a bearer token.
        port: Where to listen; 0 takes a free port.

    Raises:
        OSError: The port is taken.
    """
    async with listening(_guard(_build(answer), api_key), port) as base_url:
        yield base_url


def reply(answer: Answer, conversation: Conversation) -> Response:
    """Return the answer as the request wants it: streamed or whole."""
    if not conversation.wants_stream:
        return JSONResponse(answer.message())

    async def stream() -> AsyncIterator[bytes]:
        for event in answer.events():
            yield encode(event)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _build(answer: Answerer) -> Starlette:
    async def messages(request: Request) -> Response:
        return await answer(Conversation.read(await request.body()), request)

    async def count_tokens(request: Request) -> Response:
        return JSONResponse({"input_tokens": Conversation.read(await request.body()).input_tokens})

    async def alive(_request: Request) -> Response:
        return Response()

    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/", alive, methods=["HEAD"]),
        ],
        exception_handlers={HTTPException: _refused, InvalidError: _invalid, ClientDisconnect: _left},
    )


def _guard(app: ASGIApp, api_key: str) -> ASGIApp:
    refused = JSONResponse(error("authentication_error", "invalid x-api-key"), 401)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        probe = request.method == "HEAD" and request.url.path == "/"
        await (app if probe or _bears(request, api_key) else refused)(scope, receive, send)

    return guarded


def _bears(request: Request, api_key: str) -> bool:
    given = (
        request.headers.get("x-api-key", ""),
        request.headers.get("authorization", "").removeprefix("Bearer "),
    )
    return any(secrets.compare_digest(key.encode(), api_key.encode()) for key in given)


async def _refused(request: Request, exception: Exception) -> Response:
    status = exception.status_code if isinstance(exception, HTTPException) else 500
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    return JSONResponse(error(kind, f"there is no {request.method} {request.url.path} here"), status)


async def _invalid(_request: Request, exception: Exception) -> Response:
    return JSONResponse(error("invalid_request_error", str(exception)), 400)


async def _left(_request: Request, _exception: Exception) -> Response:
    return Response()  # goes nowhere: the client has gone
