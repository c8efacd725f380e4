"""Which endpoints pages of other sites may call: those that let nobody in by what a browser adds of its own accord."""

from mcp.server.auth.routes import cors_middleware
from starlette.routing import Route

from claude_runner.web.oauth._answers import Endpoint


def readable_by_pages(path: str, endpoint: Endpoint, method: str) -> Route:
    """Return a route that a client which runs in a browser may call, such as the inspector."""
    methods = [method, "OPTIONS"]
    return Route(path, cors_middleware(endpoint, methods), methods=methods)
