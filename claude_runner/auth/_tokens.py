"""Access tokens as clients hold them: JWTs of the profile for OAuth (RFC 9068), signed with HMAC-SHA256."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from claude_runner.auth._resources import resources_of

ALGORITHM: Final = "HS256"
ACCESS: Final = "at+jwt"
LONGEST: Final = 4096  # characters of an access token; ours have about 500


@dataclass(frozen=True, slots=True)
class Access:
    """What a token lets its holder do.

    Attributes:
        grant_id: What the owner consented to.
        client_id: Whom it was given to.
        subject: On whose behalf.
        scope: What for, in words of the protocol.
        issuer: The origin at which it was given out.
        resource: What it is for: that origin, or an endpoint of it.
        expires_at: Until when, in whole seconds.
    """

    grant_id: str
    client_id: str
    subject: str
    scope: str
    issuer: str
    resource: str
    expires_at: datetime

    def is_for(self, origin: str) -> bool:
        """Tell whether it is for the server as it is reached at an origin (RFC 8707; RFC 9068, section 4)."""
        return self.issuer == origin and self.resource in resources_of(origin)

    @property
    def claims(self) -> dict[str, Any]:
        """Return what a token says of it."""
        return {
            "iss": self.issuer,
            "aud": self.resource,
            "sub": self.subject,
            "client_id": self.client_id,
            "scope": self.scope,
            "exp": int(self.expires_at.timestamp()),
        }


def sign(key: str | bytes, kind: str, claims: Mapping[str, Any]) -> str:
    """Return a JWT of a kind, which its `typ` names so that none passes for another (RFC 8725, section 3.11)."""
    import jwt  # noqa: PLC0415 - imports much, and stdio needs it not

    return jwt.encode(dict(claims), key, algorithm=ALGORITHM, headers={"typ": kind})


def verified(key: str | bytes, kind: str, token: str) -> Mapping[str, Any] | None:
    """Return the claims of a JWT of a kind that the key signed, `None` where it is none; times are not looked at."""
    import jwt  # noqa: PLC0415 - as above

    options: Any = {f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss", "sub", "jti")}
    try:
        decoded = jwt.decode_complete(token, key, algorithms=[ALGORITHM], options=options)
    except (jwt.InvalidTokenError, ValueError):  # what is no text, no base64 or no JSON in an unusual way
        return None
    claims: Mapping[str, Any] = decoded["payload"]
    return claims if decoded["header"].get("typ") == kind else None


def signed_access(key: str, access: Access, jti: str, now: datetime) -> str:
    """Return the token of an access."""
    return sign(key, ACCESS, {**access.claims, "iat": int(now.timestamp()), "jti": jti})


def verified_access(key: str, token: str) -> Mapping[str, Any] | None:
    """Return the claims of an access token that the key signed, expired or not, its `jti` a text; else `None`."""
    claims = verified(key, ACCESS, token) if len(token) <= LONGEST else None
    return claims if claims is not None and isinstance(claims.get("jti"), str) else None


def whole_seconds(instant: datetime) -> datetime:
    """Return an instant as a JWT can name it."""
    return datetime.fromtimestamp(int(instant.timestamp()), UTC)
