"""The documents by which clients find their way: the authorization server's (RFC 8414), its resources' (RFC 9728).

All of it is said of the origin that the request came by, in plain strings: a client compares them letter by letter.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_runner.auth import ENDPOINTS, SCOPE
from claude_runner.web.oauth._cors import readable_by_pages

AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
OPENID: Final = "/.well-known/openid-configuration"
PROTECTED_RESOURCE: Final = "/.well-known/oauth-protected-resource"

_METHODS: Final = ["none", "client_secret_post", "client_secret_basic"]
_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def metadata_routes() -> list[Route]:
    """Return the documents' routes: by themselves and for each endpoint, as clients of different ages ask for them."""
    routes = []
    for path in ("", *ENDPOINTS):
        routes += [readable_by_pages(name + path, _server, "GET") for name in (AUTHORIZATION_SERVER, OPENID)]
        routes.append(readable_by_pages(PROTECTED_RESOURCE + path, _resource, "GET"))
        if path:  # where OpenID Connect Discovery 1.0, section 4, has it
            routes.append(readable_by_pages(path + OPENID, _server, "GET"))
    return routes


async def _server(request: Request) -> Response:
    origin: str = request.state.origin
    return _document(
        {
            "issuer": origin,
            "authorization_endpoint": f"{origin}/oauth/authorize",
            "token_endpoint": f"{origin}/oauth/token",
            "registration_endpoint": f"{origin}/oauth/register",
            "revocation_endpoint": f"{origin}/oauth/revoke",
            "scopes_supported": [SCOPE],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": _METHODS,
            "revocation_endpoint_auth_methods_supported": _METHODS,
            "code_challenge_methods_supported": ["S256"],
            "client_id_metadata_document_supported": True,
            "authorization_response_iss_parameter_supported": True,
        }
    )


async def _resource(request: Request) -> Response:
    origin: str = request.state.origin
    return _document(
        {
            "resource": origin + request.scope["path"].removeprefix(PROTECTED_RESOURCE),
            "authorization_servers": [origin],
            "scopes_supported": [SCOPE],
            "bearer_methods_supported": ["header"],
            "resource_name": "Claude Runner",
        }
    )


def _document(content: dict[str, object]) -> Response:
    return JSONResponse(content, headers=_HEADERS)
