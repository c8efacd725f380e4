"""The real site on a real port, as `server.py` serves it."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import Any, Final

from fastmcp import FastMCP

from claude_runner.app import App
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from claude_runner.web import Site, build_site, serve_site
from tests.support import PATIENCE

_CHANCE: Final = random.SystemRandom()  # which Hypothesis seeds for nobody


def free_port() -> int:
    """Return a port that nobody holds, and that the system gives to no one who connects before it is taken."""
    while True:
        port = _CHANCE.randrange(20_000, 32_000)
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


def on_free_port(settings: Settings, **changes: Any) -> Settings:
    """Return the settings with a port that nobody holds, so that the site knows its own address."""
    return replace(settings, port=free_port(), **changes)


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """Answer who connects to a port, and yield that; by the end all are hung up on, also who has never asked anything.

    A browser opens connections ahead, and a server's end leaves them open.
    """
    writers: list[asyncio.StreamWriter] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in writers:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()


@asynccontextmanager
async def serving(
    app: App, mcp: FastMCP[Any] | None = None, *, site: Site | None = None
) -> AsyncIterator[str]:
    """Serve the application's site and yield its origin; `app.settings.port` is where."""
    site = site or build_site(app, mcp or await build_mcp(app))
    stop = asyncio.Event()
    served = asyncio.create_task(serve_site(site, app.settings, stop, patient=False))
    try:
        async with asyncio.timeout(PATIENCE):
            await _answers(app.settings.port, served)
        yield f"http://localhost:{app.settings.port}"
    finally:
        stop.set()
        await served


async def _answers(port: int, served: "asyncio.Task[None]") -> None:
    while not served.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)  # another thread or process can't tell us; the port can
        else:
            writer.close()
            return
