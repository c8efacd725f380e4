"""Registration of clients by themselves (RFC 7591). It gives nobody anything but the right to ask the owner."""

import json
from typing import Any, Final

from mcp.shared.auth import OAuthClientMetadata
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from claude_runner.app import App
from claude_runner.auth import SCOPE, OAuthError, Refusal
from claude_runner.web._bodies import read_body
from claude_runner.web.oauth._answers import answer
from claude_runner.web.oauth._throttle import Throttle

LARGEST: Final = 16 * 2**10  # bytes
EACH: Final = 20  # from one network, in ten minutes; some clients register anew each time they connect
OVERALL: Final = 100

_GRANTS: Final = ("authorization_code", "refresh_token")
_METHODS: Final = ("none", "client_secret_post", "client_secret_basic")


class Registration:
    """The endpoint."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._throttle = Throttle(app.clock, each=EACH, overall=OVERALL, seconds=600)

    async def serve(self, request: Request) -> Response:
        """Keep a client.

        Raises:
            OAuthError: What it says of itself can't be used, or too many register.
        """
        self._throttle.admit(request)
        raw = await read_body(request.scope, request.receive, LARGEST)
        said = _metadata(raw)
        method = said.token_endpoint_auth_method or "client_secret_basic"
        if method not in _METHODS:
            raise _refused(f"token_endpoint_auth_method must be one of {', '.join(_METHODS)}")
        if "authorization_code" not in said.grant_types or "code" not in said.response_types:
            raise _refused("only the grant authorization_code with the response type code is served")
        now = self._app.clock.now()
        client, secret = await self._app.auth.register(
            said.client_name or "", _redirect_uris(raw), now, confidential=method != "none"
        )
        secrets = {} if secret is None else {"client_secret": secret, "client_secret_expires_at": 0}
        return answer(
            {
                "client_id": client.client_id,
                "client_id_issued_at": int(now.timestamp()),
                **secrets,
                "client_name": client.name,
                "redirect_uris": list(client.redirect_uris),
                "token_endpoint_auth_method": method,
                "grant_types": [grant for grant in _GRANTS if grant in said.grant_types],
                "response_types": ["code"],
                "scope": SCOPE,
            },
            201,
        )


def _metadata(raw: bytes) -> OAuthClientMetadata:
    try:
        return OAuthClientMetadata.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        wrong = (
            Refusal.INVALID_REDIRECT_URI
            if where.startswith("redirect_uris")
            else Refusal.INVALID_CLIENT_METADATA
        )
        raise OAuthError(wrong, f"{where}: {first['msg']}") from error


def _redirect_uris(raw: bytes) -> tuple[str, ...]:
    """Return the URIs as the client wrote them; those that were validated are normalised."""
    content: dict[str, Any] = json.loads(raw)
    return tuple(map(str, content["redirect_uris"] or ()))


def _refused(message: str) -> OAuthError:
    return OAuthError(Refusal.INVALID_CLIENT_METADATA, message)
