"""Lets in whoever brings an access token, in the one place where it may be (RFC 6750; OAuth 2.1, section 5.2.1)."""

import re
from typing import Final

import anyio
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.authentication import AuthCredentials
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from claude_runner.app import App
from claude_runner.auth import SCOPE, Access
from claude_runner.background import background
from claude_runner.hub import Subscription, Topic
from claude_runner.web.oauth._answers import answer
from claude_runner.web.oauth._metadata import PROTECTED_RESOURCE

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_INSTEAD: Final = "an access token is sent in the Authorization header alone"


class BearerGate:
    """Stands before MCP's endpoints.

    There is one scope, and every token has it: what a client may do beyond that is for the rights that the owner gives
    to jobs and runs.
    """

    def __init__(self, inner: ASGIApp, app: App) -> None:
        self._inner = inner
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request of a client with access; refuse any other."""
        token = _token_of(scope)
        if isinstance(token, Response):
            await token(scope, receive, send)
            return
        access = await self._access(token, scope)
        if access is None:
            await _unknown(scope)(scope, receive, send)
            return
        user = AuthenticatedUser(_for_the_library(token, access))
        scope["user"], scope["auth"] = user, AuthCredentials(user.scopes)
        context = auth_context_var.set(user)
        try:
            if scope["method"] == "GET":
                await self._while_granted(token, access, scope, receive, send)
            else:
                await self._inner(scope, receive, send)
        finally:
            auth_context_var.reset(context)

    async def _access(self, token: str, scope: Scope) -> Access | None:
        return await self._app.auth.check(token, scope["state"]["origin"], self._app.clock.now())

    async def _while_granted(
        self, token: str, access: Access, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a stream, which may stay open for days, until its client's access is taken back."""
        begun = ended = False

        async def noted(message: Message) -> None:
            nonlocal begun, ended
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        async def watch(changes: Subscription) -> None:
            try:
                await self._taken_back(changes, token, access, scope)
            finally:
                ending.cancel()

        ending = anyio.CancelScope()
        with self._app.hub.subscribe(Topic.AUTH) as changes:
            async with background(watch(changes)):
                with ending:
                    await self._inner(scope, receive, noted)
        if not begun:
            await _unknown(scope)(scope, receive, send)
        elif not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _taken_back(self, changes: Subscription, token: str, access: Access, scope: Scope) -> None:
        """Return once the access is."""
        while True:
            await changes.changed.wait()
            keys = {change.key for change in changes.take()}
            if keys & {"", access.client_id} and await self._access(token, scope) is None:
                return


def _token_of(scope: Scope) -> str | Response:
    """Return the token that a request brings, or the answer to one that brings none as it should."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) > 1 or b"access_token=" in scope["query_string"] or _is_form(scope):
        return answer({"error": "invalid_request", "error_description": _INSTEAD}, 400)
    scheme, _, token = given[0].decode("latin-1").partition(" ") if given else ("", "", "")
    if scheme.casefold() != "bearer":
        return _challenged(scope, "")
    token = token.strip(" ")
    return token if _TOKEN.fullmatch(token) else _unknown(scope)


def _is_form(scope: Scope) -> bool:
    """Tell whether the body is a form, which MCP has none of: it could only be there to carry a token."""
    return any(
        name == b"content-type" and value.lower().startswith(b"application/x-www-form-urlencoded")
        for name, value in scope["headers"]
    )


def _unknown(scope: Scope) -> Response:
    why = "the access token is not valid here: it is over, was revoked, or is for another server"
    return _challenged(scope, f'error="invalid_token", error_description="{why}", ', why)


def _challenged(scope: Scope, error: str, why: str = "an access token is needed") -> Response:
    """Return the answer that tells a client how to come by a token (RFC 9728, section 5.1)."""
    origin: str = scope["state"]["origin"]
    endpoint = "/mcp" if scope["path"].startswith("/mcp") else "/sse"
    refused = answer({"error": "invalid_token" if error else "unauthorized", "error_description": why}, 401)
    refused.headers["WWW-Authenticate"] = (
        f'Bearer {error}scope="{SCOPE}", resource_metadata="{origin}{PROTECTED_RESOURCE}{endpoint}"'
    )
    return refused


def _for_the_library(token: str, access: Access) -> AccessToken:
    return AccessToken(
        token=token,
        client_id=access.client_id,
        scopes=access.scope.split(),
        expires_at=int(access.expires_at.timestamp()),
        resource=access.resource,
        subject=access.subject,
        claims={"iss": access.issuer},
    )
