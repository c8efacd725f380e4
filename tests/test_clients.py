"""Clients that others wrote do what the README tells, against the real server, by each of its transports."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport

from tests.node_tools import npm_tool
from tests.scripted_model import GREETING, scripted_model
from tests.served import SERVER, Served, served, variables
from tests.support import PATIENCE, content

Call = Callable[..., Awaitable[dict[str, Any]]]

JOB = {"name": "brief", "cron": "0 9 * * 1-5", "prompt": "say hello", "timezone": "Europe/Berlin"}
ENDED = {"finished", "error", "cancelled"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with scripted_model() as model:
        claude = {"ANTHROPIC_BASE_URL": model.base_url, "ANTHROPIC_API_KEY": model.api_key}
        with served(tmp_path_factory.mktemp("served"), **claude) as site:
            yield site


async def walk(call: Call) -> None:
    """Make a job, look at it, run it, look at the run, and delete it."""
    made = await call("create_job", **JOB)
    assert made["next_runs"][0].endswith(("+01:00", "+02:00"))
    assert made["id"] in [job["id"] for job in (await call("list_jobs"))["jobs"]]
    begun = await call("trigger_job", job_id=made["id"])
    async with asyncio.timeout(PATIENCE):
        while (run := await call("get_run", run_id=begun["run_id"]))["state"] not in ENDED:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # nobody tells a client of a change
    assert (run["state"], run["output"]) == ("finished", GREETING["text"])
    assert await call("delete_job", job_id=made["id"]) == {"deleted": True, "id": made["id"]}


def _stdio(site: Served) -> ClientTransport:
    environment = variables(site.home, MCP_TRANSPORT="stdio")
    return StdioTransport(sys.executable, [str(SERVER)], env=environment, keep_alive=False)


def _sse(site: Served) -> ClientTransport:
    return SSETransport(f"{site.origin}/sse", headers=site.headers)


def _http(site: Served) -> ClientTransport:
    return StreamableHttpTransport(f"{site.origin}/mcp", headers=site.headers)


@pytest.mark.parametrize(
    ("transport", "mode"),
    [(_stdio, "auto"), (_sse, "legacy"), (_http, "legacy"), (_http, "auto")],
)
async def test_fastmcps_client_does_what_the_readme_tells(
    site: Served, transport: Callable[[Served], ClientTransport], mode: Any
) -> None:
    async with Client(transport(site), mode=mode) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            return dict(content(await client.call_tool(tool, arguments)))

        await walk(call)


async def _inspect(site: Served, home: Path, transport: str, *arguments: str) -> dict[str, Any]:
    """Return what the inspector prints, which is JSON."""
    target = {
        "stdio": [sys.executable, str(SERVER), "-e", f"RUNNER_HOME={site.home}", "-e", "MCP_TRANSPORT=stdio"],
        "sse": [f"{site.origin}/sse"],
        "http": [f"{site.origin}/mcp"],
    }[transport]
    network = [] if transport == "stdio" else ["--header", f"Authorization: Bearer {site.token}"]
    inspector = await asyncio.create_subprocess_exec(
        *npm_tool("inspector"), "--cli", *target, "--transport", transport, *network, *arguments,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        said, complained = await inspector.communicate()
    assert inspector.returncode == 0, complained.decode()
    answer: dict[str, Any] = json.loads(said)
    return answer


@pytest.mark.parametrize("transport", ["stdio", "sse", "http"])
async def test_the_inspector_does_what_the_readme_tells(site: Served, tmp_path: Path, transport: str) -> None:
    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        named = ("--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        answer = await _inspect(site, tmp_path, transport, "--method", "tools/call", *named)
        structured: dict[str, Any] = answer["structuredContent"]
        return structured

    await walk(call)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_inspector_finds_every_tool_portable(site: Served, tmp_path: Path, era: str) -> None:
    strictly = ("--method", "tools/list", "--strict", "--protocol-era", era)
    listed = await _inspect(site, tmp_path, "http", *strictly)
    assert "create_job" in {tool["name"] for tool in listed["tools"]}
