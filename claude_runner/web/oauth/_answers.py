"""What clients are answered: OAuth's own shape of refusals, and nothing that is kept by a cache."""

import re
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from claude_runner.auth import OAuthError, Refusal

NOT_KEPT: Final = MappingProxyType(
    {"Cache-Control": "no-store", "Pragma": "no-cache", "X-Content-Type-Options": "nosniff"}
)

_STATUS: Final = MappingProxyType({Refusal.INVALID_CLIENT: 401, Refusal.TEMPORARILY_UNAVAILABLE: 429})
_NOT_PLAIN: Final = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]")  # RFC 6749, section 5.2

Endpoint = Callable[[Request], Awaitable[Response]]


def words_of(error: OAuthError) -> dict[str, str]:
    """Return the parameters that tell of a refusal."""
    return {"error": str(error.refusal), "error_description": _NOT_PLAIN.sub("?", str(error))}


def answer(content: Mapping[str, object], status: int = 200) -> JSONResponse:
    """Return an answer to a client."""
    return JSONResponse(dict(content), status_code=status, headers=dict(NOT_KEPT))


def refusing(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with what it refuses answered as JSON (RFC 6749, section 5.2; RFC 7591, section 3.2.2)."""

    async def served(request: Request) -> Response:
        try:
            return await endpoint(request)
        except OAuthError as error:
            refused = answer(words_of(error), _STATUS.get(error.refusal, 400))
            if refused.status_code == 401 and "authorization" in request.headers:
                refused.headers["WWW-Authenticate"] = 'Basic realm="Claude Runner"'
            if refused.status_code == 429:
                refused.headers["Retry-After"] = str(getattr(error, "seconds", 60))
            return refused

    return served
