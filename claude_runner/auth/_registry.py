"""The clients that are kept, and how they come and go."""

import json
import sqlite3
from datetime import datetime, timedelta
from typing import Final

from claude_runner.auth._clients import Client, ClientRow, NewClient, Registered, Source, shown_name
from claude_runner.auth._redirects import CLAUDE, NATIVE, parse_redirect
from claude_runner.auth._refusals import OAuthError, Refusal
from claude_runner.auth._secrets import is_secret, new_id, new_secret, sha256
from claude_runner.config import Login
from claude_runner.db import Connection, from_text, to_text
from claude_runner.errors import ConflictError, NotFoundError

AUTO_NAME: Final = "Claude (auto)"
GIVEN_NAME: Final = "Claude (environment)"
MOST_REDIRECTS: Final = 10
MOST_UNUSED: Final = 500  # registrations that were never consented to
UNUSED_LIFE: Final = timedelta(hours=24)
UNUSED_REST: Final = timedelta(
    minutes=15
)  # of one that makes room for others: its owner had the time to consent

_INSERT: Final = (
    "INSERT INTO oauth_clients (client_id, client_name, secret_sha256, source, redirect_uris, created_at)"
    " VALUES (:client_id, :name, :secret_sha256, :source, :redirect_uris, :now)"
)
_ALL: Final = """
    SELECT client_id, client_name, source, redirect_uris, created_at, last_used_at,
        (SELECT count(*) FROM oauth_grants g WHERE g.client_id = oauth_clients.client_id AND revoked_at IS NULL)
            AS grants,
        (SELECT max(created_at) FROM oauth_grants g WHERE g.client_id = oauth_clients.client_id
            AND revoked_at IS NULL) AS consented_at
    FROM oauth_clients ORDER BY last_used_at DESC, created_at DESC, client_id
"""


def find_client(c: Connection, client_id: str) -> Client | None:
    """Read a client."""
    select = "SELECT * FROM oauth_clients WHERE client_id = :client_id"
    row = c.execute(select, {"client_id": client_id}).fetchone()
    return None if row is None else _client(row)


def all_clients(c: Connection) -> list[ClientRow]:
    """Read all clients, the last used first."""
    return [
        ClientRow(
            client_id=row["client_id"],
            name=row["client_name"],
            source=Source(row["source"]),
            redirect_uris=tuple(json.loads(row["redirect_uris"])),
            created_at=from_text(row["created_at"]),
            last_used_at=None if row["last_used_at"] is None else from_text(row["last_used_at"]),
            grants=row["grants"],
            consented_at=None if row["consented_at"] is None else from_text(row["consented_at"]),
        )
        for row in c.execute(_ALL)
    ]


def forget_client(c: Connection, client_id: str) -> None:
    """Delete a client with all that it holds.

    Raises:
        NotFoundError: There is none of this id.
        ConflictError: It is the owner's own, which every start would make anew.
    """
    client = find_client(c, client_id)
    if client is None:
        raise no_client(client_id)
    if client.source in {Source.AUTO, Source.ENVIRONMENT}:
        raise ConflictError(
            f"'{client.name}' is the client of the server itself, which is not forgotten; take back its access instead"
        )
    c.execute("DELETE FROM oauth_clients WHERE client_id = :client_id", {"client_id": client_id})


def no_client(client_id: str) -> NotFoundError:
    """Return the failure to find a client."""
    return NotFoundError(f"there is no client {client_id[:60]!r}", field="client_id")


def proven_client(c: Connection, client_id: str, secret: str | None) -> Client:
    """Read a client that proves to be itself; a public one has nothing to prove (PKCE binds its codes to it).

    Raises:
        OAuthError: There is none of this id, or the secret is not its own; it is not told which.
    """
    client = find_client(c, client_id)
    proven = is_secret(secret, None if client is None else client.secret_sha256)
    if client is None or (client.secret_sha256 is not None and not proven):
        raise OAuthError(Refusal.INVALID_CLIENT, "there is no such client, or it has another secret")
    return client


def make_auto(c: Connection, now: datetime) -> NewClient | None:
    """Make the client that the owner types in at claude.ai; `None` where it is there."""
    made = NewClient(new_id(), new_secret())
    client = Client(made.client_id, AUTO_NAME, Source.AUTO, CLAUDE + NATIVE, sha256(made.secret))
    row = c.execute(_INSERT + " ON CONFLICT DO NOTHING RETURNING client_id", _values(client, now)).fetchone()
    return None if row is None else made


