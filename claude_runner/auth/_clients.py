"""Who may ask for access: clients, and what they are called and where their codes may go."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from claude_runner.auth._redirects import is_registered, parse_redirect
from claude_runner.auth._refusals import OAuthError, Refusal

LONGEST_NAME: Final = 100  # characters


class Source(StrEnum):
    """Where the server knows a client from."""

    AUTO = "auto"
    ENVIRONMENT = "environment"
    REGISTERED = "registered"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Client:
    """A program that asks for access on the owner's behalf.

    Attributes:
        name: What it calls itself; nobody has checked that, unless it is known by a document at its own address.
        redirect_uris: Where codes may be sent, as it wrote them.
        secret_sha256: Hash of what it proves to be itself by; a public client has none (RFC 6749, section 2.1).
    """

    client_id: str
    name: str
    source: Source
    redirect_uris: tuple[str, ...]
    secret_sha256: str | None = None

    def redirect(self, requested: str | None) -> str:
        """Return where to send a code.

        Raises:
            OAuthError: Not there, or it has several and the request names none.
        """
        if requested is None:
            if len(self.redirect_uris) == 1 and not parse_redirect(self.redirect_uris[0]).is_loopback:
                return self.redirect_uris[0]
            raise OAuthError(Refusal.INVALID_REQUEST, "redirect_uri is missing")
        if not is_registered(requested, self.redirect_uris):
            raise OAuthError(
                Refusal.INVALID_REQUEST, "redirect_uri is none of those that the client is registered with"
            )
        return requested


class ClientRow(NamedTuple):
    """A client as its owner sees it in a list.

    Attributes:
        grants: How many of those that the owner gave it are good still.
        consented_at: When the owner last gave it one; `None` where there is none any more that was not taken back.
    """

    client_id: str
    name: str
    source: Source
    redirect_uris: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    grants: int
    consented_at: datetime | None


class NewClient(NamedTuple):
    """A client that was made just now; its secret is shown this once."""

    client_id: str
    secret: str

    @property
    def frame(self) -> str:
        """Return the lines that show it to the owner."""
        line = "=" * 60
        return "\n".join(
            (
                line,
                "OAUTH CREDENTIALS FOR CLAUDE CONNECTOR",
                line,
                f"Client ID:     {self.client_id}",
                f"Client Secret: {self.secret}",
                "Save these to your .env file:",
                f"  OAUTH_CLIENT_ID={self.client_id}",
                f"  OAUTH_CLIENT_SECRET={self.secret}",
                line,
            )
        )


class Registered(NamedTuple):
    """A client that registered just now, with its secret where it is to have one."""

    client: Client
    secret: str | None


def shown_name(name: str, instead: str) -> str:
    """Return a name as it may be shown: without what can't be seen or turns the direction of what follows."""
    seen = "".join(
        c for c in unicodedata.normalize("NFKC", name) if not unicodedata.category(c).startswith("C")
    )
    return " ".join(seen.split())[:LONGEST_NAME] or instead
