"""Reads a request's body whole, within bounds: none is too large, none comes too slowly, and all together have room."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from starlette.types import Message, Receive, Scope

from claude_runner.errors import RunnerError

LARGEST: Final = 4 * 2**20  # bytes; what the MCP SDK takes as well
MOST_AT_ONCE: Final = 256 * 2**20  # bytes of all bodies that are being read or served
SLOWEST_SECONDS: Final = 30.0


class TooLargeError(RunnerError):
    """A request has more bytes than are taken."""

    code: ClassVar[str] = "too_large"
    status: ClassVar[int] = 413


class TooSlowError(RunnerError):
    """A request's body did not come in time."""

    code: ClassVar[str] = "too_slow"
    status: ClassVar[int] = 408


class BusyError(RunnerError):
    """There is no room for a body beside all the others."""

    code: ClassVar[str] = "busy"
    status: ClassVar[int] = 503


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
    body = bytearray()  # which many small pieces fill without taking many times their size
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError("the client went before it had sent all of the request")
                body += message.get("body", b"")
                if len(body) > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise TooSlowError(f"the body did not come within {seconds:g} seconds") from None


class Room:
    """What all bodies together may take: so many clients may each send one that nothing is left for the rest."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._left = most

    @contextmanager
    def counted(self, receive: Receive) -> Iterator[Receive]:
        """Give a request's `receive` in which its body counts for as long as the context is open.

        The `receive` raises `BusyError` where there is no room.
        """
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            if size > self._left:
                raise BusyError("too much is being sent at this moment; try again")
            self._left -= size
            taken += size
            return message

        try:
            yield counting
        finally:
            self._left += taken


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


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {most:,} bytes, the most that is taken here")
