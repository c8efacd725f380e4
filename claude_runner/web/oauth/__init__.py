"""Who may use MCP over the network: nobody yet."""

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from claude_runner.app import App
from claude_runner.web._answers import error_answer
from claude_runner.web._login import LoginGate


def oauth_routes(_app: App, _login: LoginGate) -> list[BaseRoute]:
    """Return no routes."""
    return []


class BearerGate:
    """Lets nobody in."""

    def __init__(self, inner: ASGIApp, app: App) -> None:
        self.inner, self.app = inner, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        await error_answer("login", "nobody is let in yet", 401)(scope, receive, send)
