"""What clients and the database go through when the real server stops, and starts again."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

from claude_runner.config import Settings
from tests.served import Served, served
from tests.sites import free_port
from tests.support import content
from tests.tool_servers import comes, put
from tests.wire import Stream, modern

JOB = {"name": "brief", "cron": "0 9 * * 1-5", "prompt": "say hello", "timezone": "Europe/Berlin"}
HOLD = {"tool": "mcp__quick__hold", "payload": {}, "timeout_seconds": 60}


def http(site: Served, mode: Any = "auto") -> Client[Any]:
    return Client(StreamableHttpTransport(f"{site.origin}/mcp", headers=site.headers), mode=mode)


async def test_clients_of_both_eras_go_on_over_a_restart(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as opened:
        with served(tmp_path, port) as site:
            clients = [await opened.enter_async_context(http(site, era)) for era in ("legacy", "2026-07-28")]
            made = [content(await client.call_tool("create_job", JOB)) for client in clients]
            assert (await asyncio.to_thread(site.stop))[0] == 0
        await asyncio.to_thread(opened.enter_context, served(tmp_path, port))
        for client, job in zip(clients, made, strict=True):
            assert content(await client.call_tool("get_job", {"job_id": job["id"]})) == job
            assert "create_job" in {tool.name for tool in await client.list_tools()}


async def _holding(site: Served, opened: AsyncExitStack, *clients: Client[Any]) -> "list[asyncio.Task[Any]]":
    """Have each client make a call that is not answered; return once all have begun."""
    calls = []
    for client in clients:
        await opened.enter_async_context(client)
        calls.append(asyncio.create_task(client.call_tool("invoke_internal_mcp_tool", HOLD)))
        held = site.home / "dynamic_servers" / "quick" / "data" / "held"
        await comes(held.exists)
        held.unlink()
    return calls


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    """A home with a tool server whose call goes on for as long as it is let."""
    put(Settings(home=tmp_path), "quick")
    return tmp_path


async def test_a_stop_with_calls_and_streams_open_leaves_a_clean_end(home: Path) -> None:
    async with AsyncExitStack() as opened:
        with served(home) as site:
            web = await opened.enter_async_context(httpx2.AsyncClient(headers=site.headers))
            for _ in range(50):
                stream = await opened.enter_async_context(web.stream("GET", f"{site.origin}/sse"))
                assert stream.status_code == 200
            sse = Client(SSETransport(f"{site.origin}/sse", headers=site.headers))
            calls = await _holding(site, opened, sse, http(site, "legacy"), http(site))
            code, said = await asyncio.to_thread(site.stop)
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert (code, [line for line in said.splitlines() if "Traceback" in line or "ERROR" in line]) == (
            0,
            [],
        )
        assert all(isinstance(end, Exception) for end in ends)
    assert not list(home.glob("jobs.db-*"))
    with closing(sqlite3.connect(home / "jobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_clients_that_vanish_in_mid_call_leave_the_server_well(home: Path) -> None:
    hold = {"name": "invoke_internal_mcp_tool", "arguments": HOLD}
    held = home / "dynamic_servers" / "quick" / "data" / "held"
    with served(home) as site:
        stream = await Stream.open(site.port, site.token)
        await stream.say("tools/call", hold, number=2)
        await comes(held.exists)
        stream.close()
        held.unlink()
        headers, body = modern("tools/call", hold)
        async with httpx2.AsyncClient(headers=site.headers) as web:
            call = asyncio.create_task(web.post(f"{site.origin}/mcp", content=body, headers=headers))
            await comes(held.exists)
            call.cancel()
        async with http(site) as client:
            assert content(await client.call_tool("list_jobs"))["total"] == 0
        code, said = await asyncio.to_thread(site.stop)
    assert (code, "Traceback" in said) == (0, False)