def keep_given(c: Connection, given: Login, now: datetime) -> list[str]:
    """Make the environment's client as the environment has it, and return the ids of those that it had before."""
    client = Client(given.name, GIVEN_NAME, Source.ENVIRONMENT, CLAUDE + NATIVE, sha256(given.secret))
    update = (
        " ON CONFLICT (client_id) DO UPDATE SET secret_sha256 = excluded.secret_sha256,"
        " redirect_uris = excluded.redirect_uris"
    )
    c.execute(_INSERT + update, _values(client, now))
    delete = "DELETE FROM oauth_clients WHERE source = 'environment' AND client_id <> :client_id RETURNING client_id"
    return [row["client_id"] for row in c.execute(delete, {"client_id": given.name}).fetchall()]


def own_client(c: Connection) -> str | None:
    """Read the id of the client that is the owner's: the environment's before the one made here."""
    select = (
        "SELECT client_id FROM oauth_clients WHERE source IN ('auto', 'environment') ORDER BY source DESC"
    )
    row = c.execute(select + " LIMIT 1").fetchone()
    return None if row is None else row["client_id"]


def register(
    c: Connection, name: str, redirect_uris: tuple[str, ...], now: datetime, *, confidential: bool
) -> Registered:
    """Keep a client that registers itself (RFC 7591); it may do nothing but ask the owner.

    Raises:
        OAuthError: Its redirect URIs can't be used, or too many have registered.
    """
    if not 0 < len(redirect_uris) <= MOST_REDIRECTS:
        raise OAuthError(
            Refusal.INVALID_REDIRECT_URI,
            f"redirect_uris must be 1 to {MOST_REDIRECTS}, not {len(redirect_uris)}",
        )
    hosts = [parse_redirect(uri).host for uri in redirect_uris]
    _make_room(c, now)
    secret = new_secret() if confidential else None
    client = Client(
        new_id(),
        shown_name(name, hosts[0]),
        Source.REGISTERED,
        redirect_uris,
        sha256(secret) if secret else None,
    )
    c.execute(_INSERT, _values(client, now))
    return Registered(client, secret)


def keep_consented(c: Connection, client: Client, now: datetime) -> None:
    """Keep a client that the owner has consented to: a document's as it is now, any other as being used."""
    if client.source is Source.DOCUMENT:
        update = (
            " ON CONFLICT (client_id) DO UPDATE SET client_name = excluded.client_name,"
            " redirect_uris = excluded.redirect_uris WHERE source = 'document'"
        )
        c.execute(_INSERT + update, _values(client, now))
    note_use(c, client.client_id, now)


def note_use(c: Connection, client_id: str, now: datetime) -> None:
    """Remember when a client was last used."""
    update = "UPDATE oauth_clients SET last_used_at = :now WHERE client_id = :client_id"
    c.execute(update, {"client_id": client_id, "now": to_text(now)})


def _make_room(c: Connection, now: datetime) -> None:
    """Forget the oldest registrations that nobody used, as many as are too many.

    Raises:
        OAuthError: All are too young for that.
    """
    unused = "FROM oauth_clients WHERE source = 'registered' AND last_used_at IS NULL"
    (count,) = c.execute(f"SELECT count(*) {unused}").fetchone()
    if count < MOST_UNUSED:
        return
    oldest = f"SELECT client_id {unused} AND created_at < :before ORDER BY created_at LIMIT :many"
    delete = f"DELETE FROM oauth_clients WHERE client_id IN ({oldest}) RETURNING client_id"  # noqa: S608 - as above
    values = {"before": to_text(now - UNUSED_REST), "many": count - MOST_UNUSED + 1}
    if not c.execute(delete, values).fetchall():
        raise OAuthError(Refusal.TEMPORARILY_UNAVAILABLE, "too many clients have registered; try again later")


def _values(client: Client, now: datetime) -> dict[str, str | None]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "secret_sha256": client.secret_sha256,
        "source": client.source,
        "redirect_uris": json.dumps(client.redirect_uris),
        "now": to_text(now),
    }


def _client(row: sqlite3.Row) -> Client:
    return Client(
        row["client_id"],
        row["client_name"],
        Source(row["source"]),
        tuple(json.loads(row["redirect_uris"])),
        row["secret_sha256"],
    )
