"""What a call of a tool is spared, which the library would have it wait for."""

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import mcp_types
import pytest
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext

from claude_runner.app import App
from claude_runner.tools import build_mcp
from claude_runner.web import build_site
from tests.served import SERVER, variables
from tests.wire import modern


class _Listings(Middleware):
    """Counts how often the tools are listed."""

    count = 0

    async def on_list_tools(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Any],
    ) -> Any:
        self.count += 1
        return await call_next(context)


async def test_a_call_over_the_network_does_not_list_all_tools(app: App) -> None:
    mcp = await build_mcp(app)
    listings = _Listings()
    mcp.add_middleware(listings)
    await app.auth.ensure_client(app.clock.now())
    token = await app.auth.personal_token(app.clock.now(), "http://localhost:8080")
    site = build_site(app, mcp)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(site.open())
        web = await opened.enter_async_context(
            httpx2.AsyncClient(transport=httpx2.ASGITransport(site), base_url="http://localhost:8080")
        )
        counts = []
        for method, params in (
            ("tools/call", {"name": "list_runs", "arguments": {"limit": 5}}),
            ("tools/list", {}),
        ):
            headers, body = modern(method, params)
            answer = await web.post(
                "/mcp", content=body, headers={**headers, "Authorization": f"Bearer {token}"}
            )
            assert "result" in answer.text, answer.text
            counts.append(listings.count)
    assert counts == [0, 1]


@pytest.mark.timeout(90)
def test_what_the_first_call_imports_is_there_before_it_comes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=variables(tmp_path, MCP_TRANSPORT="stdio"),
    ) as process:
        try:
            assert process.stderr is not None
            assert any(b"key_value.aio.adapters.pydantic" in line for line in process.stderr)
        finally:
            process.kill()
