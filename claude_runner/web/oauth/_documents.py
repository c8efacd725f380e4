"""Clients known by a document at their own address (OAuth Client ID Metadata Document), which need not register.

Documents of strangers are fetched because a stranger asks: only from public addresses, by the library's fetcher, which
connects to no other and follows nothing; few at a time, not often, and not again and again where that fails.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from claude_runner.auth import (
    CLAUDE,
    Client,
    OAuthError,
    Refusal,
    Source,
    is_redirect,
    parse_redirect,
    shown_name,
)
from claude_runner.config import Clock
from claude_runner.web.oauth._throttle import Throttle

if TYPE_CHECKING:
    from fastmcp.server.auth.cimd import CIMDDocument

AT_A_TIME: Final = 4
SECONDS: Final = 10.0  # for all of a fetch
STEP_SECONDS: Final = 5.0
FAILURE_SECONDS: Final = 60.0  # how long one that could not be had is not asked for again
LONGEST: Final = 500  # characters of an address

# claude.ai answers programs that fetch these from a data centre with a challenge for browsers.
PINNED: Final = MappingProxyType(
    {
        "https://claude.ai/oauth/mcp-oauth-client-metadata": ("Claude", CLAUDE),
        "https://claude.ai/oauth/claude-code-client-metadata": (
            "Claude Code",
            ("http://localhost/callback", "http://127.0.0.1/callback"),
        ),
    }
)

Fetch = Callable[[str], Awaitable["CIMDDocument"]]


class Documents:
    """Knows clients by their documents."""

    def __init__(self, clock: Clock, fetch: Fetch | None = None) -> None:
        """Know them.

        Args:
            clock: Tells how time passes.
            fetch: Gets a document, or raises; the library's fetcher where none is given.
        """
        self._clock = clock
        self._fetch = fetch
        self._throttle = Throttle(clock, each=20, overall=60, seconds=60)
        self._fetching = asyncio.Semaphore(AT_A_TIME)
        self._failed: dict[str, float] = {}  # until when each that failed is not asked for again

    async def find(self, client_id: str, request: Request) -> Client | None:
        """Return the client whose document is at an address, `None` where the id is no address.

        Raises:
            OAuthError: Its document can't be had or used.
        """
        if client_id in PINNED:
            name, uris = PINNED[client_id]
            return Client(client_id, name, Source.DOCUMENT, uris)
        if not client_id.startswith("https://"):
            return None
        _refuse_odd(client_id)
        if self._failed.get(client_id, 0.0) > self._clock.elapsed():
            raise _unusable("it could not be had a moment ago")
        self._throttle.admit(request)
        return _client(client_id, await self._document(client_id))

    async def _document(self, address: str) -> "CIMDDocument":
        from fastmcp.server.auth.cimd import (  # noqa: PLC0415 - imports much, and most never need it
            CIMDFetcher,
            CIMDFetchError,
            CIMDValidationError,
        )

        if self._fetch is None:
            self._fetch = CIMDFetcher(timeout=STEP_SECONDS).fetch
        try:
            async with asyncio.timeout(SECONDS), self._fetching:
                return await self._fetch(address)
        # The fetcher also raises whatever comes of a name that DNS can't have, and of what is no JSON or too deep.
        except (CIMDFetchError, CIMDValidationError, TimeoutError, ValueError, RecursionError) as error:
            self._failed = {
                name: until for name, until in self._failed.items() if until > self._clock.elapsed()
            }
            self._failed[address] = self._clock.elapsed() + FAILURE_SECONDS
            raise _unusable("it can't be had, or is no such document") from error


def _refuse_odd(address: str) -> None:
    """Raise `OAuthError` for what the draft forbids in a client's id, and for ports that serve something else."""
    try:
        parts = parse_redirect(address)
    except OAuthError:
        raise _unusable("its address is not a plain https URL") from None
    if len(address) > LONGEST or parts.port is not None or parts.rest in {"", "/"} or "." not in parts.host:
        raise _unusable("its address must be a public host's, without a port, and have a path")


def _client(client_id: str, document: "CIMDDocument") -> Client:
    if document.token_endpoint_auth_method != "none":  # noqa: S105 - it is no password
        raise _unusable("only token_endpoint_auth_method 'none' is served")
    uris = tuple(uri for uri in document.redirect_uris if is_redirect(uri))
    if not uris:
        raise _unusable("it has no redirect URI that can be used")
    return Client(client_id, shown_name(document.client_name or "", client_id), Source.DOCUMENT, uris)


def _unusable(why: str) -> OAuthError:
    return OAuthError(Refusal.INVALID_CLIENT, f"the client's metadata document can't be used: {why}")
