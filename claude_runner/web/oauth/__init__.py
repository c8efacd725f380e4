"""OAuth 2.1 over HTTP: the authorization server's endpoints and pages, and the gate before what it protects.

The endpoints are advertised under `/oauth`; some clients ask at the origin's root whatever they are told, and are
served there as well.
"""

from starlette.routing import BaseRoute, Route

from claude_runner.app import App
from claude_runner.web._login import LoginGate
from claude_runner.web.oauth._answers import refusing
from claude_runner.web.oauth._authorize import Authorization
from claude_runner.web.oauth._bearer import BearerGate
from claude_runner.web.oauth._consent import PATH, Consent
from claude_runner.web.oauth._cors import readable_by_pages
from claude_runner.web.oauth._documents import Documents
from claude_runner.web.oauth._metadata import metadata_routes
from claude_runner.web.oauth._pages import STYLE, style
from claude_runner.web.oauth._registration import Registration
from claude_runner.web.oauth._token import Tokens

__all__ = ["BearerGate", "oauth_routes"]


def oauth_routes(app: App, login: LoginGate) -> list[BaseRoute]:
    """Return the routes of the authorization server.

    Args:
        app: Whose clients and tokens they are.
        login: Stands before the owner's consent.
    """
    authorization = Authorization(app, Documents(app.clock))
    consent = Consent(app, login, authorization)
    registration = Registration(app)
    tokens = Tokens(app)
    routes: list[BaseRoute] = [
        *metadata_routes(),
        Route(PATH, consent.serve, methods=["GET", "POST"]),
        Route(STYLE, style),
    ]
    for prefix in ("/oauth", ""):
        routes += [
            Route(f"{prefix}/authorize", authorization.serve, methods=["GET", "POST"]),
            readable_by_pages(f"{prefix}/token", refusing(tokens.exchange), "POST"),
            readable_by_pages(f"{prefix}/register", refusing(registration.serve), "POST"),
            readable_by_pages(f"{prefix}/revoke", refusing(tokens.revoke), "POST"),
        ]
    return routes
