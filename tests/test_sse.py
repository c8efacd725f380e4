"""HTTP+SSE as clients meet it that know no other way, and as those do that mean no good."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from tests.oauth import open_house
from tests.sites import free_port, on_free_port, serving
from tests.support import PATIENCE, FakeAgent
from tests.wire import Stream

PING = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with open_app(on_free_port(Settings(home=tmp_path)), agent=FakeAgent()) as app:
        await app.auth.ensure_client(app.clock.now())
        async with serving(app):
            yield app


async def _token(app: App) -> str:
    return await app.auth.personal_token(app.clock.now(), app.addresses.local)


@asynccontextmanager
async def _opened(app: App, token: str | None = None) -> AsyncIterator[Stream]:
    with closing(await Stream.open(app.settings.port, token or await _token(app))) as stream:
        async with asyncio.timeout(PATIENCE):
            yield stream


async def _posted(app: App, stream: Stream, token: str, body: str) -> int:
    """Post something to a stream, and return the status of the answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=app.addresses.local, headers=headers) as web:
        return (await web.post(stream.endpoint, content=body)).status_code


async def _answer(stream: Stream) -> Any:
    return json.loads((await stream.event())[1])


async def test_what_is_posted_is_answered_on_the_stream(app: App) -> None:
    async with _opened(app) as one, _opened(app) as other:
        await one.say("ping", number=7)
        await other.say("ping", number=8)
        assert [(await _answer(stream))["id"] for stream in (one, other)] == [7, 8]


async def test_a_stream_on_which_nothing_is_said_is_kept_open(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._sse.PING_SECONDS", 0.05)
    async with _opened(app) as stream:
        while not (await stream.reader.readline()).startswith(b": ping"):
            pass


async def test_what_is_no_message_is_refused_and_the_stream_goes_on(app: App) -> None:
    async with _opened(app) as stream:
        for body in ("{", "[]", '{"jsonrpc": "2.0"}'):
            assert await _posted(app, stream, await _token(app), body) == 400
        await stream.say("ping", number=7)
        assert await _answer(stream) == {"jsonrpc": "2.0", "id": 7, "result": {}}


async def test_a_stream_takes_nothing_from_another_client(tmp_path: Path) -> None:
    port = free_port()
    async with (
        open_house(tmp_path, origin=f"http://localhost:{port}", port=port, public_url=None) as house,
        serving(house.app),
    ):
        clients = [(await house.client())["client_id"] for _ in range(2)]
        mine, anothers = [(await house.tokens(client))["access_token"] for client in clients]
        async with _opened(house.app, mine) as stream:
            assert await _posted(house.app, stream, anothers, PING) == 404
            assert await _posted(house.app, stream, mine, PING) == 202
            stream.endpoint = "/messages/?session_id=of+nobody"
            assert await _posted(house.app, stream, mine, PING) == 404
