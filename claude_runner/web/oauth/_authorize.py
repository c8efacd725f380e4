"""The authorization endpoint: looks at what a client asks for, and sends the browser on to the owner's consent.

Whoever names a redirect URI that is not the client's is told so here and never sent there (RFC 9700, section 4.11.1).
What is wrong with the rest is told to the client there; but as anybody may register, no browser is sent to a stranger's
address before the owner was asked (section 4.11.2): it is shown here.
"""

import re
from typing import Final
from urllib.parse import urlencode

from fastmcp.server.auth.redirect_validation import build_client_redirect
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from claude_runner.app import App
from claude_runner.auth import (
    CLAUDE,
    LONGEST_STATE,
    SCOPE,
    Client,
    ConsentRequest,
    OAuthError,
    Refusal,
    canonical,
    parse_redirect,
    resources_of,
)
from claude_runner.web.oauth._answers import NOT_KEPT, answer, words_of
from claude_runner.web.oauth._documents import Documents
from claude_runner.web.oauth._pages import page
from claude_runner.web.oauth._parameters import Parameters, form_of, query_of

_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits, as S256 has them


class Authorization:
    """The endpoint.

    Attributes:
        documents: Knows clients that did not register.
    """

    def __init__(self, app: App, documents: Documents) -> None:
        self.documents = documents
        self._app = app

    async def serve(self, request: Request) -> Response:
        """Send the browser to the owner's consent, or refuse."""
        try:
            asked = query_of(request) if request.method == "GET" else await form_of(request)
            client = await self.client(asked.get("client_id", ""), request)
            redirect_uri = client.redirect(asked.get("redirect_uri"))
        except OAuthError as error:
            return refused_here(request, error)
        issuer: str = request.state.origin
        state = asked.get("state")
        try:
            wanted = _wanted(asked, client, redirect_uri, issuer)
        except OAuthError as error:
            if _is_a_browser(request) and not _is_known(redirect_uri):
                return refused_here(request, error)
            return send_back(redirect_uri, words_of(error), state, issuer)
        sealed = self._app.auth.seal(wanted, self._app.clock.now())
        return _to(f"{issuer}/oauth/consent?{urlencode({'request': sealed})}", 302)

    async def client(self, client_id: str, request: Request) -> Client:
        """Return the client of an id.

        Raises:
            OAuthError: There is none.
        """
        client = await self.documents.find(client_id, request) or await self._app.auth.find_client(client_id)
        if client is None:
            raise OAuthError(
                Refusal.INVALID_CLIENT,
                "there is no such client; register it, or remove the connection and add it anew",
            )
        return client


def send_back(redirect_uri: str, words: Parameters, state: str | None, issuer: str) -> Response:
    """Return the answer that takes the browser back to the client, and says who gives it (RFC 9207)."""
    answered = words | ({"state": state} if state is not None else {})
    return _to(build_client_redirect(redirect_uri, answered, iss=issuer), 303)


def refused_here(request: Request, error: OAuthError) -> Response:
    """Return a page for a browser, JSON for a program."""
    if _is_a_browser(request):
        return page("refused.html", 400, title="This app can not be connected", sentence=str(error))
    return answer(words_of(error), 400)


def _is_a_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _is_known(redirect_uri: str) -> bool:
    """Tell whether a redirect leads to Claude or to the computer of whoever asks, and nobody is lured there."""
    return redirect_uri in CLAUDE or parse_redirect(redirect_uri).is_loopback


def _wanted(asked: Parameters, client: Client, redirect_uri: str, issuer: str) -> ConsentRequest:
    """Return what is asked for.

    Raises:
        OAuthError: It can't be had.
    """
    if asked.get("response_type") != "code":
        raise OAuthError(Refusal.UNSUPPORTED_RESPONSE_TYPE, "response_type must be code")
    # A method that is missing is 'plain' (RFC 7636, section 4.3).
    if asked.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(
        asked.get("code_challenge", "")
    ):
        raise OAuthError(
            Refusal.INVALID_REQUEST, "PKCE is needed: a code_challenge, with the code_challenge_method S256"
        )
    if "request" in asked or "request_uri" in asked:
        raise OAuthError(Refusal.INVALID_REQUEST, "request objects are not served")
    if len(asked.get("state", "")) > LONGEST_STATE:
        raise OAuthError(Refusal.INVALID_REQUEST, f"state has more than {LONGEST_STATE} characters")
    if SCOPE not in asked.get("scope", SCOPE).split():
        raise OAuthError(Refusal.INVALID_SCOPE, f"the one scope there is is {SCOPE}")
    return ConsentRequest(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        state=asked.get("state"),
        code_challenge=asked["code_challenge"],
        scope=SCOPE,
        issuer=issuer,
        resource=resource_of(asked, issuer) or f"{issuer}/mcp",
    )


def resource_of(asked: Parameters, issuer: str) -> str | None:
    """Return the resource that is asked for, `None` where none is named (RFC 8707, section 2).

    Raises:
        OAuthError: It is none of this server's, as it is reached at the origin.
    """
    if "resource" not in asked:
        return None
    resource = canonical(asked["resource"])
    if resource not in resources_of(issuer):
        raise OAuthError(Refusal.INVALID_TARGET, f"resource must be {issuer}, or /mcp or /sse of it")
    return resource


def _to(url: str, status: int) -> Response:
    return RedirectResponse(url, status, headers={**NOT_KEPT, "Referrer-Policy": "no-referrer"})
