"""Requests for authorization that wait for the owner: sealed texts in his browser, not rows.

Whoever asks leaves nothing behind here until the owner has answered; what he then answers can't have been altered.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from claude_runner.auth._secrets import new_id
from claude_runner.auth._tokens import sign, verified

LIFE: Final = timedelta(minutes=10)
LONGEST_STATE: Final = 4096  # characters

_KIND: Final = "consent-request+jwt"


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What a client asks for.

    Attributes:
        redirect_uri: Where the answer is to be sent; the client's own.
        state: What the client wants to have back with it.
        code_challenge: What the code is bound to (RFC 7636, method S256).
        issuer: The origin that was asked.
        resource: What access is asked for.
    """

    client_id: str
    redirect_uri: str
    state: str | None
    code_challenge: str
    scope: str
    issuer: str
    resource: str


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request with what makes it one of a kind.

    Attributes:
        request_id: Different for each, however alike they are.
        expires_at: When it is no longer answered.
    """

    request: ConsentRequest
    request_id: str
    expires_at: datetime


def seal(key: bytes, request: ConsentRequest, now: datetime) -> str:
    """Return the text of a request, for the browser."""
    claims = {"request": asdict(request), "jti": new_id(), "exp": (now + LIFE).isoformat()}
    return sign(key, _KIND, claims)


def unseal(key: bytes, text: str, now: datetime) -> WaitingRequest | None:
    """Return the request of a text, `None` where it is none or is over."""
    claims = verified(key, _KIND, text)
    if claims is None:
        return None
    waiting = WaitingRequest(
        ConsentRequest(**claims["request"]), claims["jti"], datetime.fromisoformat(claims["exp"])
    )
    return waiting if now < waiting.expires_at else None
