"""Secrets that clients hold: made at random, kept as SHA-256 alone, compared in a time that tells nothing."""

import hashlib
import hmac
import secrets
from typing import Final

_NO_SECRET: Final = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


def new_secret() -> str:
    """Return 256 random bits as 43 characters."""
    return secrets.token_urlsafe(32)


def new_id() -> str:
    """Return an id that nobody guesses, 22 characters."""
    return secrets.token_urlsafe(16)


def sha256(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_secret(given: str | None, kept: str | None) -> bool:
    """Tell whether a secret is the one that is kept; where none is kept, the same work is done for nothing."""
    same = hmac.compare_digest(sha256(given or ""), kept or _NO_SECRET)
    return same and bool(given) and kept is not None
