"""What the owner consented to, and what came of it: a code, then pairs of tokens, each pair for the one before.

All of it goes back to one grant, and falls with it. That is what a replay costs: whoever uses a code twice, or a
refresh token that was exchanged a while ago, has it from somebody else, and nobody can tell which of the two is the
client (RFC 6749, section 4.1.2; RFC 9700, section 4.14.2).
"""

import base64
import hashlib
import hmac
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from claude_runner.auth._exchanges import CodeExchange, Exchange, RefreshExchange, RefusedError, TokenPair
from claude_runner.auth._refusals import OAuthError, Refusal
from claude_runner.auth._registry import UNUSED_LIFE, note_use
from claude_runner.auth._requests import ConsentRequest
from claude_runner.auth._secrets import new_id, new_secret, sha256
from claude_runner.auth._tokens import Access, signed_access, whole_seconds
from claude_runner.db import Connection, from_text, to_text

OWNER: Final = "owner"  # the one on whose behalf anything is done here
CODE_LIFE: Final = timedelta(seconds=60)
REFRESH_LIFE: Final = timedelta(days=60)  # since it was last exchanged
GRACE: Final = timedelta(seconds=45)  # some clients refresh from two places at once, or lose the answer
MEMORY: Final = timedelta(days=7)  # how long a replay is known for one

