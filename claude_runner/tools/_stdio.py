"""MCP over standard input and output, in a way that can be stopped.

The library reads standard input on a thread that nothing can interrupt while the client keeps its end open. Here the
pipe is read by the event loop. While it is served, descriptor 0 is empty and descriptor 1 is standard error, so that
nothing that prints can get between the protocol's lines.
"""

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import anyio
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from mcp.server.stdio import stdio_server

log = logging.getLogger(__name__)

LONGEST_LINE: Final = 64 * 2**20  # bytes of one message


class _Lines:
    """What the client says, line by line."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            line = await self._reader.readline()
        except ValueError as error:  # longer than the limit: what follows can't be told apart from its rest
            log.error("the client sent a line of more than %d bytes; the connection ends", LONGEST_LINE)  # noqa: TRY400
            raise StopAsyncIteration from error
        if not line:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")


class _Wire:
    """What the client hears; a client that does not read holds up its own answers alone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await self._writable()
            except BrokenPipeError:  # the client has gone; that its end is closed shows when we read
                return

    async def flush(self) -> None:
        """Do nothing: every write has gone out."""

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._descriptor)


async def serve_stdio(mcp: FastMCP[Any]) -> None:
    """Serve one client until it closes its end."""
    if not _can_be_waited_for(0):
        # The library's way reads on a thread that can't be stopped early; here it soon comes to the end.
        await mcp.run_stdio_async(show_banner=False)
        return
    token = set_transport("stdio")
    server = mcp._mcp_server  # noqa: SLF001 - the public runners have no way to pass streams
    try:
        async with (
            mcp._lifespan_manager(),  # noqa: SLF001 - as above
            _claimed() as (lines, wire),
            stdio_server(stdin=lines, stdout=wire) as (incoming, outgoing),  # type: ignore[arg-type]
        ):
            await server.run(incoming, outgoing, server.create_initialization_options())
    except* (anyio.BrokenResourceError, anyio.ClosedResourceError):
        log.info("the client went while it was being answered")
    finally:
        reset_transport(token)


@asynccontextmanager
async def _claimed() -> AsyncIterator[tuple[_Lines, _Wire]]:
    """Take over descriptors 0 and 1 and give them back."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    os.set_blocking(outgoing, False)
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(incoming), "rb", 0)
    )
    try:
        yield _Lines(reader), _Wire(outgoing)
    finally:
        transport.close()
        os.set_blocking(outgoing, True)
        os.dup2(incoming, 0)
        os.dup2(outgoing, 1)
        os.close(incoming)
        os.close(outgoing)


def _can_be_waited_for(descriptor: int) -> bool:
    """Tell whether the event loop can watch it: a pipe, a socket or a terminal, but no file and no /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
