"""Every endpoint with its route."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.app import App
from claude_runner.web.api._endpoints import Endpoint, EndpointGroup
from claude_runner.web.api.about import AboutEndpoints
from claude_runner.web.api.calendar import CalendarEndpoints
from claude_runner.web.api.calls import CallEndpoints
from claude_runner.web.api.clients import ClientEndpoints
from claude_runner.web.api.credentials import CredentialEndpoints
from claude_runner.web.api.jobs import JobEndpoints
from claude_runner.web.api.notifications import NotificationEndpoints
from claude_runner.web.api.overview import OverviewEndpoints
from claude_runner.web.api.pauses import PauseEndpoints
from claude_runner.web.api.runs import RunEndpoints
from claude_runner.web.api.servers import ServerEndpoints
from claude_runner.web.api.settings import SettingsEndpoints
from claude_runner.web.api.usage import UsageEndpoints
from claude_runner.web.api.webhooks import WebhookEndpoints

GROUPS: Final[tuple[type[EndpointGroup], ...]] = (
    OverviewEndpoints,
    JobEndpoints,
    RunEndpoints,
    WebhookEndpoints,
    PauseEndpoints,
    NotificationEndpoints,
    ServerEndpoints,
    CredentialEndpoints,
    CallEndpoints,
    UsageEndpoints,
    CalendarEndpoints,
    SettingsEndpoints,
    ClientEndpoints,
)


def api_routes(app: App) -> list[Route]:
    """Return the routes of the API; they have to stand behind the owner's login."""
    endpoints = [endpoint for group in GROUPS for endpoint in group(app).endpoints()]
    endpoints += AboutEndpoints(app, endpoints.copy()).endpoints()
    paths: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.declared.path, {})[endpoint.declared.method] = endpoint
    return [Route(path, _Methods(methods).serve, methods=[*methods]) for path, methods in paths.items()]


class _Methods:
    """The endpoints at one path."""

    def __init__(self, methods: Mapping[str, Endpoint]) -> None:
        self._methods = methods

    async def serve(self, request: Request) -> Response:
        """Answer a request by the endpoint of its method; HEAD is answered as GET."""
        method = "GET" if request.method == "HEAD" else request.method
        return await self._methods[method].serve(request)
