"""Sessions of Streamable HTTP: whose they are, and how many there are."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.web import _transports
from tests.oauth import INITIALIZE, House, open_house
from tests.support import PATIENCE

LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


@pytest.fixture
async def token(house: House) -> str:
    return str((await house.tokens((await house.client())["client_id"]))["access_token"])


async def asked(house: House, token: str, body: Any, session: str | None = None) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}", "accept": "application/json, text/event-stream"}
    if session is not None:
        headers["mcp-session-id"] = session
    async with asyncio.timeout(PATIENCE):
        return await house.program.post("/mcp", json=body, headers=headers)


async def opened(house: House, token: str) -> str:
    """Begin a session and return its id."""
    begun = await asked(
        house, token, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    )
    assert begun.status_code == 200
    return str(begun.headers["mcp-session-id"])


def kept(house: House) -> set[str]:
    """The sessions that are in memory."""
    sessions = house.site._transports._sessions  # type: ignore[attr-defined]
    return set(sessions._server_instances)


async def test_a_session_is_no_one_elses_even_with_a_token_of_his_own(house: House, token: str) -> None:
    session = await opened(house, token)
    other = str((await house.tokens((await house.client())["client_id"]))["access_token"])
    assert (await asked(house, other, LIST, session)).status_code == 404
    assert (await asked(house, token, LIST, session)).status_code == 200


async def test_sessions_that_idle_give_way_to_new_ones(
    house: House, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transports, "MOST_SESSIONS", 3)
    first, second, third = [await opened(house, token) for _ in range(3)]
    assert (await asked(house, token, LIST, first)).status_code == 200  # so the second idles for longest
    fourth = await opened(house, token)
    assert kept(house) == {first, third, fourth}
    assert (
        await asked(house, token, LIST, second)
    ).status_code == 200  # without a session, as over a restart
    assert kept(house) == {first, third, fourth}


async def test_a_session_that_its_client_has_ended_stays_ended(house: House, token: str) -> None:
    session = await opened(house, token)
    headers = {"authorization": f"Bearer {token}", "mcp-session-id": session}
    assert (await house.program.delete("/mcp", headers=headers)).status_code == 200
    assert (await asked(house, token, LIST, session)).status_code == 404
