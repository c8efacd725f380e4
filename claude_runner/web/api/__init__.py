"""The JSON API: all that the pages show and do, for scripts, and the OpenAPI document of it.

One class a group of endpoints, one method an endpoint. Whoever is not the owner is refused before any of it. Its parts
are imported when somebody first asks for one: a server that nobody asks starts sooner, and is smaller.
"""

import asyncio
from typing import Final

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from claude_runner.app import App

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
        await self._router({**scope, "path_params": {}}, receive, send)

    def _loaded(self) -> Router:
        from claude_runner.web.api._routes import api_routes  # noqa: PLC0415 - only who asks needs it

        return Router(api_routes(self._app), redirect_slashes=False)
