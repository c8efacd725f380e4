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
MAX_JUNK: Final = 10_000  # lines in a row that are no messages; who says more of them ends
# The id of an answer that is too long to be read: beside one of its outermost braces, where nothing of the result is.
_NUMBER: Final = rb'"id"\s*:\s*(\d{1,9})'
_VERSION: Final = rb'"jsonrpc"\s*:\s*"2\.0"'
_ID_FIRST: Final = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _NUMBER)
_ID_LAST: Final = re.compile(_NUMBER + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*\Z")
_ID_WITHIN: Final = 200  # bytes from the end in which it is looked for
_AT_ONCE: Final = 64 * 2**10  # bytes that are heard before others have their turn
_LINE_COSTS: Final = 1000  # bytes that a line counts for besides its own

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
            heard = junk = 0
            while line := await self._reader.readline():
                junk = 0 if await self._take(line) else junk + 1
                if junk == MAX_JUNK:
                    return f"it said {MAX_JUNK:,} lines on standard output that are no messages"
                heard += len(line) + _LINE_COSTS
                if heard > _AT_ONCE:  # what has come already is read without a pause, however much it is
                    heard = 0
                    await asyncio.sleep(0)
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

    async def _take(self, line: bytes) -> bool:
        """Take a line, and tell whether it is a message."""
        if len(line) > MAX_RESULT:
            self._refuse(line, too_long(len(line)))
            return True
        try:
            message = _read(line)
        except RecursionError:
            self._refuse(line, too_deep())
            return True
        except ValueError:
            log.debug("a server said what is no JSON: %r", line[:200])
            return False
        if not isinstance(message, dict) or "jsonrpc" not in message:
            return False
        await self._heed(message)
        return True

    async def _heed(self, message: Json) -> None:
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

    def _refuse(self, line: bytes, why: ServerFailedError) -> None:
        """Tell who waits why the answer is not read."""
        found = _ID_FIRST.match(line) or _ID_LAST.search(line[-_ID_WITHIN:])
        answer = self._waiting.get(int(found[1])) if found else None
        if answer is not None and not answer.done():
            answer.set_exception(why)

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


def too_deep() -> ServerFailedError:
    """Return the failure of an answer that nests more than can be passed on."""
    return ServerFailedError("its answer can't be read: it is nested too deeply")


def _read(line: bytes) -> Any:
    """Return what a line holds; of half a character, which JSON has and UTF-8 has not, a question mark is left."""
    message = json.loads(line.decode("utf-8", "replace"))
    if b"\\ud" in line.lower():
        return json.loads(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
    return message


def _words(error: object) -> str:
    words = error.get("message") if isinstance(error, dict) else None
    # In one line; it is cut where no secret can be cut in two.
    return " ".join(str(words or "the server answered with an error").split())
