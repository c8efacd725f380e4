"""The site: every request comes in here, and is looked at before anything else sees it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from fastmcp import FastMCP
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from claude_runner.app import App
from claude_runner.config import is_loopback
from claude_runner.errors import RunnerError
from claude_runner.web._answers import error_answer, mistake_of, refusal_of
from claude_runner.web._bodies import LARGEST, SLOWEST_SECONDS, GoneError, Room, read_body, replayed
from claude_runner.web._login import LoginGate
from claude_runner.web._transports import MESSAGES, SSE, STREAMABLE, Transports
from claude_runner.web._webhook import WebhookDoor
from claude_runner.web.api import api_route
from claude_runner.web.dashboard import Dashboard
from claude_runner.web.oauth import BearerGate, oauth_routes

WEBHOOKS: Final = "/webhook/"
# Browsers that pages of these origins may make MCP requests from, besides the site's own and this machine's.
TRUSTED_ORIGINS: Final = frozenset({"https://claude.ai", "https://claude.com"})

LARGEST_FORM: Final = 64 * 2**10  # bytes of what is posted to a page, by whomever
LARGEST_OF_OWNER: Final = LARGEST  # the same of one that only the owner may post to

Answer = Callable[[Request, Exception], Awaitable[Response]]

_WITHOUT_BODY: Final = frozenset({"GET", "HEAD"})


class Site:
    """Everything that is served over HTTP, as one ASGI application; it is served while it is open."""

    def __init__(self, app: App, mcp: FastMCP[Any]) -> None:
        self._app = app
        self._transports = Transports(mcp)
        self._webhooks: ASGIApp = WebhookDoor(app)
        self._mcp: ASGIApp = BearerGate(_buffered(self._transports, LARGEST), app)
        login = LoginGate(app.settings, app.clock)
        self._router = _router(app, login)
        self._pages = _buffered(_pages(self._router), LARGEST_FORM)
        self._dashboard = Dashboard(app)
        self._owners = _OwnersPages([*self._dashboard.routes(), api_route(app)], self._dashboard, login)
        self._room = Room()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve MCP while the context is open."""
        async with self._transports.open():
            yield

    async def finish(self) -> None:
        """End what would otherwise go on, before the server stops."""
        self._dashboard.finish()
        await self._transports.finish()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"the site serves HTTP alone, not {scope['type']}")
        if scope["method"] in _WITHOUT_BODY:
            await self._answer(scope, receive, send)
            return
        with self._room.counted(receive) as counted:
            await self._answer(scope, counted, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and answer whatever is raised."""
        began = False

        async def watched(message: Any) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._serve(scope, receive, watched)
        except GoneError:
            return
        except RunnerError as error:
            if began:
                raise
            await refusal_of(error)(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - a mistake of ours, which is logged and answered with its id
            answer = mistake_of(error, scope["path"])
            if not began:
                await answer(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith(WEBHOOKS):  # whose token is all that lets in: no page has it
            await self._webhooks(scope, receive, send)
            return
        if (malformed := _malformed(scope)) is not None:
            await malformed(scope, receive, send)
            return
        host = _header(scope, b"host")
        origin = await self._app.addresses.origin(host, scope["scheme"])
        if origin is None and path != "/health":
            refusal: ASGIApp = error_answer(
                "unknown_host", f"this is not {host[:200]!r}; PUBLIC_URL names what it is", 421
            )
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["origin"] = origin
        if path == STREAMABLE + "/":
            scope = {**scope, "path": STREAMABLE, "raw_path": STREAMABLE.encode()}
        if scope["path"] in {STREAMABLE, SSE} or path.startswith(MESSAGES):
            served = (
                self._mcp
                if _may_ask(scope, origin)
                else error_answer("origin", "pages of this site may not ask here", 403)
            )
            await served(scope, receive, send)
            return
        is_ours = self._owners.has(scope) or (_is_browser(scope) and not _has(self._router, scope))
        pages = self._owners if is_ours else self._pages
        await pages(scope, receive, send)


class _OwnersPages:
    """The pages and calls that are the owner's alone: nothing of a request is read before he is known."""

    def __init__(self, routes: Sequence[Route], dashboard: Dashboard, login: LoginGate) -> None:
        self.router = Router(routes, redirect_slashes=False)
        self._login = login
        self._dashboard = dashboard
        answers = {
            RunnerError: dashboard.refused,
            Exception: dashboard.mistaken,
            404: dashboard.not_found,
            405: _wrong_method,
        }
        self._served = _buffered(_guarded(self.router, answers), LARGEST_OF_OWNER)

    def has(self, scope: Scope) -> bool:
        """Tell whether a request's path is one of them."""
        return _has(self.router, scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the owner, and refuse everybody else."""
        scope["state"]["seen"] = self._dashboard.seen()
        refusal = await self._login.refusal(Request(scope))
        await (self._served if refusal is None else refusal)(scope, receive, send)


def build_site(app: App, mcp: FastMCP[Any]) -> Site:
    """Make the site of an application and its MCP server."""
    return Site(app, mcp)


def _router(app: App, login: LoginGate) -> Router:
    """Return the routes of all but MCP and webhooks."""

    async def health(_: Request) -> Response:
        checks = await app.checks()
        well = all(check == "ok" for check in checks.values())
        body = {"status": "ok" if well else "degraded", "checks": checks}
        return JSONResponse(body, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})

    return Router([Route("/health", health), *oauth_routes(app, login)], redirect_slashes=False)


def _pages(router: Router) -> ASGIApp:
    """Return what serves the routes; what nobody expected is left to the site to answer."""
    return _guarded(router, {RunnerError: _refused, 404: _not_found, 405: _wrong_method})


def _guarded(router: Router, answers: Mapping[Any, Answer]) -> ASGIApp:
    """Return what serves the routes, with an answer for each kind of failure."""
    guarded = ExceptionMiddleware(router, answers)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = router  # with it what is not found is raised, and answered in our words
        await guarded(scope, receive, send)

    return call


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RunnerError)  # noqa: S101 - it is what it is registered for
    return refusal_of(error)


async def _not_found(request: Request, _: Exception) -> Response:
    return error_answer("not_found", f"there is nothing at {request.url.path[:200]}", 404)


async def _wrong_method(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    return error_answer("method", f"{request.method} is not served here", 405, headers=allowed)


def _buffered(inner: ASGIApp, most: int) -> ASGIApp:
    """Return the application with every body read whole, within bounds, before it is called."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in _WITHOUT_BODY:
            receive = replayed(await read_body(scope, receive, most, SLOWEST_SECONDS), receive)
        await inner(scope, receive, send)

    return call


def _has(router: Router, scope: Scope) -> bool:
    return any(route.matches(scope)[0] is not Match.NONE for route in router.routes)


def _is_browser(scope: Scope) -> bool:
    """Tell whether a person is to see the answer."""
    return scope["method"] == "GET" and "text/html" in _header(scope, b"accept")


def _malformed(scope: Scope) -> ASGIApp | None:
    """Return the answer to what no two programs read alike."""
    if sum(key == b"host" for key, _ in scope["headers"]) > 1:  # RFC 9112, section 3.2
        return error_answer("host", "there are two Host headers", 400)
    if not scope["query_string"].isascii():  # RFC 3986, section 2.1
        return error_answer("query", "the address has characters that must be percent-encoded", 400)
    return None


def _may_ask(scope: Scope, own: str | None) -> bool:
    """Tell whether a browser's page may make the request; other programs name no Origin (MCP, "Security Warning")."""
    origin = _header(scope, b"origin")
    if not origin or origin in {own, *TRUSTED_ORIGINS}:
        return True
    return own is not None and is_loopback(_name(own)) and is_loopback(_name(origin))


def _name(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
