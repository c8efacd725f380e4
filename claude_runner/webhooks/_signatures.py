"""Signatures: how services prove that a delivery is theirs, and the key under which a delivery is known.

Each scheme is the one its vendor documents. Signatures are compared in constant time; where a scheme signs the time
too, it may be five minutes off.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from claude_runner.errors import InvalidError, RunnerError

TOLERANCE_SECONDS: Final = 300
MAX_KEY: Final = 200  # characters; a longer one is kept as its hash
SHORTEST_SECRET: Final = 8
LONGEST_SECRET: Final = 1_000

# Ids that senders give to deliveries, the same when they send one again.
_ID_HEADERS: Final = (b"idempotency-key", b"x-github-delivery", b"webhook-id", b"x-shopify-webhook-id")
_SECONDS: Final = re.compile(r"\d{1,12}", re.ASCII)
_STANDARD_SECRET: Final = re.compile(r"(whsec_)?[A-Za-z0-9+/]{22,}={0,2}", re.ASCII)

Headers = Mapping[bytes, bytes]


class Signature(StrEnum):
    """The ways in which deliveries are signed."""

    GITHUB = "github"
    STRIPE = "stripe"
    SLACK = "slack"
    GITLAB = "gitlab"
    SHOPIFY = "shopify"
    STANDARD = "standard"


class BadSignatureError(RunnerError):
    """A delivery is not signed by who has the secret, or was signed too long ago."""

    code: ClassVar[str] = "bad_signature"
    status: ClassVar[int] = 401


def check_secret(signature: Signature, secret: str) -> None:
    """Refuse what can't be a signing secret, without repeating it. Raises `InvalidError`."""
    if (
        not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET
        or not secret.isprintable()
        or secret != secret.strip()
    ):
        raise InvalidError(
            f"signing_secret is {SHORTEST_SECRET} to {LONGEST_SECRET} characters on one line, without spaces around it",
            field="signing_secret",
        )
    if signature is Signature.STANDARD and not _is_standard(secret):
        raise InvalidError(
            "the signing_secret of 'standard' is base64, as a rule after whsec_; copy it as the sender shows it",
            field="signing_secret",
        )


def verify(signature: Signature, secret: str, headers: Headers, body: bytes, now: datetime) -> None:
    """Refuse a delivery that is not signed as it must be.

    Args:
        signature: The scheme.
        secret: What sender and webhook share.
        headers: The request's, their names in small letters.
        body: The request's, byte for byte.
        now: The present.

    Raises:
        BadSignatureError: A header is missing, the signature does not fit, or it is too old.
    """
    _VERIFIERS[signature](secret, headers, body, now)


def delivery_key(signature: Signature | None, headers: Headers, payload: Any) -> str | None:
    """Return what a delivery is known by when it comes again; `None` where the sender gives it nothing.

    What is signed goes before what anybody could have changed: else a delivery that somebody caught could be sent again
    under another id.
    """
    key = _SIGNED_KEYS[signature](headers, payload) if signature in _SIGNED_KEYS else None
    if key is None:
        key = next((_ascii(headers[name]) for name in _ID_HEADERS if name in headers), None)
    if key is None or not key.strip():
        return None
    if len(key) > MAX_KEY or not key.isprintable():
        return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return key


def _github(secret: str, headers: Headers, body: bytes, _: datetime) -> None:
    given = _header(headers, "X-Hub-Signature-256")
    _compare([given], f"sha256={_hmac(secret, body).hex()}")


def _stripe(secret: str, headers: Headers, body: bytes, now: datetime) -> None:
    parts = [part.strip().partition("=") for part in _header(headers, "Stripe-Signature").split(",")]
    at = next((value for name, _, value in parts if name == "t"), "")
    _refuse_old(at, now)
    expected = _hmac(secret, at.encode() + b"." + body).hex()
    _compare((value for name, _, value in parts if name == "v1"), expected)


def _slack(secret: str, headers: Headers, body: bytes, now: datetime) -> None:
    at = _header(headers, "X-Slack-Request-Timestamp")
    _refuse_old(at, now)
    given = _header(headers, "X-Slack-Signature")
    _compare([given], f"v0={_hmac(secret, b'v0:' + at.encode() + b':' + body).hex()}")


