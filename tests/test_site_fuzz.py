"""Whatever is sent to whichever route, the site answers, in the form that its users know, and makes no mistake.

The routes are those that the site has, so a new one is tried as well. FUZZ is how many requests are made up.
"""

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from starlette.types import ASGIApp

from claude_runner.app import App, open_app
from claude_runner.background import background
from claude_runner.config import Login, Settings
from claude_runner.tools import build_mcp
from claude_runner.web import Site, build_site
from claude_runner.web._site import WEBHOOKS
from claude_runner.web._transports import MESSAGES, SSE, STREAMABLE
from claude_runner.web.api import PREFIX
from claude_runner.web.api._routes import api_routes
from claude_runner.webhooks import Signature, WebhookDraft
from tests.guesses import CALLBACK, JSON, ORIGIN, Guess, form, guesses, quoted
from tests.support import PATIENCE, FakeAgent, FakeClock

REQUESTS: Final = int(os.environ.get("FUZZ", "700"))
MCP: Final = (STREAMABLE, SSE, MESSAGES)
# What answers programs alone, whatever they say they take.
PROGRAMS: Final = (
    *MCP,
    WEBHOOKS,
    PREFIX,
    "/health",
    "/.well-known",
    "/oauth/token",
    "/oauth/register",
    "/oauth/revoke",
)
DOORS: Final = {
    **dict.fromkeys((STREAMABLE, STREAMABLE + "/", SSE, MESSAGES), "call"),
    **{WEBHOOKS + name: "hook" for name in ("OPEN", "SIGNED", "SIFTED", "SHUT")},
    **{f"{prefix}/{name}": "form" for prefix in ("", "/oauth") for name in ("token", "revoke")},
    **{f"{prefix}/authorize": "asks" for prefix in ("", "/oauth")},
    **{f"{prefix}/register": "client" for prefix in ("", "/oauth")},
    "/oauth/consent": "asks",
}
HELLO: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
    },
}


@dataclass
class Said:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class Guest:
    """Sends requests to a site that is open on a loop of its own, and looks at what is answered."""

    def __init__(self, runner: asyncio.Runner, clock: FakeClock, site: Site, known: dict[str, str]) -> None:
        self._runner = runner
        self._clock = clock
        self._site: ASGIApp = site
        self._known = known
        self.paths = (
            *(getattr(route, "path", "") for route in (*site._router.routes, *site._owners.router.routes)),
            *(route.path for route in api_routes(site._app)),
            *(*DOORS, "/", "", "*", "/nothing", MESSAGES.rstrip("/"), WEBHOOKS, WEBHOOKS + "{token}"),
        )

    def answer(self, guess: Guess) -> Said | None:
        """Send a request, and return what is answered; `None` where the client is taken to have gone."""
        headers = [("host", "localhost:8080"), *guess.headers]
        if len([name for name, _ in headers if name == "host"]) > 1:
            headers = headers[1:]
        if guess.let_in:
            token = "Bearer TOKEN" if guess.path.startswith(MCP) else "Basic YWRhOmNvcnJlY3QgaG9yc2U="
            headers = [
                *((name, value) for name, value in headers if name != "authorization"),
                ("authorization", token),
            ]
        path, query, body = guess.path, guess.query, guess.body
        for name, value in self._known.items():
            path = path.replace(name, value)
            query = query.replace(name.encode(), quote(value).encode())
            body = body.replace(name.encode(), value.encode())
            headers = [(key, text.replace(name, value)) for key, text in headers]
        self._clock._elapsed += 40.0  # so that throttles are not all that is ever heard; nothing gets due
        return self._runner.run(ask(self._site, guess.method, path, query, headers, body))


