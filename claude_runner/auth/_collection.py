"""Clients, consents and tokens as the rest of the program uses them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

from claude_runner.auth import _grants, _registry
from claude_runner.auth._clients import Client, ClientRow, NewClient, Registered
from claude_runner.auth._exchanges import CodeExchange, RefreshExchange, RefusedError, TokenPair
from claude_runner.auth._grants import Issuer
from claude_runner.auth._keys import SigningKey, derived
from claude_runner.auth._known import KnownTokens
from claude_runner.auth._requests import ConsentRequest, WaitingRequest, seal, unseal
from claude_runner.auth._resources import SCOPE
from claude_runner.auth._tokens import Access, verified_access
from claude_runner.config import Settings
from claude_runner.db import Connection, Database
from claude_runner.errors import NotFoundError
from claude_runner.hub import Hub, Subscription, Topic

PERSONAL_LIFE: Final = timedelta(days=90)
TIDY_EVERY: Final = timedelta(minutes=10)

T = TypeVar("T")


class Auth:
    """Who may use the server over the network; it is asked while it is open."""

    def __init__(self, database: Database, hub: Hub, settings: Settings) -> None:
        self._db = database
        self._hub = hub
        self._given = settings.oauth_client
        self._life = timedelta(hours=settings.oauth_token_hours)
        self._signing = SigningKey(settings)
        self._key: str | None = None
        self._known = KnownTokens()
        self._revocations: Subscription | None = None
        self._tidied_at: datetime | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have the signing key, made where there is none, and hear of what other processes of the home take back.

        Raises:
            UnavailableError: The key's file or the database can't be used.
        """
        self._key = await self._db.read(lambda _: self._signing.read())
        if self._key is None:
            self._key = await self._db.write(lambda _: self._signing.made())
        with self._hub.subscribe(Topic.AUTH) as self._revocations:
            yield

    def derived_key(self, purpose: str) -> bytes:
        """Return a key of 256 bits for another purpose than tokens; the same in every process of the home."""
        return derived(self._signing_key, purpose)

    async def ensure_client(self, now: datetime) -> NewClient | None:
        """Have the client that the owner types in at claude.ai, and return it where it was made just now.

        With `OAUTH_CLIENT_ID` and `OAUTH_CLIENT_SECRET` it is theirs; else one is made, once for all processes.
        """
        if self._given is None:
            return await self._write(lambda c: _registry.make_auto(c, now), now)
        given = self._given
        for client_id in await self._write(lambda c: _registry.keep_given(c, given, now), now):
            self._taken_back(client_id)
        return None

    async def personal_token(self, now: datetime, origin: str) -> str:
        """Return an access token for scripts of the owner's, good at an origin for 90 days.

        Raises:
            NotFoundError: `ensure_client` was never called in this home.
        """

        def grant(c: Connection) -> str:
            client_id = _registry.own_client(c)
            if client_id is None:
                raise NotFoundError("there is no client of your own yet; start the server once with its site")
            row = _grants.add_grant(c, client_id, SCOPE, origin, origin, now)
            return self._issuer.access_token(c, row, now, PERSONAL_LIFE)

        return await self._write(grant, now)

    async def clients(self) -> Sequence[ClientRow]:
        """Return all clients, the last used first, with what they hold."""
        return await self._db.read(_registry.all_clients)

    async def revoke_client(self, client_id: str, now: datetime) -> int:
        """Take back all that a client was given, in every process, and return how many grants those were.

        Raises:
            NotFoundError: There is no such client.
        """

        def write(c: Connection) -> int:
            if _registry.find_client(c, client_id) is None:
                raise _registry.no_client(client_id)
            return _grants.revoke_all(c, client_id, "owner", now)

        taken = await self._write(write, now)
        self._taken_back(client_id)
        return taken

    async def forget_client(self, client_id: str, now: datetime) -> None:
        """Delete a client with all that it was given; to come back it must register and be consented to again.

        Raises:
            NotFoundError: There is no such client.
            ConflictError: It is the owner's own, which every start would make anew.
        """
        await self._write(lambda c: _registry.forget_client(c, client_id), now)
        self._taken_back(client_id)

    async def find_client(self, client_id: str) -> Client | None:
        """Return a client that is kept here."""
        return await self._db.read(lambda c: _registry.find_client(c, client_id))

    async def proven_client(self, client_id: str, secret: str | None) -> Client:
        """Return a client that proves to be itself, as far as it has to.

        Raises:
            OAuthError: There is none of this id, or its secret is another; both are answered alike.
        """
        return await self._db.read(lambda c: _registry.proven_client(c, client_id, secret))

    async def register(
        self, name: str, redirect_uris: tuple[str, ...], now: datetime, *, confidential: bool
    ) -> Registered:
        """Keep a client that registers itself; unless the owner consents to it, it is forgotten after a day.

        Raises:
            OAuthError: Its redirect URIs can't be used, or too many have registered.
        """
        return await self._write(
            lambda c: _registry.register(c, name, redirect_uris, now, confidential=confidential), now
        )

    def seal(self, request: ConsentRequest, now: datetime) -> str:
        """Return a request as a text that the browser keeps until the owner has answered, for ten minutes at most."""
        return seal(self.derived_key("consent requests"), request, now)

    def unseal(self, text: str, now: datetime) -> WaitingRequest | None:
        """Return the request of a text, `None` where it is none of ours or is over."""
        return unseal(self.derived_key("consent requests"), text, now)

    async def consent(self, waiting: WaitingRequest, client: Client, now: datetime) -> str:
        """Write that the owner consents to what a client asks for, and return the code for it.

        Raises:
            OAuthError: The request has been answered.
        """

        def write(c: Connection) -> str:
            _grants.answer_once(c, waiting.request_id, waiting.expires_at)
            _registry.keep_consented(c, client, now)
            return _grants.add_code(c, waiting.request, now)

        return await self._write(write, now)

    async def deny(self, waiting: WaitingRequest, now: datetime) -> None:
        """Write that the owner does not consent.

        Raises:
            OAuthError: The request has been answered.
        """
        await self._write(lambda c: _grants.answer_once(c, waiting.request_id, waiting.expires_at), now)

    async def redeem(self, exchange: CodeExchange, now: datetime) -> TokenPair:
        """Exchange a code for tokens; one that was used before costs the client all that came of it.

        Raises:
            OAuthError: It can't be exchanged.
        """
        return self._unless_refused(
            await self._write(lambda c: self._issuer.redeem(c, exchange, now), now), exchange
        )

    async def refresh(self, exchange: RefreshExchange, now: datetime) -> TokenPair:
        """Exchange a refresh token for new tokens; one that was exchanged a while ago costs all that came of it.

        Raises:
            OAuthError: It can't be exchanged.
        """
        return self._unless_refused(
            await self._write(lambda c: self._issuer.rotate(c, exchange, now), now), exchange
        )

    async def revoke(self, client: Client, token: str, now: datetime) -> None:
        """Take back the grant that a token of the client's goes back to; any other token is none of its business."""

        def write(c: Connection) -> bool:
            grant_id = self._grant_of(c, client, token)
            return grant_id is not None and _grants.revoke(c, grant_id, "client", now)

        if await self._write(write, now):
            self._taken_back(client.client_id)

    async def check(self, token: str, origin: str, now: datetime) -> Access | None:
        """Return what a token is good for at an origin now, `None` where nothing.

        Args:
            token: As the client sent it.
            origin: Where its request came by.
            now: The present.
        """
        if self._revocations is not None and self._revocations.changed.is_set():
            self._revocations.take()
            self._known.forget()
        access = self._known.find(token, now)
        if access is None:
            access = await self._look_up(token, now)
        return access if access is not None and access.is_for(origin) else None

    async def _look_up(self, token: str, now: datetime) -> Access | None:
        generation = self._known.generation
        claims = verified_access(self._signing_key, token)
        if claims is None:
            return None
        access = await self._db.read(lambda c: _grants.find_access(c, claims["jti"]))
        if access is None or now >= access.expires_at:
            return None
        if any(claims.get(name) != value for name, value in access.claims.items()):
            return None
        self._known.keep(token, access, now, generation)
        return access

    def _grant_of(self, c: Connection, client: Client, token: str) -> str | None:
        row = _grants.find_refreshable(c, token)
        if row is not None:
            return row["id"] if row["client_id"] == client.client_id else None
        claims = verified_access(self._signing_key, token)
        access = None if claims is None else _grants.find_access(c, claims["jti"])
        return access.grant_id if access is not None and access.client_id == client.client_id else None

    def _unless_refused(
        self, result: TokenPair | RefusedError, exchange: CodeExchange | RefreshExchange
    ) -> TokenPair:
        if isinstance(result, RefusedError):
            self._taken_back(exchange.client_id)
            raise result
        return result

    def _taken_back(self, client_id: str) -> None:
        self._known.forget()
        self._hub.publish(Topic.AUTH, client_id)

    async def _write(self, change: Callable[[Connection], T], now: datetime) -> T:
        """Write, and now and then delete what is over."""
        due = self._tidied_at is None or not self._tidied_at <= now < self._tidied_at + TIDY_EVERY

        def write(c: Connection) -> T:
            if due:
                _grants.tidy(c, now)
            return change(c)

        result = await self._db.write(write)
        if due:
            self._tidied_at = now
        return result

    @property
    def _signing_key(self) -> str:
        if self._key is None:
            raise RuntimeError("it is not open")
        return self._key

    @property
    def _issuer(self) -> Issuer:
        return Issuer(self._signing_key, self._life)
