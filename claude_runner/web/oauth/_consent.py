"""The owner's consent: what asks, where the answer will go, and what it may do; then once yes or no.

The answer counts only from the page that was shown: it brings a token that fits the request and a cookie of the browser
which the page was shown to. The owner's login stands before both.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from claude_runner.app import App
from claude_runner.auth import (
    Client,
    OAuthError,
    Redirect,
    Refusal,
    Source,
    WaitingRequest,
    parse_redirect,
)
from claude_runner.web._login import LoginGate
from claude_runner.web.oauth._authorize import Authorization, refused_here, send_back
from claude_runner.web.oauth._pages import page
from claude_runner.web.oauth._parameters import Parameters, form_of, query_of

CLAUDES_HOSTS: Final = frozenset({"claude.ai", "claude.com"})
PATH: Final = "/oauth/consent"

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CLAUDES_NAMES: Final = ("claude", "anthropic")


class _Asked(NamedTuple):
    waiting: WaitingRequest
    client: Client


class Consent:
    """The page, and what becomes of it."""

    def __init__(self, app: App, login: LoginGate, authorization: Authorization) -> None:
        self._app = app
        self._login = login
        self._authorization = authorization

    async def serve(self, request: Request) -> Response:
        """Show the page, or take the answer."""
        if (refusal := await self._login.refusal(request)) is not None:
            return refusal
        try:
            if request.method == "POST":
                return await self._answered(request, await form_of(request))
            return await self._shown(request, query_of(request))
        except OAuthError as error:
            return refused_here(request, error)

    async def _shown(self, request: Request, given: Parameters) -> Response:
        asked = await self._asked(request, given)
        cookie = request.cookies.get(_cookie_name(request), "")
        if not _COOKIE.fullmatch(cookie):
            cookie = secrets.token_urlsafe(32)
        redirect = parse_redirect(asked.waiting.request.redirect_uri)
        shown = page(
            "consent.html",
            sends_to=_source(redirect),
            client=asked.client,
            redirect=redirect,
            is_own=asked.client.source in {Source.AUTO, Source.ENVIRONMENT},
            known_at=_known_at(asked.client),
            is_posing=_is_posing(asked.client, redirect),
            resource=asked.waiting.request.resource,
            sealed=given["request"],
            token=self._token(asked.waiting, cookie),
        )
        secure = request.state.origin.startswith("https://")
        shown.set_cookie(
            _cookie_name(request),
            cookie,
            path="/" if secure else PATH,
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return shown

    async def _answered(self, request: Request, given: Parameters) -> Response:
        asked = await self._asked(request, given)
        cookie = request.cookies.get(_cookie_name(request), "")
        token = self._token(asked.waiting, cookie)
        if not _COOKIE.fullmatch(cookie) or not hmac.compare_digest(
            given.get("token", "").encode(), token.encode()
        ):
            raise OAuthError(
                Refusal.INVALID_REQUEST,
                "this answer is not from the page that you were shown; load the page again",
            )
        wanted = asked.waiting.request
        now = self._app.clock.now()
        if given.get("answer") == "allow":
            words = {"code": await self._app.auth.consent(asked.waiting, asked.client, now)}
        else:
            await self._app.auth.deny(asked.waiting, now)
            words = {"error": str(Refusal.ACCESS_DENIED), "error_description": "the owner did not consent"}
        return send_back(wanted.redirect_uri, words, wanted.state, wanted.issuer)

    async def _asked(self, request: Request, given: Parameters) -> _Asked:
        """Return what waits for an answer, with the client as it is now.

        Raises:
            OAuthError: Nothing does, or the client is no longer what it was.
        """
        waiting = self._app.auth.unseal(given.get("request", ""), self._app.clock.now())
        if waiting is None or waiting.request.issuer != request.state.origin:
            raise OAuthError(
                Refusal.INVALID_REQUEST, "this request is over; connect again from the app that you came from"
            )
        client = await self._authorization.client(waiting.request.client_id, request)
        client.redirect(waiting.request.redirect_uri)
        return _Asked(waiting, client)

    def _token(self, waiting: WaitingRequest, cookie: str) -> str:
        key = self._app.auth.derived_key("consent pages")
        return hmac.new(key, f"{waiting.request_id} {cookie}".encode(), hashlib.sha256).hexdigest()


def _cookie_name(request: Request) -> str:
    """Return a name that no other host can set a cookie of, where the browser has such (RFC 6265bis, 4.1.3.2)."""
    return "__Host-consent" if request.state.origin.startswith("https://") else "consent"


def _source(redirect: Redirect) -> str:
    """Return a URI's origin as CSP can name it, which has no word for an address of IPv6."""
    return f"{redirect.scheme}:" if redirect.host.startswith("[") else redirect.origin


def _known_at(client: Client) -> str | None:
    """Return the host of a client's document, `None` where it is not known by one."""
    return urlsplit(client.client_id).hostname if client.source is Source.DOCUMENT else None


def _is_posing(client: Client, redirect: Redirect) -> bool:
    """Tell whether a client calls itself what it does not seem to be."""
    named = any(name in client.name.casefold() for name in _CLAUDES_NAMES)
    strange = client.source in {Source.REGISTERED, Source.DOCUMENT} and _known_at(client) not in CLAUDES_HOSTS
    return named and strange and redirect.host not in CLAUDES_HOSTS
