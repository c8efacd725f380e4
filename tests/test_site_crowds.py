"""Clients in numbers, and clients that vanish: the site serves the rest, and keeps nothing of those who have gone."""

import asyncio
import http.client
import json
import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.runs import RunFilter
from claude_runner.tools import build_mcp
from claude_runner.web._transports import MOST_STREAMS
from claude_runner.webhooks import WebhookDraft
from tests.bytewise import Reached, asks, statuses, without_traceback
from tests.served import Served, served
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock, running
from tests.wire import CLIENT, Stream, modern

CROWD = 10_000
MOST_MIB = (
    250  # that a crowd may cost; 100 KiB for each stream that is served, and something for those that are not
)


@dataclass
class Calls:
    """Calls of a tool that does not end by itself."""

    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    ended: list[str] = field(default_factory=list)

    async def linger(self) -> str:
        """Wait."""
        self.begun.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        return "never"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[Reached, Calls]]:
    """Our site with a tool that lingers, and runs that go on until they are stopped."""
    agent, calls = FakeAgent(FakeAgent.wait_for_stop), Calls()
    settings = on_free_port(Settings(home=tmp_path, shutdown_grace_seconds=0))
    with without_traceback():
        async with open_app(settings, agent=agent, clock=FakeClock()) as app:
            mcp = await build_mcp(app)
            mcp.tool(calls.linger)
            async with serving(app, mcp):
                now = app.clock.now()
                await app.auth.ensure_client(now)
                token = await app.auth.personal_token(now, f"http://localhost:{settings.port}")
                reached = Reached(app, token)
                assert await reached.is_well()
                yield reached, calls
                assert await reached.is_well()