def _gitlab(secret: str, headers: Headers, _body: bytes, _now: datetime) -> None:
    given = headers.get(b"x-gitlab-token")
    if given is None:
        raise _missing("X-Gitlab-Token")
    # Hashed before, so that not even the secret's length shows in how long it takes.
    one, other = (hashlib.sha256(it).digest() for it in (given, secret.encode()))
    if not hmac.compare_digest(one, other):
        raise BadSignatureError("the header X-Gitlab-Token is not the secret")


def _shopify(secret: str, headers: Headers, body: bytes, _: datetime) -> None:
    given = _header(headers, "X-Shopify-Hmac-Sha256")
    _compare([given], base64.b64encode(_hmac(secret, body)).decode())


def _standard(secret: str, headers: Headers, body: bytes, now: datetime) -> None:
    from standardwebhooks import Webhook  # noqa: PLC0415 - only where a webhook uses it

    message_id, at = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    given = _header(headers, "webhook-signature").split(" ")
    sent = _refuse_old(at, now)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSignatureError("the body is not UTF-8, so it can't have been signed") from error
    # Its own `verify` reads the machine's clock, and a part that is no signature makes it fail for the wrong reason.
    _compare(given, Webhook(secret).sign(message_id, sent, text))


_VERIFIERS: Final[Mapping[Signature, Callable[[str, Headers, bytes, datetime], None]]] = {
    Signature.GITHUB: _github,
    Signature.STRIPE: _stripe,
    Signature.SLACK: _slack,
    Signature.GITLAB: _gitlab,
    Signature.SHOPIFY: _shopify,
    Signature.STANDARD: _standard,
}


def _stripe_key(_headers: Headers, payload: Any) -> str | None:
    return _field(payload, "id")


def _slack_key(headers: Headers, payload: Any) -> str | None:
    return (
        _field(payload, "event_id")
        or _field(payload, "trigger_id")
        or _ascii(headers.get(b"x-slack-signature", b""))
    )


def _standard_key(headers: Headers, _payload: Any) -> str | None:
    return _ascii(headers.get(b"webhook-id", b""))


_SIGNED_KEYS: Final[Mapping[Signature | None, Callable[[Headers, Any], str | None]]] = {
    Signature.STRIPE: _stripe_key,
    Signature.SLACK: _slack_key,
    Signature.STANDARD: _standard_key,
}


def _field(payload: Any, name: str) -> str | None:
    value = payload.get(name) if isinstance(payload, dict) else None
    return value if isinstance(value, str) and value else None


def _hmac(secret: str, data: bytes) -> bytes:
    return hmac.digest(secret.encode(), data, "sha256")


def _compare(given: Iterable[str], expected: str) -> None:
    """Raise where none is as expected; each is looked at, whichever fits."""
    fits = [hmac.compare_digest(it.encode(), expected.encode()) for it in given]
    if not any(fits):
        raise BadSignatureError("the signature does not fit the body and the secret")


def _refuse_old(at: str, now: datetime) -> datetime:
    """Return the time that was signed, where it is about now."""
    if not _SECONDS.fullmatch(at):
        raise BadSignatureError("the time that is signed is missing, or no number of seconds")
    off = now.timestamp() - int(at)
    if abs(off) > TOLERANCE_SECONDS:
        how = "ago" if off > 0 else "ahead"
        raise BadSignatureError(
            f"it was signed {abs(off):,.0f} seconds {how}; {TOLERANCE_SECONDS} may be, so compare the clocks"
        )
    return datetime.fromtimestamp(int(at), tz=UTC)


def _header(headers: Headers, name: str) -> str:
    value = headers.get(name.lower().encode())
    if value is None:
        raise _missing(name)
    return _ascii(value)


def _missing(name: str) -> BadSignatureError:
    return BadSignatureError(f"the header {name} is missing, which signs a delivery")


def _ascii(value: bytes) -> str:
    return value.decode("latin-1").strip()


def _is_standard(secret: str) -> bool:
    if not _STANDARD_SECRET.fullmatch(secret):
        return False
    try:
        return bool(base64.b64decode(secret.removeprefix("whsec_") + "=="))
    except binascii.Error:
        return False
