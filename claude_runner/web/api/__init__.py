"""The JSON API: all that the pages show and do, for scripts, and the OpenAPI document of it.

One class a group of endpoints, one method an endpoint. Whoever is not the owner is refused before any of it. Its parts
are imported when somebody first asks for one: a server that nobody asks starts sooner, and is smaller.
"""

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from claude_runner.app import App
from claude_runner.web._answers import error_answer

__all__ = ["PREFIX", "Api", "api_route"]

PREFIX: Final = "/api/"


def api_route(app: App) -> Route:
    """Return the route of the whole API; it has to stand behind the owner's login."""
    return Route(PREFIX + "{rest:path}", Api(app))


class Api:
    """Serves every path that begins with `/api/`."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loading = asyncio.Lock()
        self._router: Router | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        async with self._loading:
            if self._router is None:
                self._router = await asyncio.to_thread(self._loaded)
        try:
            await self._router({**scope, "path_params": {}}, receive, send)
        except HTTPException as error:  # no such path, or not by this method: told in JSON, whoever asks
            await _refusal(scope, error)(scope, receive, send)

    def _loaded(self) -> Router:
        from claude_runner.web.api._routes import api_routes  # noqa: PLC0415 - only who asks needs it

        return Router(api_routes(self._app), redirect_slashes=False)


def _refusal(scope: Scope, error: HTTPException) -> Response:
    if error.status_code == 405:
        words = f"{scope['method']} is not served here"
        return error_answer("method", words, 405, headers=error.headers)
    return error_answer("not_found", f"there is nothing at {scope['path'][:200]}", 404)
