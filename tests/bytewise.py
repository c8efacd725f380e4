"""Requests byte for byte, as no honest client sends them, and a site that tells what it was asked."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.web._bodies import GoneError, read_body
from tests.parts import logged
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock

HOST: Final = b"Host: localhost\r\n"
STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")

# One of each kind of route: before and behind the gate, pages, forms, and nothing at all.
ROUTES: Final = (
    "/mcp",
    "/messages/?session_id=0",
    "/sse",
    "/health",
    "/nothing",
    "/webhook/nobody-knows-it",
    "/oauth/authorize",
    "/oauth/consent",
    "/oauth/token",
    "/oauth/register",
    "/oauth/revoke",
    "/token",
    "/.well-known/oauth-authorization-server",
)


@dataclass
class Reached:
    """A site that is served, and the token of one who is let in."""

    app: App
    token: str = ""

    @property
    def port(self) -> int:
        return self.app.settings.port

    async def connect(self, start: bytes = b"", source: str | None = None) -> "Wire":
        where = None if source is None else (source, 0)
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=where))
        wire.send(start)
        return wire

    async def said(self, request: bytes, source: str | None = None) -> bytes:
        """All that is answered until the server closes, or is silent after an answer."""
        with closing(await self.connect(request, source)) as wire:
            return await (wire.ends() if b"\r\nConnection: close\r\n" in request else wire.whole())

    async def is_well(self) -> bool:
        request = b"GET /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        return statuses(await self.said(request)) == [200]


@dataclass
class Wire:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, more: bytes) -> None:
        self.writer.write(more)

    async def head(self) -> bytes:
        """The head of the next answer."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def whole(self, silence: float = 0.05) -> bytes:
        """All that comes until the server closes, or nothing more comes after the first of it."""
        said = b""
        try:
            async with asyncio.timeout(PATIENCE):
                said = await self.reader.read(2**16)
            while not self.reader.at_eof():
                async with asyncio.timeout(silence):
                    said += await self.reader.read(2**16)
        except (TimeoutError, ConnectionError):
            return said
        return said

    async def ends(self) -> bytes:
        """What comes until the server closes, which it has to."""
        said = b""
        async with asyncio.timeout(PATIENCE):
            try:
                while more := await self.reader.read(2**16):
                    said += more
            except ConnectionError:
                return said
        return said

    async def ends_while(self, drip: bytes) -> bytes:
        """The same, while the client goes on sending a little all the time."""
        ending = asyncio.create_task(self.ends())
        while not ending.done():
            self.send(drip)
            await asyncio.wait({ending}, timeout=0.02)
        return await ending

    def close(self) -> None:
        self.writer.transport.abort()


class Mirror:
    """A site that answers with what it was asked, or waits first until its client has gone or it may go on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gone: list[str] = []
        self.waiting = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def finish(self) -> None:
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        if scope["path"] == "/wait":
            self.waiting.release()
            await self.go_on.wait()
        elif scope["path"] == "/stay":
            self.waiting.release()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.append(scope["path"])
            return
        elif scope["path"] == "/much":
            await send({"type": "http.response.start", "status": 200})
            for more in range(63, -1, -1):
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": more > 0})
            self.waiting.release()
            return
        try:
            body = (await read_body(scope, receive)).decode("latin-1")
        except GoneError:
            return
        names = [name.decode("latin-1") for name, _ in scope["headers"]]
        await JSONResponse({"path": scope["path"], "headers": names, "body": body})(scope, receive, send)


@asynccontextmanager
async def reached_site(home: Path) -> AsyncIterator[Reached]:
    """Our site, and the token of one who is let in."""
    settings = on_free_port(Settings(home=home))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, serving(app):
        now = app.clock.now()
        await app.auth.ensure_client(now)
        yield Reached(app, await app.auth.personal_token(now, "http://localhost"))


@asynccontextmanager
async def reached_mirror(home: Path) -> AsyncIterator[tuple[Reached, Mirror]]:
    """A site that tells what it was asked, behind the same server as ours."""
    mirror = Mirror()
    site: Any = mirror
    settings = on_free_port(Settings(home=home))
    async with open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app, serving(app, site=site):
        yield Reached(app), mirror


@contextmanager
def without_traceback() -> Iterator[None]:
    """Nothing that a client sends is worth more than a line of the log."""
    with logged("claude_runner") as ours, logged("uvicorn") as theirs, logged("asyncio") as loop:
        yield
    for log in (ours, theirs, loop):
        assert not log.having("Traceback")
        assert not log.having("ASGI callable")


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(said)]


def asks(path: str, *head: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    lines = (f"{method} {path} HTTP/{version}", "Host: localhost", *head)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1") + body
