"""What clients present at the token endpoint, and what they get for it."""

from dataclasses import dataclass

from claude_runner.auth._refusals import OAuthError


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a client presents at the token endpoint besides itself.

    Attributes:
        issuer: The origin that it asks.
        resource: What it wants the token for, where it says so; in one form.
    """

    client_id: str
    issuer: str
    resource: str | None
    secret: str


@dataclass(frozen=True, slots=True)
class CodeExchange(Exchange):
    """A code with what proves that it is presented by whoever asked for it."""

    code_verifier: str
    redirect_uri: str | None


@dataclass(frozen=True, slots=True)
class RefreshExchange(Exchange):
    """A refresh token, and the scope that is wanted, where it says so."""

    scope: str | None


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client gets.

    Attributes:
        seconds: How long the access token is good for.
    """

    access_token: str
    refresh_token: str
    seconds: int
    scope: str


class RefusedError(OAuthError):
    """A refusal that has left its mark: it is returned from a write, and raised once that is on the disk."""
