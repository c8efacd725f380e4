"""Sees to it that the MCP servers a run needs are there before the model is asked anything."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeSDKClient

WAIT_SECONDS: Final = 15.0  # longer than Claude Code itself waits for one to answer
LOOK_EVERY_SECONDS: Final = 0.005  # a look takes a millisecond, and the model waits for it


async def missing_servers(client: "ClaudeSDKClient", needed: Sequence[str]) -> str | None:
    """Wait for the servers to be connected; returns in words which are not and why, `None` where all are."""
    if not needed:
        return None
    waiting = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        listed = (await client.get_mcp_status())["mcpServers"]
        states = {server["name"]: server for server in listed}
        unfinished = any(states[name]["status"] == "pending" for name in needed if name in states)
        if not unfinished or asyncio.get_running_loop().time() > waiting:
            break
        await asyncio.sleep(LOOK_EVERY_SECONDS)
    failed = [name for name in needed if name not in states or states[name]["status"] != "connected"]
    return "; ".join(f"'{name}' {_why(states.get(name))}" for name in failed) or None


def _why(server: object) -> str:
    if not isinstance(server, dict):
        return "is not known to Claude Code"
    if server["status"] == "pending":
        return f"did not answer within {WAIT_SECONDS:.0f} seconds"
    return f"is not connected ({server.get('error') or server['status']})"
