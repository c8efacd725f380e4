"""Requests that are too slow or too large, and too many of them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from claude_runner.web._bodies import BusyError, GoneError, Room, TooLargeError, TooSlowError, read_body
from claude_runner.web._protocol import LARGEST_HEAD, MOST_AHEAD
from claude_runner.web._site import LARGEST_FORM
from tests.bytewise import (
    HOST,
    ROUTES,
    Mirror,
    Reached,
    asks,
    reached_mirror,
    reached_site,
    statuses,
    without_traceback,
)
from tests.sites import on_free_port, serving
from tests.support import PATIENCE


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reached]:
    """What all these tests share; they change nothing in it but clients of OAuth."""
    async with reached_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
async def mirror(tmp_path: Path) -> AsyncIterator[tuple[Reached, Mirror]]:
    async with reached_mirror(tmp_path) as reached:
        yield reached


@pytest.fixture(autouse=True)
def _no_traceback() -> Iterator[None]:
    with without_traceback():
        yield


# Slow


async def test_others_are_served_while_two_hundred_heads_and_as_many_bodies_come_drop_by_drop(
    site: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._protocol.HEAD_SECONDS", 1.0)
    monkeypatch.setattr("claude_runner.web._site.SLOWEST_SECONDS", 1.0)
    heads = [await site.connect(b"GET /health HTTP/1.1\r\n" + HOST) for _ in range(200)]
    bodies = [
        await site.connect(asks("/oauth/token", "Content-Length: 900", method="POST")) for _ in range(200)
    ]
    endings = [asyncio.create_task(wire.ends()) for wire in heads]
    clock = asyncio.get_running_loop().time
    worst = 0.0
    while any(not ending.done() for ending in endings):
        for wire in heads:
            wire.send(b"X")
        for wire in bodies:
            wire.send(b"x")
        began = clock()
        assert await site.is_well()
        worst = max(worst, clock() - began)
    assert worst < 10
    assert {tuple(statuses(await ending)) for ending in endings} == {(408,)}
    assert {tuple(statuses(await wire.head())) for wire in bodies} == {(408,)}
    for wire in heads + bodies:
        wire.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (asks("/health"), 200),
        (asks("/health", "Content-Length: 900000000"), 200),
        (asks("/nothing", "Content-Length: 900000000", method="POST"), 413),
        (asks("/mcp", "Content-Length: 900000000", method="POST"), 401),
        (asks("/nothing", "Content-Length: 900", "Expect: 100-continue", method="DELETE"), 100),
    ],
)
@pytest.mark.parametrize("drip", [b"\r\n", b"x"])
async def test_what_goes_on_after_the_answer_does_not_hold_the_connection(
    site: Reached, monkeypatch: pytest.MonkeyPatch, request_: bytes, status: int, drip: bytes
) -> None:
    monkeypatch.setattr("claude_runner.web._protocol.HEAD_SECONDS", 0.2)
    monkeypatch.setattr("claude_runner.web._site.SLOWEST_SECONDS", 0.2)
    with closing(await site.connect(request_)) as wire:
        assert statuses(await wire.head()) == [status]
        said = await wire.ends_while(drip)
    assert statuses(said) in ([[408]] if status == 100 else [[], [400]])


async def test_a_body_may_take_its_time_once() -> None:
    """And not that time again for its first piece."""

    asked = 0

    async def drops() -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.06)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(TooSlowError):
        await read_body({"headers": []}, drops, seconds=0.1)
    assert asked <= 2


async def test_a_client_that_does_not_read_its_answer_is_not_waited_for(
    mirror: tuple[Reached, Mirror], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._protocol.STALLED_SECONDS", 0.1)
    reached, site = mirror
    with closing(await reached.connect()) as wire:
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # there is more than the base class says
        wire.send(asks("/much"))
        async with asyncio.timeout(PATIENCE):
            await site.waiting.acquire()
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        assert len(await wire.ends()) < 2**26


# Large


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize("token", [False, True], ids=["a stranger", "a client"])
async def test_a_huge_body_is_taken_nowhere(site: Reached, path: str, *, chunked: bool, token: bool) -> None:
    head = [f"Authorization: Bearer {site.token}"] if token else []
    if not chunked:
        said = await site.said(asks(path, *head, "Content-Length: 1099511627776", method="POST"))
        assert statuses(said) in ([[413], [404], [405]] if token else [[413], [404], [401], [405]])
        return
    with closing(await site.connect(asks(path, *head, "Transfer-Encoding: chunked", method="POST"))) as wire:
        piece = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
        said = b""
        for _ in range(80):
            wire.send(piece)
            try:
                await wire.writer.drain()
            except ConnectionError:
                break
            if said := bytes(wire.reader._buffer):  # type: ignore[attr-defined]  # what has come, if anything
                break
        assert statuses(said or await wire.whole())[0] in {400, 401, 404, 405, 413}


@pytest.mark.parametrize("path", ["/oauth/token", "/nothing", "/oauth/consent", "/register"])
async def test_nobody_needs_to_be_known_to_post_a_form_but_it_is_small(site: Reached, path: str) -> None:
    said = await site.said(asks(path, f"Content-Length: {LARGEST_FORM + 1}", method="POST"))
    assert statuses(said) == [413]


async def test_many_bodies_at_once_have_their_room_and_no_more() -> None:
    room = Room(most=100)

    async def body() -> Any:
        return {"type": "http.request", "body": b"x" * 60, "more_body": False}

    with room.counted(body) as one, room.counted(body) as other:
        await one()
        with pytest.raises(BusyError):
            await other()
    with room.counted(body) as later:
        assert len((await later())["body"]) == 60


async def test_a_body_for_which_there_is_no_room_may_come_again(
    site: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._bodies.Room.counted", Room(most=10).counted)
    said = await site.said(asks("/nothing", "Content-Length: 20", method="POST", body=b"x" * 20))
    assert statuses(said) == [503]
    assert b"retry-after: 5\r\n" in said
    assert b'"code":"busy"' in said


async def test_a_body_is_whole_or_none() -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def more() -> Any:
        return {"type": "http.request", "body": b"x" * 6, "more_body": True}

    with pytest.raises(GoneError):
        await read_body({"headers": []}, gone)
    with pytest.raises(TooLargeError):
        await read_body({"headers": []}, more, 10)
    for length in (b"11", b"-1", b"1e3", b"9" * 30, b""):
        with pytest.raises(TooLargeError):
            await read_body({"headers": [(b"content-length", length)]}, more, 10)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"x" * LARGEST_HEAD,
        b"GET /?" + b"x" * LARGEST_HEAD,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2**14,
    ],
    ids=["path", "query", "headers"],
)
@pytest.mark.parametrize("path", ["/health", "/mcp"])
async def test_a_head_without_end_is_cut_off(site: Reached, start: bytes, path: str) -> None:
    with closing(await site.connect(start.replace(b"GET /", b"GET " + path.encode()))) as wire:
        assert statuses(await wire.ends_while(b"x")) == [431]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_long_url_and_many_headers_do_not_keep_anybody_waiting(site: Reached, path: str) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    mark = "&" if "?" in path else "?"
    said = await site.said(asks(path + mark + "x" * 30_000, *(["A:"] * 8_000), "Connection: close"))
    assert statuses(said)[0] in {200, 302, 400, 401, 403, 404, 405}
    assert clock() - began < 10


async def test_a_trailer_is_bounded_and_is_no_header(mirror: tuple[Reached, Mirror]) -> None:
    start = asks("/", "Transfer-Encoding: chunked", method="POST", body=b"1\r\nx\r\n0\r\n")
    said = await mirror[0].said(start + b"Authorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
    assert b'"headers":["host","transfer-encoding"],"body":"x"' in said
    with closing(await mirror[0].connect(start)) as wire:
        assert statuses(await wire.ends_while(b"X: " + b"y" * 4_000 + b"\r\n")) == [431]


async def test_requests_are_not_piled_up_behind_one_that_is_not_answered(
    mirror: tuple[Reached, Mirror],
) -> None:
    reached, site = mirror
    with closing(await reached.connect(asks("/wait"))) as wire:
        await site.waiting.acquire()
        wire.send(asks("/later") * (MOST_AHEAD + 2))
        await wire.ends()
    site.go_on.set()
    assert site.asked == ["/wait"]


async def test_connections_above_the_limit_are_told_to_come_again(
    site: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.web._serving.MOST_CONNECTIONS", 8)
    monkeypatch.setattr("claude_runner.web._protocol.HURRIED_SECONDS", 0.2)
    settings = on_free_port(site.app.settings)
    mirror: Any = Mirror()

    class Elsewhere:
        """The application, at a port of its own."""

        def __init__(self) -> None:
            self.settings = settings

    elsewhere: Any = Elsewhere()
    async with serving(elsewhere, site=mirror):
        reached = Reached(elsewhere)
        idle = [await reached.connect(asks("/")) for _ in range(8)]
        for wire in idle:
            assert statuses(await wire.head()) == [200]
        full = await reached.said(asks("/"))
        assert statuses(full) == [503]
        assert b"retry-after: 5\r\n" in full
        assert b'"code":"full"' in full
        with closing(await reached.connect()) as silent:
            assert statuses(await silent.ends()) == [408]  # and sooner than the others
        more = [await reached.connect() for _ in range(4)]
        assert await more[3].ends() == b""
        for wire in idle + more:
            wire.close()
        while statuses(await reached.said(asks("/"))) != [200]:  # noqa: ASYNC110 - nobody tells that they have gone
            await asyncio.sleep(0.01)


def test_a_crowd_leaves_descriptors_for_the_rest_of_the_program() -> None:
    """In a process of its own, since nobody gets a limit back that he has lowered."""
    program = (
        "import resource\n"
        "from claude_runner.web._serving import OTHER_DESCRIPTORS, _most_connections\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
        "most = _most_connections()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], most + most // 4 + OTHER_DESCRIPTORS)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    taken, needed = map(int, done.stdout.split())
    assert taken == 300
    assert 290 <= needed <= taken
