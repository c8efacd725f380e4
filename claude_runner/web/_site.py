"""Puts the routes together into one ASGI application."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_runner.app import App


def build_site(app: App) -> Starlette:
    """Make the ASGI application of the site."""

    async def health(_: Request) -> Response:
        checks = await app.checks()
        well = all(check == "ok" for check in checks.values())
        body = {"status": "ok" if well else "degraded", "checks": checks}
        return JSONResponse(body, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})

    return Starlette(routes=[Route("/health", health)])
