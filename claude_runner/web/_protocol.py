"""How requests are read off the wire: uvicorn's way, with bounds on the part that comes before any application sees it.

Uvicorn waits for ever for the head of a request, and keeps all of it that comes. Here a connection is closed whose head
does not come in time, or is too large.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 20.0  # nginx waits 60, Node 60, Apache 20 to 40
LARGEST_HEAD: Final = 64 * 2**10  # bytes


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request's head is too slow or too large."""

    _deadline: asyncio.TimerHandle | None = None
    _head = 0  # bytes of the head that is on its way; 0 where none is

    def connection_made(self, transport: Any) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._head_is_over()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        if self._deadline is not None:
            self._head += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head > LARGEST_HEAD:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        super().on_message_begin()
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self._head_is_over()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._refuse, b"408 Request Timeout")

    def _head_is_over(self) -> None:
        self._head = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: bytes) -> None:
        self._head_is_over()
        if self.transport.is_closing():
            return
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
