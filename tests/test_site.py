"""The site as a whole: who is looked at how before anything else sees the request."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.web._serving import _bind
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    """A site on a real port, and a client of it; the tests change nothing in it."""
    home = tmp_path_factory.mktemp("site")
    settings = on_free_port(Settings(home=home, public_url="https://runner.example.org"))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        serving(app) as origin,
        httpx2.AsyncClient(base_url=origin) as client,
    ):
        yield app, client


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@localhost",
        "[::1",
        "",
        "192.0.2.7",
    ],
)
async def test_a_host_that_is_not_ours_is_misdirected(
    site: tuple[App, httpx2.AsyncClient], host: str
) -> None:
    answer = await site[1].get("/nothing", headers={"Host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1:9999",
        "[::1]:80",
        "runner.example.org",
        "RUNNER.example.org:443",
        "runner.localhost",
    ],
)
async def test_a_host_that_is_ours_is_served(site: tuple[App, httpx2.AsyncClient], host: str) -> None:
    answer = await site[1].get("/nothing", headers={"Host": host})
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "code": "not_found",
        "message": "there is nothing at /nothing",
        "field": None,
    }


async def test_health_answers_whatever_the_host(site: tuple[App, httpx2.AsyncClient]) -> None:
    answer = await site[1].get("/health", headers={"Host": "10.1.2.3"})
    assert answer.json() == {"status": "ok", "checks": {"database": "ok", "scheduler": "ok"}}


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "https://claude.ai.evil.example"],
)
async def test_pages_of_other_sites_may_not_speak_mcp(
    site: tuple[App, httpx2.AsyncClient], origin: str
) -> None:
    for path in ("/mcp", "/sse", "/messages/?session_id=1"):
        answer = await site[1].post(path, headers={"Origin": origin}, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin")


@pytest.mark.parametrize("origin", ["https://claude.ai", "https://claude.com", "http://localhost:6274"])
async def test_pages_that_are_trusted_need_a_token_as_everybody(
    site: tuple[App, httpx2.AsyncClient], origin: str
) -> None:
    answer = await site[1].post("/mcp", headers={"Origin": origin}, json={})
    assert answer.status_code == 401


async def test_this_machines_pages_may_not_speak_mcp_through_the_public_name(
    site: tuple[App, httpx2.AsyncClient],
) -> None:
    headers = {"Origin": "http://localhost:6274", "Host": "runner.example.org"}
    assert (await site[1].post("/mcp", headers=headers, json={})).status_code == 403


async def test_a_method_that_is_not_served_is_refused_with_those_that_are(
    site: tuple[App, httpx2.AsyncClient],
) -> None:
    answer = await site[1].post("/health")
    assert (answer.status_code, sorted(answer.headers["Allow"].split(", "))) == (405, ["GET", "HEAD"])
    assert answer.json()["error"]["code"] == "method"


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(
    site: tuple[App, httpx2.AsyncClient],
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site[0].settings.port)
    writer.write(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_without_a_length_is_refused_once_it_is_too_large(
    site: tuple[App, httpx2.AsyncClient],
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 2**20

    answer = await site[1].post("/nothing", content=pieces())
    assert answer.status_code == 413


async def test_the_head_of_a_request_is_bounded(site: tuple[App, httpx2.AsyncClient]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site[0].settings.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    for _ in range(9):
        writer.write(b"x" * 2**13)
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_head_that_does_not_come_is_not_waited_for(
    site: tuple[App, httpx2.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._protocol.HEAD_SECONDS", 0.05)
    for start in (b"", b"GET / HTTP/1.1\r\nHost: loc"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site[0].settings.port)
        writer.write(start)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_what_is_no_http_is_refused(site: tuple[App, httpx2.AsyncClient]) -> None:
    for junk in (
        b"\x16\x03\x01\x00\xa5",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", site[0].settings.port))) as wire:
            wire.sendall(junk)
            answer = await asyncio.to_thread(wire.recv, 100)
        assert answer.startswith(b"HTTP/1.1 4")


def test_an_answers_body_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    with closing(_bind("127.0.0.1", 0)) as bound, closing(socket.create_connection(bound.getsockname())):
        accepted, _ = bound.accept()
        with closing(accepted):
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_answers_tell_the_time_they_are_given_at(site: tuple[App, httpx2.AsyncClient]) -> None:
    told = {(await site[1].get("/health")).headers["Date"]}
    async with asyncio.timeout(PATIENCE):
        while len(told) == 1:
            await asyncio.sleep(0.05)
            told.add((await site[1].get("/health")).headers["Date"])
    earlier, later = sorted(map(parsedate_to_datetime, told))
    assert timedelta(0) < later - earlier <= timedelta(seconds=PATIENCE)
