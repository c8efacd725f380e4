"""A client's end of a tool server's standard input and output: JSON-RPC in lines (MCP, revision 2025-11-25).

It passes on what servers say as they say it: what a tool answers is checked by whoever gets it, not on the way. The
library's client checks each answer against its schema, which takes as long again as the call; a server that speaks
over stdio to many runs wants a wire, no more.
"""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from claude_runner import __version__
from claude_runner.errors import ServerFailedError

PROTOCOL: Final = "2025-11-25"
MAX_LINE: Final = 64 * 2**20  # bytes; a longer line ends the session
MAX_RESULT: Final = 4 * 2**20  # bytes of an answer that are passed on
# The id of an answer that is too long to be read: beside one of its outermost braces, where nothing of the result is.
_NUMBER: Final = rb'"id"\s*:\s*(\d{1,9})'
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID_FIRST: Final = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _NUMBER)
_ID_LAST: Final = re.compile(_NUMBER + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*\Z")
_ID_WITHIN: Final = 200  # bytes from the end in which it is looked for

Json = Mapping[str, Any]

log = logging.getLogger(__name__)


class RemoteError(ServerFailedError):
    """The server answered a request with an error."""


class Session:
    """One conversation with a server that was started.

    Attributes:
        tools_changed: Whether the server has said that it lists other tools now.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Make a session; `hear` must run for it to hear anything.

        Args:
            reader: The server's standard output; its limit is `MAX_LINE`.
            writer: The server's standard input.
        """
        self.tools_changed = False
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._next_id = 0
        self._over: str | None = None

    async def initialize(self) -> None:
        """Open the conversation (MCP, lifecycle)."""
        client = {"name": "claude-runner", "version": __version__}
        await self.request(
            "initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}
        )
        await self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def request(self, method: str, params: Json) -> Json:
        """Ask for something and return the result.

        Whoever cancels has the server told so.

        Raises:
            ServerFailedError: The server refused, said more than is passed on, or has died.
        """
        if self._over is not None:
            raise ServerFailedError(self._over)
        self._next_id += 1
        number = self._next_id
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._say({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return await answer
        except asyncio.CancelledError:
            self._tell_cancelled(number)
            raise
        finally:
            del self._waiting[number]

    async def hear(self) -> str:
        """Hear the server until its output ends, and return what it did wrong, if anything."""
        try:
            while line := await self._reader.readline():
                await self._take(line)
        except ValueError:
            return f"it said more than {MAX_LINE // 2**20} MiB at once"
        except ConnectionError:
            return ""
        return ""

    def end(self, sentence: str) -> None:
        """Tell whoever waits, and whoever asks later, that the server has ended; what is told first stands."""
        if self._over is None:
            self._over = sentence
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ServerFailedError(self._over))

    async def _say(self, message: Json) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        try:
            await self._writer.drain()
        except ConnectionError:  # it has ended; who waits is told when its output ends
            return

    def _tell_cancelled(self, number: int) -> None:
        told = {"requestId": number, "reason": "cancelled"}
        message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": told}
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _take(self, line: bytes) -> None:
        if len(line) > MAX_RESULT:
            self._refuse(line)
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            log.debug("a server said what is no JSON: %r", line[:200])
            return
        if not isinstance(message, dict):
            return
        if "method" not in message:
            self._settle(message)
        elif "id" in message:
            await self._answer(message)
        elif message["method"] == "notifications/tools/list_changed":
            self.tools_changed = True

    def _settle(self, message: Json) -> None:
        """Give an answer to who waits for it."""
        number = message.get("id")
        answer = self._waiting.get(number) if type(number) is int else None
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(RemoteError(_words(message["error"])))
        elif isinstance(message.get("result"), dict):
            answer.set_result(message["result"])
        else:
            answer.set_exception(ServerFailedError("the server's answer has no result"))

    def _refuse(self, line: bytes) -> None:
        """Tell who waits that the answer is too long, without reading it."""
        found = _ID_FIRST.match(line) or _ID_LAST.search(line[-_ID_WITHIN:])
        answer = self._waiting.get(int(found[1])) if found else None
        if answer is not None and not answer.done():
            answer.set_exception(too_long(len(line)))

    async def _answer(self, message: Json) -> None:
        """Answer what the server asks: it may know that we live, and no more (no sampling, no roots)."""
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": -32601, "message": "not offered by this client"}
        await self._say(answer)


def too_long(size: int) -> ServerFailedError:
    """Return the failure of an answer of so many bytes."""
    return ServerFailedError(
        f"the answer has {size:,} bytes; at most {MAX_RESULT:,} are passed on: ask for less"
    )


def _words(error: object) -> str:
    words = error.get("message") if isinstance(error, dict) else None
    return str(words or "the server answered with an error")[:1000]
