"""Where codes may be sent: which URIs a client may name, and when one is a client's own (RFC 9700, section 2.1).

URIs are compared as they are written, never after being normalised: what a browser would make of one that only
becomes the registered one by decoding or resolving it is of no interest then.
"""

import re
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from claude_runner.auth._refusals import OAuthError, Refusal
from claude_runner.config import is_host

LONGEST: Final = 2000  # characters
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

CLAUDE: Final = ("https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback")
NATIVE: Final = tuple(  # of Claude Code, FastMCP's client and the inspector; each by any port
    f"http://{host}{path}"
    for host in ("localhost", "127.0.0.1", "[::1]")
    for path in ("/callback", "/oauth/callback", "/oauth/callback/debug")
)

# Lower case alone, no user, no wildcard, no fragment, no backslash: nothing that two readers read differently.
_URI: Final = re.compile(
    r"(?P<scheme>https?)://(?P<where>(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<rest>(?:/[A-Za-z0-9._~!$&'()+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()+,;=:@%/?-]*)?)"
)
# Parameters of the answer (RFC 6749, section 4.1.2; RFC 9207), which must not be there twice.
_OURS: Final = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})


class Redirect(NamedTuple):
    """A redirect URI's parts, as they are written."""

    scheme: str
    host: str
    port: str | None
    rest: str

    @property
    def is_loopback(self) -> bool:
        """Tell whether it leads to the computer that the browser runs on."""
        return self.host in LOOPBACK

    @property
    def origin(self) -> str:
        """Return scheme, host and port."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")


def parse_redirect(uri: str) -> Redirect:
    """Return the parts of a URI that codes may be sent to, if the owner consents.

    Raises:
        OAuthError: It is none: `https`, or `http` on this computer alone, and plain.
    """
    match = _URI.fullmatch(uri) if len(uri) <= LONGEST else None
    if match is None or not is_host(match["where"]) or _wanders(match["rest"]) or _answers(match["rest"]):
        raise OAuthError(
            Refusal.INVALID_REDIRECT_URI,
            f"{uri[:200]!r} can't be a redirect URI: it must be a plain https URL, its host in lower case, without"
            " user, fragment, wildcard, dot segments and parameters of OAuth's answers",
        )
    redirect = Redirect(match["scheme"], match["host"], match["port"], match["rest"])
    if redirect.scheme == "http" and not redirect.is_loopback:
        raise OAuthError(
            Refusal.INVALID_REDIRECT_URI, f"{uri[:200]!r} is http; only localhost, 127.0.0.1 and [::1] may be"
        )
    return redirect


def is_redirect(uri: str) -> bool:
    """Tell whether codes may be sent to a URI, if the owner consents."""
    with suppress(OAuthError):
        return parse_redirect(uri) is not None
    return False


def is_registered(requested: str, registered: tuple[str, ...]) -> bool:
    """Tell whether a URI is one of a client's as it is written, on this computer by any port (RFC 8252, 7.3)."""
    with suppress(OAuthError):
        asked = parse_redirect(requested)
        return any(_is_same(asked, parse_redirect(uri)) for uri in registered)
    return False


def _is_same(asked: Redirect, known: Redirect) -> bool:
    if known.is_loopback and known.scheme == "http":
        return asked._replace(port=None) == known._replace(port=None)
    return asked == known


def _wanders(rest: str) -> bool:
    """Tell whether a path has segments that lead up or nowhere, encoded or not, or what can't be decoded."""
    path = rest.partition("?")[0]
    once = unquote(path)
    decoded = unquote(once)
    if "\\" in decoded or not decoded.isprintable():
        return True
    return any(segment in {".", ".."} for form in (path, once, decoded) for segment in form.split("/"))


def _answers(rest: str) -> bool:
    query = rest.partition("?")[2]
    return any(name in _OURS for name, _ in parse_qsl(query, keep_blank_values=True))
