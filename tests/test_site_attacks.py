"""Requests that can be read in two ways, that are odd, that lead elsewhere, or that are not the sender's own."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

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
from tests.support import PATIENCE

ELSEWHERE: Final = "127.0.0.2"  # a peer whom nobody trusts, on this machine


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


# Ambiguous: two that read the bytes might see two different requests


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 60",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 99999999999999999999999999",
        "Content-Length : 5",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        " Transfer-Encoding: chunked",
        "X: folded\r\n over two lines",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X Y: z",
        "X: \x00",
        "X",
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused_with_all_that_follows(
    mirror: tuple[Reached, Mirror], head: str
) -> None:
    said = await mirror[0].said(asks("/", head, method="POST", body=b"0\r\n\r\n" + asks("/smuggled")))
    assert statuses(said) == [400]
    assert "/smuggled" not in mirror[1].asked


@pytest.mark.parametrize(
    "body",
    [
        b"1\nx\n0\n\n",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b" 1\r\nx\r\n0\r\n\r\n",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"1\r\nxyz\r\n0\r\n\r\n",
        b"1;a\nb\r\nx\r\n0\r\n\r\n",
        b"1\r\nx0\r\n\r\n",
        b"fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        b"\r\nx\r\n0\r\n\r\n",
    ],
)
async def test_chunks_that_can_be_read_in_two_ways_are_refused_with_all_that_follows(
    mirror: tuple[Reached, Mirror], body: bytes
) -> None:
    start = asks("/", "Transfer-Encoding: chunked", method="POST", body=body)
    assert statuses(await mirror[0].said(start + asks("/smuggled"))) == [400]
    assert "/smuggled" not in mirror[1].asked


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "identity, chunked", "\tCHUNKED"])
async def test_what_can_be_read_in_one_way_is(mirror: tuple[Reached, Mirror], coding: str) -> None:
    start = asks("/", f"Transfer-Encoding: {coding}", method="POST", body=b"1;x=y\r\nx\r\n0\r\n\r\n")
    assert statuses(await mirror[0].said(start + asks("/next", "Connection: close"))) == [200, 200]
    assert mirror[1].asked == ["/", "/next"]


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
async def test_what_follows_a_request_for_another_protocol_is_no_request(
    mirror: tuple[Reached, Mirror], protocol: str
) -> None:
    reached, site = mirror
    upgrade = asks("/wait", "Connection: Upgrade", f"Upgrade: {protocol}")
    with closing(await reached.connect(upgrade + b"POST /a HTTP/1.1\r\n")) as wire:
        await site.waiting.acquire()
        wire.send(asks("/smuggled"))
        await asyncio.sleep(0)
        site.go_on.set()
        said = await wire.ends()
    assert statuses(said) == [200]
    assert site.asked == ["/wait"]


async def test_requests_sent_ahead_are_answered_in_their_order(mirror: tuple[Reached, Mirror]) -> None:
    asked = (
        asks("/1", "Content-Length: 2", method="POST", body=b"ab")
        + asks("/2")
        + asks("/3", "Connection: close")
    )
    said = await mirror[0].said(asked)
    assert re.findall(rb'"path":"(/\d)"', said) == [b"/1", b"/2", b"/3"]


async def test_a_client_that_goes_is_gone_for_every_request_that_it_sent_ahead(
    mirror: tuple[Reached, Mirror],
) -> None:
    reached, site = mirror
    before = len(asyncio.all_tasks())
    wire = await reached.connect(asks("/stay") + asks("/2") + asks("/3"))
    await site.waiting.acquire()
    wire.close()
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - nobody tells that they have ended
            await asyncio.sleep(0.01)
    assert (site.asked, site.gone) == (["/stay"], ["/stay"])


async def test_two_hosts_are_none(site: Reached) -> None:
    for other in ("evil.example", "localhost"):
        said = await site.said(asks("/nothing", f"Host: {other}"))
        assert (statuses(said), b'"code":"host"' in said) == ([400], True)


# Odd, and to be answered all the same


async def test_an_old_client_is_answered_and_the_connection_closed(site: Reached) -> None:
    with closing(await site.connect(asks("/health", "Connection: keep-alive", version="1.0"))) as wire:
        assert statuses(await wire.ends()) == [200]
    with closing(await site.connect(b"GET /nothing HTTP/1.0\r\n\r\n")) as wire:
        assert statuses(await wire.ends()) == [421]


async def test_a_client_that_asks_whether_it_may_send_is_told(site: Reached) -> None:
    expects = ("Expect: 100-continue", "Content-Length: 5")
    with closing(await site.connect(asks("/nothing", *expects, method="POST"))) as wire:
        assert statuses(await wire.head()) == [100]
        wire.send(b"hello")
        assert statuses(await wire.whole()) == [404]
    refused = await site.said(asks("/mcp", *expects, method="POST"))
    assert statuses(refused) == [401]
    large = await site.said(
        asks("/nothing", "Expect: 100-continue", "Content-Length: 99999999", method="POST")
    )
    assert statuses(large) == [413]


@pytest.mark.parametrize("path", [*ROUTES, "/", "*", "http://evil.example/health", "//evil.example/x"])
@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "PROPFIND", "PURGE"]
)
async def test_every_method_has_an_answer_and_none_tells_what_was_sent(
    site: Reached, path: str, method: str
) -> None:
    said = await site.said(asks(path, "X-Secret: tell-nobody", "Connection: close", method=method))
    assert len(statuses(said)) == 1
    assert statuses(said)[0] < 500
    assert b"tell-nobody" not in said
    if method == "HEAD":
        assert said.partition(b"\r\n\r\n")[2] == b""
    if method in {"TRACE", "CONNECT"}:
        assert statuses(said)[0] >= 400


@pytest.mark.parametrize(
    "path",
    [
        b"/\xff\xfe",
        b"/caf\xe9",
        b"/mcp\xff",
        b"/webhook/\xe2\x82\xac",
        b"/nothing?\xff",
        b"/oauth/consent?\x80",
    ],
)
async def test_a_path_in_bytes_that_no_url_has_is_refused(site: Reached, path: bytes) -> None:
    assert statuses(await site.said(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")) == [400]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../jobs.db",
        "/oauth/../jobs.db",
        "/oauth/consent.css/../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e/%252e%252e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/..\\..\\etc\\passwd",
        "/%c0%ae%c0%ae/etc/passwd",
        "/%00/../jobs.db",
        "/health%00.css",
        "/health/../mcp",
        "/mcp/../health",
        "/%6dcp/../../.env",
        "/oauth%2fconsent",
        "/.env",
        "/.claude-runner/oauth.key",
        "/webhook/../health",
        "/webhook/%2e%2e/health",
        "/messages/../health",
        "/%ff%fe",
        "/%0d%0aSet-Cookie:%20a=b",
        "/%E2%80%AE",
    ],
)
async def test_no_path_leads_elsewhere(site: Reached, path: str) -> None:
    said = await site.said(asks(path, "Connection: close"))
    assert statuses(said)[0] in {400, 401, 404, 405}
    assert not re.search(rb"root:|SQLite format|set-cookie|\"checks\"", said)


# For somebody else


@pytest.mark.parametrize(
    "path", ["/", "/oauth/authorize", "/oauth/consent", "/oauth/token", "/mcp", "/sse", "/messages/"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_name_that_was_pointed_at_this_machine_leads_nowhere(
    site: Reached, path: str, method: str
) -> None:
    """DNS rebinding: the browser believes that our pages are evil.example's, and lets it read them."""
    head = (f"Authorization: Bearer {site.token}", "Origin: http://evil.example")
    said = await site.said(
        asks(path, *head, method=method).replace(b"Host: localhost", b"Host: evil.example")
    )
    assert statuses(said) == [421]
    assert b"access-control-allow-origin" not in said


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost.evil.example"])
async def test_a_page_of_another_site_neither_consents_nor_speaks_mcp(site: Reached, origin: str) -> None:
    head = (f"Origin: {origin}", f"Authorization: Bearer {site.token}")
    for path in ("/mcp", "/sse", "/messages/?session_id=1", "/oauth/consent"):
        assert statuses(await site.said(asks(path, *head, "Content-Length: 0", method="POST"))) == [403]
    fetched = ("Sec-Fetch-Site: cross-site", "Content-Length: 0")
    assert statuses(await site.said(asks("/oauth/consent", *fetched, method="POST"))) == [403]


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/"])
async def test_a_token_in_the_address_or_in_a_form_lets_nobody_in(site: Reached, path: str) -> None:
    for method in ("GET", "POST"):
        for name in ("access_token", "token", "authorization"):
            asked = asks(f"{path}?{name}={site.token}", "Content-Length: 0", method=method)
            assert statuses(await site.said(asked))[0] in {400, 401}
    form = f"access_token={site.token}".encode()
    kind = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}")
    assert statuses(await site.said(asks(path, *kind, method="POST", body=form))) == [400]


