"""Reads a request's body whole, within bounds: none is too large, and none comes too slowly."""

import asyncio
from typing import ClassVar, Final

from starlette.types import Message, Receive, Scope

from claude_runner.errors import RunnerError

LARGEST: Final = 4 * 2**20  # bytes; what the MCP SDK takes as well
SLOWEST_SECONDS: Final = 30.0


class TooLargeError(RunnerError):
    """A request has more bytes than are taken."""

    code: ClassVar[str] = "too_large"
    status: ClassVar[int] = 413


class TooSlowError(RunnerError):
    """A request's body did not come in time."""

    code: ClassVar[str] = "too_slow"
    status: ClassVar[int] = 408


class GoneError(RunnerError):
    """The client went before it had said all; nobody reads what is answered."""

    code: ClassVar[str] = "gone"
    status: ClassVar[int] = 400


async def read_body(
    scope: Scope, receive: Receive, most: int = LARGEST, seconds: float = SLOWEST_SECONDS
) -> bytes:
    """Return the body.

    Args:
        scope: The request's.
        receive: Gives it piece by piece.
        most: How many bytes are taken.
        seconds: How long they may take in all.

    Raises:
        TooLargeError: It has more bytes, or says that it will have.
        TooSlowError: It took longer.
        GoneError: The client went.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most):
            raise _too_large(most)
    message = await _first(receive, seconds)
    if not message.get("more_body", False):
        return _checked(message.get("body", b""), most)
    pieces = [_checked(message.get("body", b""), most)]
    size = len(pieces[0])
    try:
        async with asyncio.timeout(seconds):
            while message.get("more_body", False):
                message = await receive()
                _refuse_gone(message)
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > most:
                    raise _too_large(most)
    except TimeoutError:
        raise _too_slow(seconds) from None
    return b"".join(pieces)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body in one piece, then what the real one gives."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _first(receive: Receive, seconds: float) -> Message:
    """Return the first piece, which mostly is there already and all there is."""
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise _too_slow(seconds) from None
    _refuse_gone(message)
    return message


def _refuse_gone(message: Message) -> None:
    if message["type"] == "http.disconnect":
        raise GoneError("the client went before it had sent all of the request")


def _checked(piece: bytes, most: int) -> bytes:
    if len(piece) > most:
        raise _too_large(most)
    return piece


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {most:,} bytes, the most that is taken here")


def _too_slow(seconds: float) -> TooSlowError:
    return TooSlowError(f"the body did not come within {seconds:g} seconds")
