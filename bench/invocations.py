"""How long `invoke_internal_mcp_tool` takes on a server that is up.

Relative to a FastMCP client that calls the tool of a process of the same server itself. Two of ours: the tool as the
server carries it out (the check of the arguments, the pool, the server's process, the row in the log of calls), and the
same through a client of our tools, where MCP is spoken twice. They take turns by the block: a process that was left
alone for a moment has to wake up first.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from bench._figures import Effort, Figure, ratio, rotated, spread
from claude_runner import pool
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp, warm_up
from claude_runner.tools.invocation import InvocationTools

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
    tool, through, bare = asyncio.run(_rounds(effort.invocations))
    direct = spread("FastMCP client, direct", bare, "ms", 2)
    return [
        ratio(name, MOST, ours, bare, (spread("ours", ours, "ms", 2), direct))
        for name, ours in (
            ("warm invoke_internal_mcp_tool", tool),
            ("warm invoke_internal_mcp_tool, through a client", through),
        )
    ]


async def _rounds(count: int) -> list[list[float]]:
    """Return the milliseconds of the blocks of the tool, of the tool through a client, and of the direct calls."""
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

            group = InvocationTools(app)

            async def tool() -> None:
                await group.invoke_internal_mcp_tool("mcp__echo__echo", dict(ARGUMENTS))

            async def through() -> None:
                call = {"tool": "mcp__echo__echo", "payload": ARGUMENTS}
                await client.call_tool("invoke_internal_mcp_tool", call)

            async with Client(transport) as direct:

                async def bare() -> None:
                    await direct.call_tool("echo", ARGUMENTS)

                return await _in_turns((tool, through, bare), count)


async def _in_turns(calls: Sequence[Call], count: int) -> list[list[float]]:
    """Return the milliseconds of a call, the mean of each block; the first of each is left out."""
    taken: dict[Call, list[float]] = {call: [] for call in calls}
    for number in range(1 + count // BLOCK):
        for call in rotated(list(taken), number):
            begun = time.perf_counter()
            for _ in range(BLOCK):
                await call()
            taken[call].append((time.perf_counter() - begun) * 1000 / BLOCK)
    return [values[1:] for values in taken.values()]