async def test_no_value_of_a_request_makes_a_header_of_an_answer(site: Reached) -> None:
    evil = "%0d%0aX-Evil:%20yes%0d%0a%0d%0aevil"
    callback = "http://localhost/callback"
    client = await site.app.auth.register("x", (callback,), site.app.clock.now(), confidential=False)
    known = f"client_id={client.client.client_id}&redirect_uri={callback}"
    for query in (
        f"{known}&state={evil}&response_type={evil}",
        f"{known}&state={evil}&response_type=code&code_challenge={'a' * 43}&code_challenge_method=S256",
        f"client_id={evil}&redirect_uri={evil}",
    ):
        for prefix in ("", "/oauth"):
            said = await site.said(asks(f"{prefix}/authorize?{query}", "Connection: close"))
            _without_evil(said)
    for path in (f"/mcp/{evil}", f"/{evil}", f"/webhook/{evil}", f"/mcp?{evil}", f"/.well-known/{evil}"):
        _without_evil(await site.said(asks(path, "Connection: close")))
    for host in ("localhost%0d%0aX-Evil: yes", "localhost\tX-Evil: yes", "localhost\xa0x", 'local"host'):
        for path in ("/mcp", "/authorize", "/.well-known/oauth-protected-resource"):
            said = await site.said(
                asks(path, "Connection: close").replace(b"localhost", host.encode("latin-1"))
            )
            _without_evil(said)


