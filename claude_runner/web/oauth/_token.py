"""The token endpoint and that of revocation: programs talk here, each for itself."""

import base64
import binascii
import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import Response

from claude_runner.app import App
from claude_runner.auth import Client, CodeExchange, OAuthError, RefreshExchange, Refusal, TokenPair
from claude_runner.web.oauth._answers import NOT_KEPT, answer
from claude_runner.web.oauth._authorize import resource_of
from claude_runner.web.oauth._parameters import Parameters, form_of

_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, section 4.1


class Tokens:
    """Both endpoints."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def exchange(self, request: Request) -> Response:
        """Exchange a code or a refresh token for a pair of tokens (RFC 6749, sections 4.1.3 and 6).

        Raises:
            OAuthError: It can't be done.
        """
        given = await form_of(request)
        client = await self._client(request, given)
        issuer: str = request.state.origin
        match given.get("grant_type"):
            case "authorization_code":
                pair = await self._redeem(given, client, issuer)
            case "refresh_token":
                pair = await self._refresh(given, client, issuer)
            case None:
                raise OAuthError(Refusal.INVALID_REQUEST, "grant_type is missing")
            case _:
                raise OAuthError(
                    Refusal.UNSUPPORTED_GRANT_TYPE, "grant_type must be authorization_code or refresh_token"
                )
        return answer(
            {
                "access_token": pair.access_token,
                "token_type": "Bearer",
                "expires_in": pair.seconds,
                "refresh_token": pair.refresh_token,
                "scope": pair.scope,
            }
        )

    async def revoke(self, request: Request) -> Response:
        """Take back what a token of the client's goes back to; of any other nothing is said (RFC 7009).

        Raises:
            OAuthError: The client is not what it says, or there is no token.
        """
        given = await form_of(request)
        client = await self._client(request, given)
        await self._app.auth.revoke(client, _needed(given, "token"), self._app.clock.now())
        return Response(status_code=200, headers=dict(NOT_KEPT))

    async def _redeem(self, given: Parameters, client: Client, issuer: str) -> TokenPair:
        verifier = _needed(given, "code_verifier")
        if not _VERIFIER.fullmatch(verifier):
            raise OAuthError(
                Refusal.INVALID_REQUEST, "code_verifier must be 43 to 128 letters, digits and -._~"
            )
        exchange = CodeExchange(
            client.client_id,
            issuer,
            resource_of(given, issuer),
            _needed(given, "code"),
            verifier,
            given.get("redirect_uri"),
        )
        return await self._app.auth.redeem(exchange, self._app.clock.now())

    async def _refresh(self, given: Parameters, client: Client, issuer: str) -> TokenPair:
        exchange = RefreshExchange(
            client.client_id,
            issuer,
            resource_of(given, issuer),
            _needed(given, "refresh_token"),
            given.get("scope"),
        )
        return await self._app.auth.refresh(exchange, self._app.clock.now())

    async def _client(self, request: Request, given: Parameters) -> Client:
        """Return the client that asks, once it has proven to be itself (RFC 6749, section 2.3.1).

        Raises:
            OAuthError: It has not.
        """
        header = request.headers.get("authorization")
        if header is None:
            client_id, secret = given.get("client_id"), given.get("client_secret")
        else:
            client_id, secret = _of_header(header)
            if "client_secret" in given or given.get("client_id", client_id) != client_id:
                raise OAuthError(Refusal.INVALID_REQUEST, "say who you are in one way, not in two")
        if client_id is None:
            raise OAuthError(Refusal.INVALID_CLIENT, "client_id is missing")
        return await self._app.auth.proven_client(client_id, secret)


def _of_header(header: str) -> tuple[str, str | None]:
    scheme, _, encoded = header.partition(" ")
    with suppress(binascii.Error, ValueError):
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        if scheme.casefold() == "basic" and colon:
            return unquote_plus(name), unquote_plus(secret) or None
    raise OAuthError(Refusal.INVALID_CLIENT, "the Authorization header can't be read")


def _needed(given: Parameters, name: str) -> str:
    if name not in given:
        raise OAuthError(Refusal.INVALID_REQUEST, f"{name} is missing")
    return given[name]
