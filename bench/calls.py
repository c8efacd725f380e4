"""How long a call of a tool takes over `/mcp`.

Relative to the least that FastMCP makes: a server with one tool, as FastMCP's own application under uvicorn. Ours is
the whole site with every tool, and each call brings a token that is looked at; the tool called is that same one, added
for the purpose. Each server is a process of its own with uvloop and httptools. This one calls them in turns, as the
newest revision of the protocol has it: in plain HTTP over a connection that is kept, then by FastMCP's client.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

import uvicorn
import uvloop
from fastmcp import Client, FastMCP
from fastmcp.client.transports import StreamableHttpTransport

from bench._figures import Effort, Figure, median, percentile, ratio, rotated, spread
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp, warm_up
from claude_runner.web import build_site, serve_site
from tests.sites import free_port
from tests.support import FakeAgent
from tests.wire import NEWEST, modern

MOST: Final = 1.25
WARM_UPS: Final = 300
CALLS: Final = 100  # of each server before it is the other's turn
ARGUMENTS: Final = {"text": "the same"}

Call = Callable[[], Awaitable[object]]
Turns = list[list[float]]


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that listens, and what lets a client in."""

    port: int
    headers: dict[str, str]


def measure(effort: Effort) -> list[Figure]:
    """Time calls."""
    with (
        tempfile.TemporaryDirectory() as home,
        _started("ours", home) as ours,
        _started("bare", home) as bare,
    ):
        return asyncio.run(_measured(effort.calls, ours, bare))


async def _measured(turns: int, *servers: _Server) -> list[Figure]:
    async with AsyncExitStack() as opened:
        plain = [_plainly(server) for server in servers]
        transports = [
            StreamableHttpTransport(f"http://127.0.0.1:{server.port}/mcp", headers=server.headers)
            for server in servers
        ]
        clients = [
            await opened.enter_async_context(Client(transport, mode=NEWEST)) for transport in transports
        ]
        by_client = [_by(client) for client in clients]
        return [
            _figure("plain HTTP", *await _in_turns(turns, plain)),
            _figure("FastMCP's client", *await _in_turns(turns, by_client)),
        ]


def _plainly(server: _Server) -> Call:
    """Return a call that is one request, as fast as it can be said and heard."""
    headers, body = modern("tools/call", {"name": "echo", "arguments": ARGUMENTS})
    headers |= server.headers
    connection = HTTPConnection("127.0.0.1", server.port)

    async def call() -> None:
        connection.request("POST", "/mcp", body, headers)
        answer = connection.getresponse().read()
        if b"the same" not in answer:
            raise RuntimeError(f"it was not answered: {answer.decode()}")

    return call


def _by(client: "Client[StreamableHttpTransport]") -> Call:
    return lambda: client.call_tool("echo", ARGUMENTS)


async def _in_turns(turns: int, calls: list[Call]) -> list[Turns]:
    """Return the milliseconds of each call of each turn."""
    for call in calls:
        await _timed(call, WARM_UPS)
    taken: dict[Call, Turns] = {call: [] for call in calls}
    for number in range(turns):
        for call in rotated(calls, number):
            taken[call].append(await _timed(call, CALLS))
    return list(taken.values())


async def _timed(call: Call, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def _figure(how: str, ours: Turns, bare: Turns) -> Figure:
    raw = [
        spread(name, [median(turn) for turn in turns], "ms", 2)
        + f", p99 {percentile([call for turn in turns for call in turn], 0.99):.2f} ms"
        for name, turns in (("p50 of turns, ours", ours), ("p50 of turns, bare FastMCP", bare))
    ]
    name = f"call over /mcp with a token, all tools, p50 ({how})"
    return ratio(name, MOST, [median(turn) for turn in ours], [median(turn) for turn in bare], raw)


@contextmanager
def _started(which: str, home: str) -> Iterator[_Server]:
    """Run one of the two; it ends with its standard input."""
    command = [sys.executable, "-m", "bench.calls", which, str(free_port()), home]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _Server(**json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()


async def _serve_ours(port: int, home: Path) -> None:
    settings = Settings(home=home, port=port)
    async with open_app(settings, agent=FakeAgent()) as app:
        mcp = await build_mcp(app)
        mcp.tool(echo)
        await app.auth.ensure_client(app.clock.now())
        token = await app.auth.personal_token(app.clock.now(), f"http://127.0.0.1:{port}")
        await warm_up()
        gc.freeze()
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        serving = asyncio.create_task(serve_site(build_site(app, mcp), settings, stop, patient=False))
        await _tell(port, {"Authorization": f"Bearer {token}"})
        await serving


async def _serve_bare(port: int) -> None:
    mcp = FastMCP("bare")
    mcp.tool(echo)
    config = uvicorn.Config(mcp.http_app(), port=port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), setattr, server, "should_exit", True)  # noqa: FBT003
    serving = asyncio.create_task(server.serve())
    await _tell(port, {})
    await serving


async def _tell(port: int, headers: dict[str, str]) -> None:
    """Say that the server listens, once it does."""
    listens = False
    while not listens:
        await asyncio.sleep(0.02)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            continue
        writer.close()
        listens = True
    print(json.dumps({"port": port, "headers": headers}), flush=True)


def echo(text: str) -> str:
    """Say the same."""
    return text


def main() -> None:
    """Serve one of the two until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.calls")
    parser.add_argument("which", choices=["ours", "bare"])
    parser.add_argument("port", type=int)
    parser.add_argument("home", type=Path)
    given = parser.parse_args()
    work = _serve_ours(given.port, given.home) if given.which == "ours" else _serve_bare(given.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