def _without_evil(said: bytes) -> None:
    head, _, _ = said.partition(b"\r\n\r\n")
    assert len(statuses(said)) == 1, said
    assert statuses(said)[0] < 500, said
    assert not re.search(rb"^x-evil", head, re.IGNORECASE | re.MULTILINE), said


async def test_who_is_no_proxy_is_not_believed_whom_he_speaks_for(site: Reached) -> None:
    forged = (
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=127.0.0.1;host=evil.example;proto=https",
    )
    document = asks("/.well-known/oauth-authorization-server", *forged, "Connection: close")
    try:
        said = await site.said(document, ELSEWHERE)
    except OSError:
        pytest.skip(f"this machine has no {ELSEWHERE}")
    assert b'"issuer":"http://localhost"' in said
    # Without a login only a browser on this machine is served; who forwards is none.
    assert statuses(await site.said(asks("/oauth/consent", *forged, "Connection: close"), ELSEWHERE)) == [403]
    believed = await site.said(document)
    assert b'"issuer":"https://localhost"' in believed  # from a proxy; but a host is believed of none


async def test_a_proxy_is_believed_whom_it_speaks_for(site: Reached) -> None:
    """So that nobody behind it passes for this machine, and the login counts each sender's tries apart."""
    for sender in ("203.0.113.7", "127.0.0.1", "::1", "nonsense", "\xff", "x" * 3_000, ""):
        head = (f"X-Forwarded-For: {sender}", "Connection: close")
        assert statuses(await site.said(asks("/oauth/consent", *head))) == [403]
