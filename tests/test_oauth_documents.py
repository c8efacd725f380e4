"""Clients known by a document at their own address, and what strangers could make the server fetch."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastmcp.server.auth import ssrf
from fastmcp.server.auth.cimd import CIMDDocument, CIMDFetcher, CIMDValidationError

from claude_runner.auth import OAuthError
from claude_runner.web.oauth._documents import Documents
from tests.oauth import CALLBACK, House, open_house
from tests.support import FakeClock
from tests.test_login import request


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


@pytest.mark.parametrize(
    "client_id",
    [
        "https://localhost/client",
        "https://127.0.0.1/client",
        "https://[::1]/client",
        "https://10.0.0.1/client",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/client",
        "https://app.localhost/client",
        "https://example.com:8443/client",
        "https://user@example.com/client",
        "https://example.com",
        "https://example.com/",
        "https://example.com/a/../b",
        "https://example.com/a#b",
        "https://" + "a" * 600 + ".example/x",
        "https://" + "a" * 64 + ".example/x",  # more than a label of DNS has
        "https://a..example/x",
    ],
)
async def test_ssrf_by_a_clients_document_is_refused(house: House, client_id: str) -> None:
    refused = await house.asked(client_id)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_client")


async def test_the_librarys_fetcher_does_not_connect_to_this_machine() -> None:
    connections = []

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            with pytest.raises(CIMDValidationError):
                await CIMDFetcher(timeout=1).fetch(f"https://{host}:{port}/client")
    assert connections == []


ADDRESS = "https://client.example.com/oauth/metadata.json"
DOCUMENT = {"client_id": ADDRESS, "client_name": "A client", "redirect_uris": [CALLBACK]}


def document_at(address: str = ADDRESS, **changes: Any) -> httpx2.Response:
    return httpx2.Response(200, json=DOCUMENT | {"client_id": address} | changes)


class Web:
    """The world outside, as the library's fetcher finds it.

    Attributes:
        answer: What is answered to everything.
        asked: What was asked for.
    """

    def __init__(self) -> None:
        self.answer = document_at()
        self.asked: list[httpx2.Request] = []

    def serve(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answer


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    web = Web()

    async def resolve(*_: object) -> list[str]:
        return ["93.184.216.34"]

    def client(**_: object) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(web.serve), follow_redirects=False)

    inside = SimpleNamespace(**{**vars(httpx2), "AsyncClient": client})
    monkeypatch.setattr(ssrf, "resolve_hostname", resolve)
    monkeypatch.setattr(ssrf, "httpx2", inside)
    return web


@pytest.fixture
def documents(clock: FakeClock) -> Documents:
    return Documents(clock)


async def test_a_stranger_is_known_by_his_document(documents: Documents, web: Web) -> None:
    client = await documents.find(ADDRESS, request())
    assert client is not None
    assert (client.client_id, client.name, client.redirect_uris) == (ADDRESS, "A client", (CALLBACK,))
    await documents.find(ADDRESS, request())
    assert len(web.asked) == 1  # it is kept for a while
    assert web.asked[0].url.host == "93.184.216.34"  # the address that was looked at is the one connected to


async def test_a_document_behind_a_redirect_is_not_fetched(documents: Documents, web: Web) -> None:
    web.answer = httpx2.Response(302, headers={"location": "http://169.254.169.254/latest"})
    with pytest.raises(OAuthError, match="can't be had"):
        await documents.find(ADDRESS, request())
    assert len(web.asked) == 1


async def test_a_document_that_could_not_be_had_is_not_asked_for_again_at_once(
    documents: Documents, web: Web, clock: FakeClock
) -> None:
    web.answer = httpx2.Response(404)
    for _ in range(3):
        with pytest.raises(OAuthError):
            await documents.find(ADDRESS, request())
    assert len(web.asked) == 1
    web.answer = document_at()
    clock.move(60)
    assert await documents.find(ADDRESS, request())


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "https://other.example.com/oauth/metadata.json"},
        {"redirect_uris": []},
        {"redirect_uris": ["http://localhost:*/callback", "https://*.example.com/x", "http://evil.example/"]},
        {"redirect_uris": None},
        {"redirect_uris": ["https://[1:2]/x", "https://[::::]/x", "https://[...]/x"]},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://client.example.com/jwks"},
        {"client_name": "x" * 6000},
        {"client_name": 7},
    ],
)
async def test_a_document_that_can_not_be_used_is_refused(
    documents: Documents, web: Web, changes: dict[str, Any]
) -> None:
    web.answer = document_at(**changes)
    with pytest.raises(OAuthError):
        await documents.find(ADDRESS, request())


@pytest.mark.parametrize("content", [b"[" * 5000, b'{"a":' * 1000, b"\xff", b"9" * 5000, b""])
async def test_a_document_that_can_not_be_read_is_refused(
    documents: Documents, web: Web, content: bytes
) -> None:
    web.answer = httpx2.Response(200, content=content, headers={"content-type": "application/json"})
    with pytest.raises(OAuthError, match="can't be had"):
        await documents.find(ADDRESS, request())


async def test_documents_are_not_fetched_without_end(documents: Documents, web: Web) -> None:
    for number in range(20):
        web.answer = document_at(address := f"https://client.example.com/{number}/metadata.json")
        assert await documents.find(address, request())
    with pytest.raises(OAuthError, match="too often"):
        await documents.find(ADDRESS, request())
    assert len(web.asked) == 20


async def test_a_document_that_takes_for_ever_is_given_up(clock: FakeClock) -> None:
    async def hang(_: str) -> CIMDDocument:
        raise TimeoutError

    with pytest.raises(OAuthError, match="can't be had"):
        await Documents(clock, hang).find(ADDRESS, request())


async def test_a_documents_client_is_let_in_and_kept_once_the_owner_consents(house: House, web: Web) -> None:
    assert await house.sql("SELECT * FROM oauth_clients") == []
    pair = await house.tokens(ADDRESS)
    assert await house.is_let_in(pair["access_token"])
    rows = await house.sql("SELECT client_name, source FROM oauth_clients")
    assert rows == [("A client", "document")]
    asked = len(web.asked)
    assert (await house.refresh(ADDRESS, pair["refresh_token"])).status_code == 200
    assert len(web.asked) == asked


async def test_a_document_of_a_strangers_does_not_pass_for_claude(house: House, web: Web) -> None:
    web.answer = document_at(client_name="Claude Code")
    assert "Its name says Claude" in (await house.page(ADDRESS)).text
    own, callback = "https://claude.ai/oauth/claude-code-client-metadata", "http://localhost:3118/callback"
    assert "Its name says Claude" not in (await house.page(own, redirect_uri=callback)).text
