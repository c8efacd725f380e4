"""How long `invoke_internal_mcp_tool` takes on a server that is up.

Relative to a FastMCP client that calls the tool of a process of the same server itself. Ours goes the whole way: a
client of our tools, the tool, the check of the arguments, the pool, the server's process, and the row in the log of
calls. The two take turns by the block: a process that was left alone for a moment has to wake up first.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from bench._figures import Effort, Figure, ratio, rotated, spread
from claude_runner import pool
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp, warm_up

MOST: Final = 1.3
BLOCK: Final = 25  # calls in a row
ARGUMENTS: Final = {"text": "hello"}
CODE: Final = """\
from fastmcp import FastMCP

mcp = FastMCP("echo")


@mcp.tool
def echo(text: str) -> str:
    \"\"\"Say it again.\"\"\"
    return text
"""

Call = Callable[[], Awaitable[Any]]


def measure(effort: Effort) -> list[Figure]:
    """Time calls."""
    ours, bare = asyncio.run(_rounds(effort.invocations))
    raw = (
        spread("invoke_internal_mcp_tool", ours, "ms", 2),
        spread("FastMCP client, direct", bare, "ms", 2),
    )
    return [ratio("warm invoke_internal_mcp_tool", MOST, ours, bare, raw)]


async def _rounds(count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of our blocks and of the direct ones."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        settings = Settings(home=home / "runner", environment={"PATH": os.environ["PATH"], "HOME": name})
        async with open_app(settings) as app, Client(await build_mcp(app)) as client:
            await warm_up()
            await app.workshop.create("echo", CODE, "")
            server = await app.servers.get("echo")
            host = Path(pool.__file__).with_name("_host.py")
            transport = StdioTransport(
                sys.executable,
                ["-I", "-B", str(host), str(server.code_path)],
                env={"PATH": os.environ["PATH"], "DATA_DIR": name, "FASTMCP_CHECK_FOR_UPDATES": "off"},
                log_file=home / "direct.log",
            )

            async def ours() -> None:
                call = {"tool": "mcp__echo__echo", "payload": ARGUMENTS}
                await client.call_tool("invoke_internal_mcp_tool", call)

            async with Client(transport) as direct:

                async def bare() -> None:
                    await direct.call_tool("echo", ARGUMENTS)

                return await _in_turns(ours, bare, count)


async def _in_turns(one: Call, other: Call, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of a call, the mean of each block."""
    taken: dict[Call, list[float]] = {one: [], other: []}
    for number in range(1 + count // BLOCK):
        for call in rotated(list(taken), number):
            begun = time.perf_counter()
            for _ in range(BLOCK):
                await call()
            taken[call].append((time.perf_counter() - begun) * 1000 / BLOCK)
    return taken[one][1:], taken[other][1:]