_GRANT: Final = (
    "INSERT INTO oauth_grants (id, client_id, subject, scope, issuer, resource, created_at)"
    " VALUES (:id, :client_id, :subject, :scope, :issuer, :resource, :now)"
)
_FIND_CODE: Final = (
    "SELECT t.*, g.* FROM oauth_codes t JOIN oauth_grants g ON g.id = t.grant_id WHERE t.code_sha256 = :hash"
)
_FIND_REFRESH: Final = (
    "SELECT t.*, g.* FROM oauth_refresh_tokens t JOIN oauth_grants g ON g.id = t.grant_id"
    " WHERE t.token_sha256 = :hash"
)
_FIND_ACCESS: Final = (
    "SELECT g.*, t.expires_at FROM oauth_access_tokens t JOIN oauth_grants g ON g.id = t.grant_id"
    " WHERE t.jti_sha256 = :hash AND g.revoked_at IS NULL"
)
# In this order: what is deleted first is what the next ones look for.
_TIDY: Final = (
    "DELETE FROM oauth_answered WHERE expires_at < :now",
    "DELETE FROM oauth_codes WHERE (used_at IS NULL AND expires_at < :now) OR used_at < :forgotten",
    "DELETE FROM oauth_refresh_tokens WHERE expires_at < :now",
    "DELETE FROM oauth_access_tokens WHERE expires_at < :now",
    "DELETE FROM oauth_grants WHERE revoked_at < :forgotten OR NOT ("
    "EXISTS (SELECT 1 FROM oauth_codes t WHERE t.grant_id = oauth_grants.id)"
    " OR EXISTS (SELECT 1 FROM oauth_refresh_tokens t WHERE t.grant_id = oauth_grants.id)"
    " OR EXISTS (SELECT 1 FROM oauth_access_tokens t WHERE t.grant_id = oauth_grants.id))",
    "DELETE FROM oauth_clients WHERE source IN ('registered', 'document')"
    " AND ((last_used_at IS NULL AND created_at < :unused) OR last_used_at < :idle)"
    " AND NOT EXISTS (SELECT 1 FROM oauth_grants g WHERE g.client_id = oauth_clients.client_id)",
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Gives out tokens: under this key, good for so long."""

    key: str
    access_life: timedelta

    def pair(self, c: Connection, grant: sqlite3.Row, now: datetime) -> TokenPair:
        """Write a new pair of tokens of a grant."""
        refresh = new_secret()
        insert = (
            "INSERT INTO oauth_refresh_tokens (token_sha256, grant_id, created_at, expires_at)"
            " VALUES (:hash, :grant_id, :now, :expires_at)"
        )
        values = {"hash": sha256(refresh), "grant_id": grant["id"], "now": to_text(now)}
        c.execute(insert, values | {"expires_at": to_text(now + REFRESH_LIFE)})
        token = self.access_token(c, grant, now, self.access_life)
        return TokenPair(token, refresh, int(self.access_life.total_seconds()), grant["scope"])

    def access_token(self, c: Connection, grant: sqlite3.Row, now: datetime, life: timedelta) -> str:
        """Write a new access token of a grant."""
        jti = new_id()
        expires_at = whole_seconds(now + life)
        insert = (
            "INSERT INTO oauth_access_tokens (jti_sha256, grant_id, expires_at)"
            " VALUES (:hash, :grant_id, :expires_at)"
        )
        values = {"hash": sha256(jti), "grant_id": grant["id"], "expires_at": to_text(expires_at)}
        c.execute(insert, values)
        note_use(c, grant["client_id"], now)
        return signed_access(self.key, _access(grant, expires_at), jti, now)

    def redeem(self, c: Connection, exchange: CodeExchange, now: datetime) -> TokenPair | RefusedError:
        """Exchange a code; a second time revokes what came of the first.

        Raises:
            OAuthError: It can't be; nothing has changed.
        """
        code = c.execute(_FIND_CODE, {"hash": sha256(exchange.secret)}).fetchone()
        grant = _own(code, exchange, "code")
        if grant["used_at"] is not None:
            revoke(c, grant["id"], "code_replay", now)
            return RefusedError(Refusal.INVALID_GRANT, "the code was used before; what came of it is revoked")
        if from_text(grant["expires_at"]) <= now:
            raise OAuthError(Refusal.INVALID_GRANT, "the code is over; ask for another")
        if exchange.redirect_uri not in {None, grant["redirect_uri"]}:
            raise OAuthError(
                Refusal.INVALID_GRANT, "redirect_uri is another than the code was asked for with"
            )
        if not _proves(exchange.code_verifier, grant["code_challenge"]):
            raise OAuthError(Refusal.INVALID_GRANT, "code_verifier does not fit the code")
        _refuse_other_resource(exchange, grant)
        use = "UPDATE oauth_codes SET used_at = :now WHERE code_sha256 = :hash"
        c.execute(use, {"now": to_text(now), "hash": grant["code_sha256"]})
        return self.pair(c, grant, now)

    def rotate(self, c: Connection, exchange: RefreshExchange, now: datetime) -> TokenPair | RefusedError:
        """Exchange a refresh token; a second time, after a while, revokes all that came of its grant.

        Raises:
            OAuthError: It can't be; nothing has changed.
        """
        token = c.execute(_FIND_REFRESH, {"hash": sha256(exchange.secret)}).fetchone()
        grant = _own(token, exchange, "refresh token")
        if grant["used_at"] is not None and abs(now - from_text(grant["used_at"])) > GRACE:
            revoke(c, grant["id"], "refresh_replay", now)
            return RefusedError(
                Refusal.INVALID_GRANT, "the refresh token was exchanged before; what came of it is revoked"
            )
        if from_text(grant["expires_at"]) <= now:
            raise OAuthError(Refusal.INVALID_GRANT, "the refresh token is over; ask for access anew")
        if exchange.scope is not None and not set(exchange.scope.split()) <= set(grant["scope"].split()):
            raise OAuthError(Refusal.INVALID_SCOPE, f"more than was granted, which is {grant['scope']!r}")
        _refuse_other_resource(exchange, grant)
        use = (
            "UPDATE oauth_refresh_tokens SET used_at = :now, expires_at = :forgotten"
            " WHERE token_sha256 = :hash AND used_at IS NULL"
        )
        forgotten = min(grant["expires_at"], to_text(now + MEMORY))
        c.execute(use, {"now": to_text(now), "forgotten": forgotten, "hash": grant["token_sha256"]})
        return self.pair(c, grant, now)


def add_code(c: Connection, request: ConsentRequest, now: datetime) -> str:
    """Write the owner's consent and return the code for it."""
    grant = add_grant(c, request.client_id, request.scope, request.issuer, request.resource, now)
    code = new_secret()
    insert = (
        "INSERT INTO oauth_codes (code_sha256, grant_id, redirect_uri, code_challenge, expires_at)"
        " VALUES (:hash, :grant_id, :redirect_uri, :code_challenge, :expires_at)"
    )
    values = {"hash": sha256(code), "grant_id": grant["id"], "redirect_uri": request.redirect_uri}
    c.execute(
        insert,
        values | {"code_challenge": request.code_challenge, "expires_at": to_text(now + CODE_LIFE)},
    )
    return code


def add_grant(
    c: Connection, client_id: str, scope: str, issuer: str, resource: str, now: datetime
) -> sqlite3.Row:
    """Write that the owner grants a client access, and return the row."""
    values = {
        "id": new_id(),
        "client_id": client_id,
        "subject": OWNER,
        "scope": scope,
        "issuer": issuer,
        "resource": resource,
        "now": to_text(now),
    }
    row: sqlite3.Row = c.execute(_GRANT + " RETURNING *", values).fetchone()
    return row


def answer_once(c: Connection, request_id: str, expires_at: datetime) -> None:
    """Write that a request has been answered.

    Raises:
        OAuthError: It had been.
    """
    insert = (
        "INSERT INTO oauth_answered (request_sha256, expires_at) VALUES (:hash, :expires_at)"
        " ON CONFLICT DO NOTHING RETURNING request_sha256"
    )
    values = {"hash": sha256(request_id), "expires_at": to_text(expires_at)}
    if c.execute(insert, values).fetchone() is None:
        raise OAuthError(Refusal.INVALID_REQUEST, "this request has been answered already")


def revoke(c: Connection, grant_id: str, reason: str, now: datetime) -> bool:
    """Take back a grant with all that came of it; `False` where it was taken back before."""
    update = (
        "UPDATE oauth_grants SET revoked_at = :now, revoked_reason = :reason"
        " WHERE id = :id AND revoked_at IS NULL RETURNING id"
    )
    values = {"id": grant_id, "reason": reason, "now": to_text(now)}
    return c.execute(update, values).fetchone() is not None


def revoke_all(c: Connection, client_id: str, reason: str, now: datetime) -> int:
    """Take back all grants of a client with all that came of them; returns how many there were."""
    update = (
        "UPDATE oauth_grants SET revoked_at = :now, revoked_reason = :reason"
        " WHERE client_id = :client_id AND revoked_at IS NULL RETURNING id"
    )
    values = {"client_id": client_id, "reason": reason, "now": to_text(now)}
    return len(c.execute(update, values).fetchall())


def find_access(c: Connection, jti: str) -> Access | None:
    """Read what an access token is good for, `None` where it was taken back."""
    row = c.execute(_FIND_ACCESS, {"hash": sha256(jti)}).fetchone()
    return None if row is None else _access(row, from_text(row["expires_at"]))


def find_refreshable(c: Connection, refresh_token: str) -> sqlite3.Row | None:
    """Read the grant of a refresh token."""
    row: sqlite3.Row | None = c.execute(_FIND_REFRESH, {"hash": sha256(refresh_token)}).fetchone()
    return row


def tidy(c: Connection, now: datetime) -> None:
    """Delete what is over: nothing here is good for anything any more."""
    values = {
        "now": to_text(now),
        "forgotten": to_text(now - MEMORY),
        "unused": to_text(now - UNUSED_LIFE),
        "idle": to_text(now - REFRESH_LIFE - MEMORY),
    }
    for statement in _TIDY:
        c.execute(statement, values)


def _own(row: sqlite3.Row | None, exchange: Exchange, what: str) -> sqlite3.Row:
    """Return a row that is the client's, given out at the origin that it asks, and not taken back.

    Raises:
        OAuthError: It is not; whether there is one is not told.
    """
    if row is None or row["client_id"] != exchange.client_id or row["issuer"] != exchange.issuer:
        raise OAuthError(Refusal.INVALID_GRANT, f"there is no such {what}")
    if row["revoked_at"] is not None:
        raise OAuthError(Refusal.INVALID_GRANT, "the access was revoked; ask for it anew")
    return row


def _refuse_other_resource(exchange: Exchange, grant: sqlite3.Row) -> None:
    if exchange.resource not in {None, grant["resource"]}:
        raise OAuthError(Refusal.INVALID_TARGET, f"what was granted is for {grant['resource']} alone")


def _proves(verifier: str, challenge: str) -> bool:
    """Tell whether a verifier is a challenge's (RFC 7636, section 4.6)."""
    digest = hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"="), challenge.encode())


def _access(grant: sqlite3.Row, expires_at: datetime) -> Access:
    return Access(
        grant["id"],
        grant["client_id"],
        grant["subject"],
        grant["scope"],
        grant["issuer"],
        grant["resource"],
        expires_at,
    )
