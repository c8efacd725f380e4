"""How long the real server takes to stop while it is busy, and what it leaves.

Absolute: from SIGTERM until the process has gone, with streams open of both kinds and calls going on, one by each way,
that would take a minute. It must end with 0 and leave one database file, which is whole. It is stopped once it has
loaded what it needs later: in the second in which it does, a stop takes up to that second longer.
"""

import asyncio
import sqlite3
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

from bench._figures import Effort, Figure, spread
from claude_runner.config import Settings
from tests.served import Served, served
from tests.tool_servers import comes, put
from tests.wire import Stream

MOST_SECONDS: Final = 2.0
STREAMS: Final = 100
SETTLED_SECONDS: Final = 4.0
CALL: Final = {"tool": "mcp__quick__hold", "payload": {}, "timeout_seconds": 60}


def measure(effort: Effort) -> list[Figure]:
    """Stop servers."""
    taken, faults = [], []
    for _ in range(effort.stops):
        with tempfile.TemporaryDirectory() as home:
            seconds, fault = asyncio.run(_stop(Path(home)))
        taken.append(seconds)
        faults += fault
    raw = (spread("from SIGTERM to the end", taken, "s", 2), *faults)
    name = f"SIGTERM with 3 calls and {STREAMS} streams open, the longest"
    met = max(taken) <= MOST_SECONDS and not faults
    return [Figure(name, f"<= {MOST_SECONDS:g} s", f"{max(taken):.2f} s", met, raw)]


async def _stop(home: Path) -> tuple[float, list[str]]:
    """Return how long it took, and what is wrong with its end."""
    put(Settings(home=home), "quick")
    async with AsyncExitStack() as opened:
        with served(home) as site:
            await asyncio.sleep(SETTLED_SECONDS)
            streams = [await Stream.open(site.port, site.token) for _ in range(STREAMS)]
            calls = [await _call(home, await opened.enter_async_context(client)) for client in _clients(site)]
            begun = time.perf_counter()
            code, said = await asyncio.to_thread(site.stop)
            seconds = time.perf_counter() - begun
        await asyncio.gather(*calls, return_exceptions=True)
        for stream in streams:
            stream.close()
    faults = [f"it ended with {code}"] * (code != 0)
    faults += [line for line in said.splitlines() if "Traceback" in line]
    return seconds, faults + _faults_of(home)


def _clients(site: Served) -> list[Client[Any]]:
    http = StreamableHttpTransport(f"{site.origin}/mcp", headers=site.headers)
    sse = SSETransport(f"{site.origin}/sse", headers=site.headers)
    return [Client(sse), Client(http, mode="legacy"), Client(http)]


async def _call(home: Path, client: Client[Any]) -> "asyncio.Task[Any]":
    """Make a call that goes on; return once the tool is at work."""
    call = asyncio.create_task(client.call_tool("invoke_internal_mcp_tool", CALL))
    held = home / "dynamic_servers" / "quick" / "data" / "held"
    await comes(held.exists)
    held.unlink()
    return call


def _faults_of(home: Path) -> list[str]:
    left = [f"{path.name} is left" for path in home.glob("jobs.db-*")]
    with closing(sqlite3.connect(home / "jobs.db")) as connection:
        [[verdict]] = connection.execute("PRAGMA integrity_check").fetchall()
    return left if verdict == "ok" else [*left, f"the database is spoiled: {verdict}"]
