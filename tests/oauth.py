"""A server that the owner logs in at, the programs that ask for access, and the browser in which he answers."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx2
from fastmcp import FastMCP
from starlette.types import ASGIApp

from claude_runner.app import App, open_app
from claude_runner.config import Login, Settings
from claude_runner.web import build_site
from tests.support import FakeAgent, FakeClock

ORIGIN: Final = "https://runner.example.org"
LOCAL: Final = "http://localhost:8080"
OWNER: Final = Login("ada", "correct horse")
CALLBACK: Final = "https://app.example.com/callback"
VERIFIER: Final = "v" * 43
PAGE: Final = {"accept": "text/html", "sec-fetch-site": "same-origin"}


def challenge(verifier: str = VERIFIER) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def answered(response: httpx2.Response) -> dict[str, str]:
    """What a redirect tells the client, each parameter once."""
    assert response.status_code in {302, 303}, response.text
    pairs = parse_qsl(urlsplit(response.headers["location"]).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@dataclass
class House:
    """A server with its owner's browser and, apart from it, a program that may be anybody's."""

    app: App
    clock: FakeClock
    site: ASGIApp
    origin: str
    stack: AsyncExitStack
    browser: httpx2.AsyncClient
    program: httpx2.AsyncClient

    async def visitor(
        self, origin: str | None = None, address: str = "203.0.113.7", **options: Any
    ) -> httpx2.AsyncClient:
        """Somebody who comes by an origin from an address."""
        transport = httpx2.ASGITransport(self.site, client=(address, 40000))
        visitor = httpx2.AsyncClient(transport=transport, base_url=origin or self.origin, **options)
        return await self.stack.enter_async_context(visitor)

    async def client(self, *redirect_uris: str, method: str = "none", **said: Any) -> dict[str, Any]:
        """A client that has registered."""
        body = {
            "client_name": "An app",
            "redirect_uris": list(redirect_uris or (CALLBACK,)),
            "token_endpoint_auth_method": method,
        }
        done = await self.program.post("/oauth/register", json=body | said)
        assert done.status_code == 201, done.text
        registered: dict[str, Any] = done.json()
        return registered

    async def asked(self, client_id: str, **changes: str | None) -> httpx2.Response:
        """What the authorization endpoint answers; `None` leaves a parameter out."""
        return await self.program.get("/oauth/authorize", params=wanted(client_id, **changes))

    async def page(self, client_id: str, **changes: str | None) -> httpx2.Response:
        """The page that the owner is shown."""
        asked = await self.asked(client_id, **changes)
        assert asked.status_code == 302, asked.text
        return await self.browser.get(asked.headers["location"], headers={"accept": "text/html"})

    async def answer(self, page: httpx2.Response, answer: str = "allow", **changes: str) -> httpx2.Response:
        form = hidden(page) | {"answer": answer} | changes
        return await self.browser.post("/oauth/consent", data=form, headers=PAGE)

    async def code(self, client_id: str, **changes: str | None) -> str:
        """A code for what the owner has consented to."""
        return answered(await self.answer(await self.page(client_id, **changes)))["code"]

    async def exchange(self, client_id: str, code: str, **changes: str | None) -> httpx2.Response:
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": CALLBACK,
        }
        return await self.program.post("/oauth/token", data=without_none(form | changes))

    async def refresh(self, client_id: str, token: str, **changes: str | None) -> httpx2.Response:
        form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": token}
        return await self.program.post("/oauth/token", data=without_none(form | changes))

    async def tokens(self, client_id: str, **changes: str | None) -> dict[str, Any]:
        """The first pair of tokens of a client that the owner lets in."""
        done = await self.exchange(
            client_id,
            await self.code(client_id, **changes),
            redirect_uri=changes.get("redirect_uri", CALLBACK),
        )
        assert done.status_code == 200, done.text
        pair: dict[str, Any] = done.json()
        return pair

    async def call(
        self, token: str, path: str = "/mcp", origin: str | None = None, scheme: str = "Bearer"
    ) -> httpx2.Response:
        """What MCP answers to the holder of a token: 200 if he is let in."""
        headers = {"authorization": f"{scheme} {token}", "accept": "application/json, text/event-stream"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        return await self.program.post(f"{origin or self.origin}{path}", json=body, headers=headers)

    async def is_let_in(self, token: str, path: str = "/mcp", origin: str | None = None) -> bool:
        answer = await self.call(token, path, origin)
        assert answer.status_code in {200, 401}, answer.text
        return answer.status_code == 200

    async def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return await self.app.database.write(
            lambda c: [tuple(row) for row in c.execute(statement, values).fetchall()]
        )


INITIALIZE: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def wanted(client_id: str, **changes: str | None) -> dict[str, str]:
    return without_none(
        {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": CALLBACK,
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            "state": "a state",
        }
        | changes
    )


def without_none(values: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def hidden(page: httpx2.Response) -> dict[str, str]:
    """The hidden fields of a page's form."""
    assert page.status_code == 200, page.text
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    return {name: unescape(value) for name, value in fields}


@asynccontextmanager
async def open_house(
    home: Path, clock: FakeClock | None = None, *, origin: str = ORIGIN, **settings: Any
) -> AsyncIterator[House]:
    """Serve a home, whose tools nobody calls, at a public origin, or at one of this machine alone."""
    clock = clock or FakeClock()
    given = {"public_url": ORIGIN, "dashboard": OWNER} | settings
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(
            open_app(Settings(home=home, **given), agent=FakeAgent(), clock=clock)
        )
        site = build_site(app, FastMCP("no tools"))
        await stack.enter_async_context(site.open())
        house = House(app, clock, site, origin, stack, *(2 * (httpx2.AsyncClient(),)))
        login = None if given["dashboard"] is None else tuple(given["dashboard"])
        house.browser = await house.visitor(address="127.0.0.1", auth=login)
        house.program = await house.visitor(address="127.0.0.1")
        yield house
