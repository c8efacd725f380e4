"""The Model Context Protocol's own suite judges the real site: both revisions of the protocol, and who is let in."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from claude_runner.app import open_app
from claude_runner.config import Login, Settings
from claude_runner.tools import build_mcp
from claude_runner.web import Site
from tests.conformance_fixture import add_fixtures
from tests.node_tools import npm_tool
from tests.sites import free_port, on_free_port, serving
from tests.support import PATIENCE, FakeAgent

OWNER = Login("alice", "the owner's password")
CLAUDE_CODE = "https://claude.ai/oauth/claude-code-client-metadata"
VISIT = re.compile(rb"http://\S+/oauth/authorize\?\S+")

# The suite tries what the newest revision has given up, and the SDK says so.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")


class _Introducing(Site):
    """The real site, whose visitors come with a token: the suite has no way to bring one."""

    token = ""

    async def __call__(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["path"] == "/mcp":
            authorization = (b"authorization", f"Bearer {self.token}".encode())
            scope = {**scope, "headers": [*scope["headers"], authorization]}
        await super().__call__(scope, receive, send)


@dataclass(frozen=True)
class Judged:
    """What is judged, and the folder where the suite may write."""

    origin: str
    folder: Path

    async def judge(
        self, *arguments: str, meanwhile: Callable[[bytes], Awaitable[None]] | None = None
    ) -> str:
        """Have the suite judge, and return what it says.

        Args:
            arguments: The suite's.
            meanwhile: What is done with each line that it says.
        """
        suite = await asyncio.create_subprocess_exec(
            *npm_tool("conformance"), *arguments, "--output-dir", str(self.folder),
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert suite.stdout is not None
        said = []
        async with asyncio.timeout(PATIENCE):
            async for line in suite.stdout:
                said.append(line.decode())
                if meanwhile is not None:
                    await meanwhile(line)
            assert await suite.wait() == 0, "".join(said)
        return "".join(said)


@pytest.fixture(scope="module")
async def judged(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Judged]:
    home = tmp_path_factory.mktemp("judged")
    settings = on_free_port(Settings(home=home, dashboard=OWNER))
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_app(settings, agent=FakeAgent()))
        mcp = await build_mcp(app)
        add_fixtures(mcp)
        site = _Introducing(app, mcp)
        await app.auth.ensure_client(app.clock.now())
        site.token = await app.auth.personal_token(app.clock.now(), app.addresses.local)
        yield Judged(await stack.enter_async_context(serving(app, site=site)), home)


@pytest.mark.parametrize(
    ("revision", "beyond"), [("2025-11-25", "server-session-lifecycle"), ("2026-07-28", "caching")]
)
async def test_the_suite_finds_the_server_conforming(judged: Judged, revision: str, beyond: str) -> None:
    said = await judged.judge("server", "--url", f"{judged.origin}/mcp", "--requirements", revision)
    assert f"✓ {beyond}" in said  # what it does not ask of every server


async def test_the_suite_finds_the_authorization_server_conforming(judged: Judged) -> None:
    async with httpx2.AsyncClient(
        auth=(OWNER.name, OWNER.secret), follow_redirects=True, timeout=PATIENCE
    ) as browser:

        async def visit(line: bytes) -> None:
            if (asked := VISIT.search(line)) is not None:
                await _consent(browser, asked[0].decode())

        who = ("--client-id", CLAUDE_CODE, "--resource", f"{judged.origin}/mcp", "--port", str(free_port()))
        said = await judged.judge("authorization", "--url", judged.origin, *who, meanwhile=visit)
    assert re.search(r"[1-9]\d* passed, 0 failed", said), said
    assert "SKIPPED" not in said


async def _consent(browser: httpx2.AsyncClient, url: str) -> None:
    """Do what the owner does in the browser: read the page, and allow."""
    page = await browser.get(url)
    form = dict(re.findall(r'name="(\w+)" value="([^"]+)">', page.text)) | {"answer": "allow"}
    done = await browser.post(page.url.join("/oauth/consent"), data=form)
    assert done.text == "OK. You can close this page."
