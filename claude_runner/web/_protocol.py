"""How requests are read off the wire: uvicorn's way, with bounds on what comes before and beside any application.

Uvicorn waits for ever for the head of a request and for the rest of a body that is answered already, keeps all that
comes of a head, of the trailer of a body (RFC 9112, section 7.1.2) and of requests that are sent before the last is
answered, and tells only the newest of these that their client has gone. Here a connection is closed that does any of
it too slowly or too much.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from claude_runner.web._answers import error_answer

HEAD_SECONDS: Final = 20.0  # nginx waits 60, Node 60, Apache 20 to 40
HURRIED_SECONDS: Final = 2.0  # the same, where there are too many connections
LARGEST_HEAD: Final = 64 * 2**10  # bytes
MOST_AHEAD: Final = 16  # requests that wait for the answers to those before them; each takes 3 KiB
STALLED_SECONDS: Final = 60.0  # how long a client may leave an answer unread

_FULL: Final = error_answer(
    "full",
    "there are more connections than the server can bear; try again",
    503,
    headers={"Retry-After": "5", "Connection": "close"},
)


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections that are too slow, and those of whom too much would be kept."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._deadline: asyncio.TimerHandle | None = None  # by when the head must have come
        self._stalled: asyncio.TimerHandle | None = None  # by when something must have been read of an answer
        self._loose = 0  # bytes since the last that belonged to a whole head or to a body
        self._head_is_whole = False
        self._unanswered: list[RequestResponseCycle] = []
        self._most, self.limit_concurrency = (
            self.limit_concurrency,
            None,
        )  # uvicorn's answer names no time to come back
        self._deaf = False

    def connection_made(self, transport: Any) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        super().connection_made(transport)
        over = 0 if self._most is None else len(self.connections) - self._most
        if over > 0:
            self.app = _FULL
        if self._most is not None and over > self._most // 4:  # too many even to be refused
            self.transport.abort()
        else:
            self._await_head(HURRIED_SECONDS if over > 0 else HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._no_deadline()
        self._has_moved()
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        self._unanswered.clear()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if self._deaf:
            return
        self._loose += len(data)
        super().data_received(data)
        if self._loose > LARGEST_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")
        elif (
            not self._unanswered and self._deadline is None
        ):  # nothing else ends the connection if nothing follows
            self._await_head(HEAD_SECONDS)

    def on_message_begin(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._head_is_whole = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if (
            not self._head_is_whole
        ):  # what comes in a trailer has not been looked at by whoever guards (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if len(self._unanswered) > MOST_AHEAD:
            raise OverflowError(
                "too many requests wait for their answers"
            )  # which the parser makes a bad request
        self._no_deadline()
        self._loose = 0
        super().on_headers_complete()
        self._head_is_whole = True
        self._unanswered.append(self.cycle)

    def on_body(self, body: bytes) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._loose = 0
        super().on_body(body)

    def on_response_complete(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if self._unanswered:
            self._unanswered.pop(0)
        super().on_response_complete()

    def pause_writing(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._has_moved()
        super().resume_writing()

    def send_400_response(self, _msg: str) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._refuse(b"400 Bad Request")

    def _unsupported_upgrade_warning(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Answer in HTTP, and read no more: what follows might be of another protocol, and is no request."""
        self._deaf = True
        self.cycle.keep_alive = False

    def _await_head(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._refuse, b"408 Request Timeout")

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _has_moved(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self, status: bytes) -> None:
        """End the connection, and say why where that can't be taken for another answer's part, or for another's."""
        self._no_deadline()
        self._deaf = True
        if self.transport.is_closing():
            return
        mid_body = self._head_is_whole and not self._unanswered  # and the request has its answer
        if not mid_body and not any(cycle.response_started for cycle in self._unanswered):
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
        self.transport.close()
