"""The door of webhooks, of which there are none yet."""

from starlette.types import Receive, Scope, Send

from claude_runner.app import App
from claude_runner.web._answers import error_answer


class WebhookDoor:
    """Knows no webhook."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse."""
        await error_answer("not_found", "there is no such webhook", 404)(scope, receive, send)
