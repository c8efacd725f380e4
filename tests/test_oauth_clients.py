"""The library's own OAuth client, and a real browser, against the real server."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.auth import OAuth
from fastmcp.client.transports import SSETransport, StreamableHttpTransport
from key_value.aio.stores.memory import MemoryStore
from mcp.shared.auth import AuthorizationCodeResult
from playwright.async_api import Browser, async_playwright

from tests.conftest import need
from tests.oauth import OWNER, PAGE, challenge, hidden
from tests.served import Served, served
from tests.sites import answering
from tests.support import PATIENCE

CLAUDE_CODE = "https://claude.ai/oauth/claude-code-client-metadata"
GIVEN = {"OAUTH_CLIENT_ID": "connector", "OAUTH_CLIENT_SECRET": "s3cret"}

pytestmark = pytest.mark.filterwarnings("ignore:Using in-memory token storage")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    login = {"DASHBOARD_USERNAME": OWNER.name, "DASHBOARD_PASSWORD": OWNER.secret}
    with served(tmp_path_factory.mktemp("served"), **login, **GIVEN) as site:
        yield site


class Headless(OAuth):
    """The library's client, with an owner at a browser without a window."""

    said: dict[str, str]

    async def redirect_handler(self, authorization_url: str) -> None:  # type: ignore[explicit-override]  # of 3.12
        login = (OWNER.name, OWNER.secret)
        async with httpx2.AsyncClient(auth=login, follow_redirects=True) as browser:
            page = await browser.get(authorization_url, headers={"accept": "text/html"})
            back = await browser.post(
                str(page.url.copy_with(query=None)),
                data=hidden(page) | {"answer": "allow"},
                headers=PAGE,
                follow_redirects=False,
            )
        self.said = {
            name: value for name, [value] in parse_qs(urlsplit(back.headers["location"]).query).items()
        }

    async def callback_handler(self) -> AuthorizationCodeResult:  # type: ignore[explicit-override]  # of 3.12
        return AuthorizationCodeResult(code=self.said["code"], state=self.said["state"], iss=self.said["iss"])


WAYS = {
    "registered": {},
    "by its document": {"client_metadata_url": CLAUDE_CODE},
    "typed in": {"client_id": GIVEN["OAUTH_CLIENT_ID"], "client_secret": GIVEN["OAUTH_CLIENT_SECRET"]},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("transport", [StreamableHttpTransport, SSETransport])
async def test_the_librarys_client_is_let_in(site: Served, transport: Any, way: str) -> None:
    path = "/mcp" if transport is StreamableHttpTransport else "/sse"
    auth = Headless(site.origin + path, callback_host="localhost", **WAYS[way])  # type: ignore[arg-type]
    async with asyncio.timeout(PATIENCE), Client(transport(site.origin + path, auth=auth)) as client:
        assert (await client.call_tool("list_jobs")).structured_content == {"jobs": [], "total": 0}


async def test_the_librarys_client_comes_back_without_asking_the_owner(site: Served) -> None:
    auth = Headless(f"{site.origin}/mcp", token_storage=(store := MemoryStore()))
    async with Client(StreamableHttpTransport(f"{site.origin}/mcp", auth=auth)) as client:
        await client.list_tools()
    again = Headless(f"{site.origin}/mcp", token_storage=store)
    async with Client(StreamableHttpTransport(f"{site.origin}/mcp", auth=again)) as client:
        await client.list_tools()
    assert not hasattr(again, "said")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if (chromium := shutil.which("chromium")) is None:
        need("there is no chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        await browser.close()


@asynccontextmanager
async def listening_client() -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """A program on this machine that waits for its code; gives its redirect URI and what comes there."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        if "/callback" in line:
            heard.put_nowait(line.split()[1])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone")
        await writer.drain()
        writer.close()

    async with answering(serve) as port:
        yield f"http://localhost:{port}/callback", heard


@pytest.mark.parametrize(("button", "name"), [("Allow", "code"), ("Don\u2019t allow", "error")])
async def test_the_owner_answers_in_a_real_browser(
    site: Served, browser: Browser, button: str, name: str
) -> None:
    """Its policy lets the form lead to the client, and its headers are those that the login asks for."""
    context = await browser.new_context(
        http_credentials={"username": OWNER.name, "password": OWNER.secret}, color_scheme="dark"
    )
    page = await context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    async with asyncio.timeout(PATIENCE), listening_client() as (uri, heard):
        await page.goto(authorization_url(site, uri))
        heading = page.get_by_role("heading", level=1)
        assert await heading.inner_text() == "Allow Claude Code to use this server?"
        assert await page.locator("main").evaluate("main => getComputedStyle(main).borderRadius") == "16px"
        await page.get_by_role("button", name=button, exact=True).click()
        answered = parse_qs(urlsplit(await heard.get()).query)
    assert name in answered
    assert answered["state"] == ["s"]
    assert answered["iss"] == [site.origin]
    assert [line for line in wrong if "favicon" not in line and "401" not in line] == []
    await context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
async def test_the_page_fits_narrow_and_wide_windows(
    site: Served, browser: Browser, tmp_path: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    context = await browser.new_context(
        http_credentials={"username": OWNER.name, "password": OWNER.secret},
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
    )
    page = await context.new_page()
    await page.goto(authorization_url(site, "http://localhost:1/callback"))
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    for button in await page.get_by_role("button").all():
        box = await button.bounding_box()
        assert box is not None
        assert box["height"] >= 44  # as large as a finger: WCAG 2.2, 2.5.5
    await page.screenshot(path=tmp_path / f"consent-{scheme}.png", full_page=True)
    await context.close()


def authorization_url(site: Served, redirect_uri: str) -> str:
    asked = {
        "response_type": "code",
        "client_id": CLAUDE_CODE,
        "redirect_uri": redirect_uri,
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
        "state": "s",
    }
    return f"{site.origin}/oauth/authorize?{urlencode(asked)}"
