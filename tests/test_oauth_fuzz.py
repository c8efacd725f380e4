"""Nothing that is sent to OAuth's endpoints makes the server fail."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oauth import CALLBACK, ORIGIN, VERIFIER, House, challenge, open_house

PATHS = [
    *(
        prefix + name
        for prefix in ("", "/oauth")
        for name in ("/authorize", "/token", "/register", "/revoke")
    ),
    "/oauth/consent",
    "/oauth/consent.css",
    "/.well-known/oauth-protected-resource/mcp",
    "/.well-known/oauth-authorization-server",
    "/mcp",
    "/sse",
    "/messages/",
]
NAMES = [
    *("client_id", "client_secret", "code", "code_challenge", "code_challenge_method", "code_verifier"),
    *(
        "grant_type",
        "redirect_uri",
        "refresh_token",
        "request",
        "resource",
        "response_type",
        "scope",
        "state",
    ),
    *("token", "access_token", "answer"),
]
VALUES = [
    *("KNOWN", "code", "S256", "plain", "mcp", "authorization_code", "refresh_token", "allow", ""),
    *(
        CALLBACK,
        VERIFIER,
        challenge(),
        f"{ORIGIN}/mcp",
        "https://[::1",
        "https://a.b/c",
        "http://localhost:99999/x",
    ),
    *("eyJhbGciOiJub25lIn0.e30.", "%", "%zz", "\x00", "\ud7ff", "https://\u0130.example/x", "//", "a" * 3000),
]
HEADERS = [
    *(
        ("authorization", value)
        for value in ("Basic YTpi", "Basic %", "Bearer x", "Bearer", "", "Basic w7w6")
    ),
    *(
        ("content-type", f"application/{value}")
        for value in ("x-www-form-urlencoded", "json", "x-www-form-urlencoded;a=\xff")
    ),
    *(("accept", value) for value in ("text/html", "text/event-stream", "*/*")),
    *(("cookie", value) for value in ("__Host-consent=" + "a" * 43, "=;=", '"')),
    *(("sec-fetch-site", value) for value in ("same-origin", "cross-site", "\xff")),
    *(("origin", value) for value in (ORIGIN, "null", "https://[")),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(CALLBACK),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["redirect_uris", "client_name", "grant_types", "scope", "contacts", "jwks"]),
            inner,
        )
    ),
    max_leaves=8,
)
PARAMETERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text()), max_size=10)


class Guest:
    """Sends requests to a site that is open on a loop of its own."""

    def __init__(self, runner: asyncio.Runner, house: House, client_id: str) -> None:
        self._runner = runner
        self._house = house
        self._client_id = client_id

    def encoded(self, parameters: list[tuple[str, str]]) -> bytes:
        known = [(name, value.replace("KNOWN", self._client_id)) for name, value in parameters]
        return "&".join(f"{name}={quote_plus(value, safe='%')}" for name, value in known).encode()

    def status(
        self, method: str, path: str, query: bytes, headers: list[tuple[str, str]], body: bytes
    ) -> int:
        return self._runner.run(self._status(method, path, query, headers, body))

    async def _status(
        self, method: str, path: str, query: bytes, headers: list[tuple[str, str]], body: bytes
    ) -> int:
        host = ORIGIN.removeprefix("https://")
        given = [("host", host), ("authorization", "Basic YWRhOmNvcnJlY3QgaG9yc2U="), *headers]
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "https",
            "query_string": query,
            "http_version": "1.1",
            "server": (host, 443),
            "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in dict(given).items()],
        }
        status = 0
        sent = False

        async def receive() -> dict[str, object]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                assert isinstance(message["status"], int)
                status = message["status"]

        await self._house.site(scope, receive, send)  # type: ignore[arg-type]
        self._house.clock.move(3600)  # so that nothing is throttled
        return status


@contextmanager
def open_guest(home: Path) -> Iterator[Guest]:
    with asyncio.Runner() as runner:
        opened: asyncio.Future[tuple[House, str]] = runner.get_loop().create_future()

        async def hold() -> None:
            async with open_house(home) as house:
                opened.set_result((house, (await house.client())["client_id"]))
                await asyncio.Event().wait()

        holding = runner.get_loop().create_task(hold())

        async def ready() -> tuple[House, str]:
            return await opened

        async def close() -> None:
            holding.cancel()
            with suppress(asyncio.CancelledError):
                await holding

        yield Guest(runner, *runner.run(ready()))
        runner.run(close())


def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    with open_guest(tmp_path) as guest:

        @settings(max_examples=500, deadline=None)
        @given(
            method=st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE"]),
            path=st.sampled_from(PATHS),
            query=PARAMETERS.map(guest.encoded) | st.binary(max_size=30),
            headers=st.lists(st.sampled_from(HEADERS), max_size=5),
            body=PARAMETERS.map(guest.encoded)
            | st.binary(max_size=60)
            | JSON.map(json.dumps).map(str.encode),
        )
        def no_request_fails(
            method: str, path: str, query: bytes, headers: list[tuple[str, str]], body: bytes
        ) -> None:
            assert 200 <= guest.status(method, path, query, headers, body) < 500

        no_request_fails()