async def _no_more_than(tasks: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - nobody tells that a task has ended
            await asyncio.sleep(0.01)


def _request(
    reached: Reached, path: str, body: bytes, headers: dict[str, str], method: str = "POST"
) -> bytes:
    named = {"Authorization": f"Bearer {reached.token}", "Content-Length": str(len(body)), **headers}
    head = asks(path, *(f"{name}: {value}" for name, value in named.items()), method=method, body=body)
    return head.replace(b"Host: localhost", f"Host: localhost:{reached.port}".encode())


@pytest.mark.parametrize("path", ["/mcp", "/messages/?session_id=x", "/oauth/token", "/webhook/OPEN"])
async def test_who_vanishes_with_half_a_body_leaves_nothing(site: tuple[Reached, Calls], path: str) -> None:
    reached, _ = site
    webhook = await reached.app.webhooks.add(WebhookDraft("x", "say"), reached.app.clock.now())
    before = len(asyncio.all_tasks())
    wires = []
    for _ in range(20):
        whole = _request(reached, path.replace("OPEN", str(webhook.token)), b"{" * 1_000, {})
        wires.append(await reached.connect(whole[:-500]))
    while len(asyncio.all_tasks()) < before + 20:  # noqa: ASYNC110 - nobody tells that a request has begun
        await asyncio.sleep(0.01)
    for wire in wires:
        wire.close()
    await _no_more_than(before)
    assert (await reached.app.runs.list(RunFilter(), 10)).runs == []


async def test_who_vanishes_from_his_stream_in_mid_call_ends_both(site: tuple[Reached, Calls]) -> None:
    reached, calls = site
    before = len(asyncio.all_tasks())
    streams = [await Stream.open(reached.port, reached.token) for _ in range(5)]
    for stream in streams:
        await stream.say("tools/call", {"name": "linger", "arguments": {}}, number=2)
        await calls.begun.acquire()
    for stream in streams:
        stream.close()
    await _no_more_than(before)
    assert calls.ended == ["cancelled"] * 5


async def test_who_vanishes_from_a_call_that_stands_by_itself_ends_it(site: tuple[Reached, Calls]) -> None:
    """There is no session in which its answer could be asked for later."""
    reached, calls = site
    before = len(asyncio.all_tasks())
    headers, body = modern("tools/call", {"name": "linger", "arguments": {}})
    wire = await reached.connect(_request(reached, "/mcp", body, headers))
    await calls.begun.acquire()
    wire.close()
    await _no_more_than(before)
    assert calls.ended == ["cancelled"]


async def test_who_vanishes_from_a_session_leaves_it_until_it_is_ended(site: tuple[Reached, Calls]) -> None:
    """A client of that era may come back to its session, for half an hour (the library's)."""
    reached, calls = site
    before = len(asyncio.all_tasks())
    for _ in range(5):
        await _vanish_from_session(reached, calls)
    await _no_more_than(before + 1)  # one of the library's that looks whether the whole process ends
    assert calls.ended == ["cancelled"] * 5


async def _vanish_from_session(reached: Reached, calls: Calls) -> None:
    kinds = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    hello = _message("initialize", CLIENT, 1)
    with closing(await reached.connect(_request(reached, "/mcp", hello, kinds))) as wire:
        head = await wire.head()
    session = next(line[16:] for line in head.decode().splitlines() if line.startswith("mcp-session-id: "))
    kinds |= {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
    idle = await reached.connect(_request(reached, "/mcp", b"", kinds, "GET"))
    assert statuses(await idle.head()) == [200]
    call = _message("tools/call", {"name": "linger", "arguments": {}}, 2)
    calling = await reached.connect(_request(reached, "/mcp", call, kinds))
    await calls.begun.acquire()
    idle.close()
    calling.close()
    ended = await reached.said(_request(reached, "/mcp", b"", {**kinds, "Connection": "close"}, "DELETE"))
    assert statuses(ended) == [200]


async def test_who_vanishes_while_he_waits_for_a_run_does_not_end_it(site: tuple[Reached, Calls]) -> None:
    reached, _ = site
    draft = WebhookDraft("x", "say", max_wait_seconds=60)
    webhook = await reached.app.webhooks.add(draft, reached.app.clock.now())
    key = {"Idempotency-Key": "1", "Content-Type": "text/plain"}
    path = f"/webhook/{webhook.token}"
    accepted = await reached.said(_request(reached, path, b"x", {**key, "Connection": "close"}))
    assert statuses(accepted) == [202]
    [run] = (await reached.app.runs.list(RunFilter(), 10)).runs
    await running(reached.app, run.id, said="half")
    before = len(asyncio.all_tasks())
    wires = [await reached.connect(_request(reached, f"{path}?wait=60", b"x", key)) for _ in range(20)]
    while len(asyncio.all_tasks()) < before + 20:  # noqa: ASYNC110 - nobody tells that a request has begun
        await asyncio.sleep(0.01)
    for wire in wires:
        wire.close()
    await _no_more_than(before)
    assert not (await reached.app.runs.get(run.id)).state.is_final


def _message(method: str, params: Any, number: int) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


@contextmanager
def _descriptors(wanted: int) -> Iterator[int]:
    """Have this process take as many as it may, up to what is wanted; yield how many connections that makes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + 500 if hard == resource.RLIM_INFINITY else min(hard, wanted + 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield min(wanted, most - 500)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Connections that say one thing and then nothing more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._waiting = selectors.DefaultSelector()
        self.sockets: list[socket.socket] = []
        self.heard: dict[int, bytes] = {}

    def come(self, count: int, saying: bytes) -> None:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", self._port))
            one.sendall(saying)
            one.settimeout(0)
            self._waiting.register(one, selectors.EVENT_READ, len(self.sockets))
            self.sockets.append(one)

    def listen(self) -> None:
        """Wait until each has heard something, if only that it is not wanted."""
        until = time.monotonic() + PATIENCE
        while len(self.heard) < len(self.sockets):
            assert time.monotonic() < until
            for key, _ in self._waiting.select(1.0):
                one = self.sockets[key.data]
                try:
                    self.heard[key.data] = one.recv(2**12)
                except ConnectionError:
                    self.heard[key.data] = b""
                self._waiting.unregister(one)

    def go(self) -> None:
        self._waiting.close()
        for one in self.sockets:
            one.close()


def _seconds_to_answer(port: int) -> float:
    began = time.monotonic()
    with closing(http.client.HTTPConnection("localhost", port, timeout=PATIENCE)) as asked:
        asked.request("GET", "/health")
        assert asked.getresponse().status == 200
    return time.monotonic() - began


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_ten_thousand_idle_streams_are_borne_and_forgotten(tmp_path: Path) -> None:
    with served(tmp_path) as site, _descriptors(CROWD) as count:
        process = psutil.Process(site.process.pid)
        if count < CROWD:
            print(f"the system gives no more than {count} connections")  # noqa: T201 - the brief figure of this test
        listens = asks("/sse", f"Authorization: Bearer {site.token}", "Accept: text/event-stream").replace(
            b"Host: localhost", f"Host: localhost:{site.port}".encode()
        )
        _seconds_to_answer(site.port)
        memory, descriptors = process.memory_info().rss, process.num_fds()
        crowd = Crowd(site.port)
        crowd.come(count, listens)
        crowd.listen()
        told = Counter(head[9:12] for head in crowd.heard.values())
        assert told == {b"200": MOST_STREAMS, b"503": count - MOST_STREAMS}
        assert all(b"retry-after: 30\r\n" in head for head in crowd.heard.values() if head[9:12] == b"503")
        assert min(_seconds_to_answer(site.port) for _ in range(5)) < 1.0
        assert process.memory_info().rss - memory < MOST_MIB * 2**20
        crowd.go()
        _until(lambda: process.num_fds() <= descriptors)
        _heard_again(site, listens)
        code, log = site.stop()
    assert code == 0
    assert "Traceback" not in log


def _heard_again(site: Served, listens: bytes) -> None:
    """There is room for as many as before."""
    crowd = Crowd(site.port)
    crowd.come(100, listens)
    crowd.listen()
    assert {head[9:12] for head in crowd.heard.values()} == {b"200"}
    crowd.go()