async def ask(
    site: ASGIApp,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[str, str]],
    body: bytes,
    hear: Callable[[bytes], None] | None = None,
) -> Said | None:
    """Send a request and return what is answered; who wants to hear each piece of a stream stays until it ends."""
    messages: list[Any] = []
    ended, leaves = asyncio.Event(), asyncio.Event()
    pieces = [body[: len(body) // 2], body[len(body) // 2 :]] if len(body) > 1 else [body]

    async def receive() -> Any:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await leaves.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)
        if hear is not None:
            hear(message.get("body", b""))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()
        if ended.is_set() or (hear is None and method == "GET" and _is_stream(messages[0])):
            leaves.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(quoted(path)),  # which is how it comes off the wire: in ASCII alone, as the query
        "raw_path": quoted(path).encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers],
        "client": ("127.0.0.1", 4000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
    async with asyncio.timeout(PATIENCE if hear is None else None):
        await site(scope, receive, send)
    if not messages:
        return None
    start, rest = messages[0], messages[1:]
    assert ended.is_set() or (method == "GET" and _is_stream(start)), "the answer has no end"
    return Said(
        start["status"], list(start.get("headers", [])), b"".join(part.get("body", b"") for part in rest)
    )


def _is_stream(start: Any) -> bool:
    return any(
        name == b"content-type" and b"event-stream" in value for name, value in start.get("headers", ())
    )


class _Mistakes(logging.Handler):
    """What is logged of mistakes."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        self.lines.append(self.format(record))


@contextmanager
def _guest(home: Path) -> Iterator[Guest]:
    with asyncio.Runner() as runner:
        ready: asyncio.Future[Guest] = runner.get_loop().create_future()
        leave = asyncio.Event()
        held = runner.get_loop().create_task(_hold(home, runner, ready, leave))
        runner.run(_first(ready, held))
        yield ready.result()
        leave.set()
        runner.run(asyncio.wait_for(held, PATIENCE))


async def _hold(
    home: Path, runner: asyncio.Runner, ready: "asyncio.Future[Guest]", leave: asyncio.Event
) -> None:
    """Keep a site open, in a task of its own, since what a task has opened only it can close."""
    clock = FakeClock()
    made = Settings(home=home, dashboard=Login("ada", "correct horse"))
    async with open_app(made, agent=FakeAgent(), clock=clock) as app:
        site = build_site(app, await build_mcp(app))
        async with site.open(), _known(app, site) as known:
            ready.set_result(Guest(runner, clock, site, known))
            await leave.wait()
            await site.finish()


async def _until_left(stream: Awaitable[Any]) -> None:
    await stream


async def _first(ready: "asyncio.Future[Guest]", held: "asyncio.Task[None]") -> None:
    waiting: list[asyncio.Future[Any]] = [ready, held]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if held.done():
        await held


@asynccontextmanager
async def _known(app: App, site: Site) -> AsyncIterator[dict[str, str]]:
    """What a stranger can't guess: clients, tokens, webhooks, and the sessions of one who is let in."""
    now = app.clock.now()
    await app.auth.ensure_client(now)
    client = (await app.auth.register("x", (CALLBACK,), now, confidential=False)).client
    known = {"TOKEN": await app.auth.personal_token(now, ORIGIN), "CLIENT": client.client_id}
    drafts = {
        "OPEN": WebhookDraft("x", 'say {{payload.a.0 | "none"}}', max_wait_seconds=5),
        "SIGNED": WebhookDraft("x", "say {{payload}}", signature=Signature.GITHUB, signing_secret="s" * 32),
        "SIFTED": WebhookDraft("x", "say {{payload}}", filter='payload.action == "opened"'),
        "SHUT": WebhookDraft("x", "say", enabled=False),
    }
    for name, draft in drafts.items():
        known[name] = (await app.webhooks.add(draft, now)).token or ""
    host = ("host", ORIGIN.removeprefix("http://"))
    wanted = {"client_id": client.client_id, "redirect_uri": CALLBACK, "response_type": "code"}
    proof = {"code_challenge": "A" * 43, "code_challenge_method": "S256"}
    sent = await ask(site, "GET", "/authorize", form([*(wanted | proof).items()]), [host], b"")
    assert sent is not None
    known["SEALED"] = unquote((sent.header(b"location") or b"").decode().partition("request=")[2])
    head = [host, ("authorization", f"Bearer {known['TOKEN']}")]
    accept = [("content-type", JSON), ("accept", "application/json, text/event-stream")]
    begun = await ask(site, "POST", STREAMABLE, b"", [*head, *accept], json.dumps(HELLO).encode())
    assert begun is not None
    known["MCPSESSION"] = (begun.header(b"mcp-session-id") or b"").decode()
    opened: asyncio.Queue[bytes] = asyncio.Queue()
    async with background(_until_left(ask(site, "GET", SSE, b"", head, b"", hear=opened.put_nowait))):
        while b"session_id=" not in (event := await opened.get()):
            pass
        known["SESSION"] = event.decode().partition("session_id=")[2].split()[0]
        assert all(known.values())
        yield known


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with _guest(tmp_path_factory.mktemp("fuzz")) as guest:
        yield guest


@pytest.mark.timeout(60 + REQUESTS)
# What the server draws by chance on its thread meanwhile is taken for a draw of the strategy's.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_every_request_has_an_answer_in_the_form_of_its_place(guest: Guest) -> None:
    mistakes = _Mistakes()
    root = logging.getLogger()

    @settings(max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(guesses(guest.paths, DOORS))
    def any_request(guess: Guess) -> None:
        said = guest.answer(guess)
        assert not mistakes.lines, mistakes.lines.pop()
        if said is not None:
            _look_at(said, guess.path, guess.method)

    root.addHandler(mistakes)
    try:
        any_request()
    finally:
        root.removeHandler(mistakes)


def _look_at(said: Said, path: str, method: str) -> None:
    assert 200 <= said.status < 500, said
    for name, value in said.headers:
        assert not re.search(rb"[\x00-\x1f\x7f]", name + value), said
    length = said.header(b"content-length")
    assert method == "HEAD" or length is None or int(length) == len(said.body), said
    if said.status in {301, 302, 303, 307, 308}:
        assert (said.header(b"location") or b"").startswith((ORIGIN.encode(), CALLBACK.encode())), said
    if said.status >= 400 and method != "HEAD":
        _look_at_refusal(said, path, method)


def _look_at_refusal(said: Said, path: str, method: str) -> None:
    if (said.header(b"content-type") or b"").startswith(b"text/html"):
        assert not path.startswith(PROGRAMS), said  # a page, which a person comes to
        return
    if path.strip("/").startswith(STREAMABLE.strip("/")) and said.body in {
        b"",
        b"Invalid Content-Type header",
        b"Request body too large",
    }:
        return  # the library's; the standard asks for no body
    if method == "OPTIONS" and said.status == 400 and said.body.startswith(b"Disallowed CORS"):
        return  # a browser's question beforehand, whose answer nobody reads
    told = json.loads(said.body)
    error = told["error"]
    # For two there is no challenge: a client that did not try HTTP's own way (RFC 6749, section 5.2), and a signature.
    code = error if isinstance(error, str) else error["code"]
    needed = {401: b"www-authenticate", 405: b"allow", 429: b"retry-after"}.get(said.status)
    assert needed is None or said.header(needed) or code in {"invalid_client", "bad_signature"}, said
    if isinstance(error, str):  # OAuth's form (RFC 6749, section 5.2), where a client of OAuth asks
        assert set(told) <= {"error", "error_description", "error_uri"}, said
    elif "jsonrpc" in told:  # JSON-RPC's, where one of MCP does
        assert path.strip("/").startswith(STREAMABLE.strip("/")), said
        assert isinstance(error["code"], int), said
        assert error["message"], said
    else:
        assert set(error) == {"code", "message", "field"}, said
        assert error["message"], said
