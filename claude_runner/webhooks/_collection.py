"""The webhooks in the database, for whoever does not hold a connection."""

import hashlib
import json
import logging
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from claude_runner.credentials import Anew, Open, Sealing
from claude_runner.db import Database, to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Hub, Topic
from claude_runner.runs import cursor_of, place_of
from claude_runner.webhooks._deliveries import Delivery, DeliveryPage, delivery_from
from claude_runner.webhooks._received import Lately, ReceivedPage, lately, page_of, received_from
from claude_runner.webhooks._records import Webhook, WebhookDraft, webhook_from

TOKEN_BYTES: Final = 32

_TOKEN: Final = "secret_token"  # noqa: S105 - the name of a column
_SECRET: Final = "signing_secret"  # noqa: S105 - likewise
_DECIDED: Final = (
    "name", "description", "prompt_template", "tools", "profile", "commands", "timeout_minutes", "model", "enabled",
    "signature", "signing_secret", "filter", "plain_fields", "max_per_minute", "max_wait_seconds",
    "max_cost_usd", "max_cost_per_day_usd", "updated_at", "secret_token", "token_sha256",
)  # fmt: skip
_INSERT: Final = (
    f"INSERT INTO webhooks (id, created_at, {', '.join(_DECIDED)})"  # noqa: S608 - names written above
    f" VALUES (:id, :created_at, {', '.join(f':{name}' for name in _DECIDED)})"
    " ON CONFLICT (id) DO NOTHING RETURNING *"
)
_UPDATE: Final = (
    f"UPDATE webhooks SET {', '.join(f'{name} = :{name}' for name in _DECIDED)}"  # noqa: S608 - names written above
    " WHERE id = :id AND updated_at = :was RETURNING *"
)
_COUNT: Final = """
    UPDATE webhooks SET trigger_count = trigger_count + :started,
        last_triggered_at = CASE WHEN :started > 0 THEN :now ELSE last_triggered_at END
    WHERE id = :id AND updated_at = :seen AND enabled = :enabled RETURNING id
"""
_RESEAL: Final = """
    UPDATE webhooks SET secret_token = coalesce(:secret_token, secret_token),
        signing_secret = coalesce(:signing_secret, signing_secret)
    WHERE id = :id
"""
_PAGE: Final = """
    SELECT * FROM webhook_deliveries WHERE webhook_id = :webhook_id
        AND (:at IS NULL OR (received_at, id) < (:at, :id))
    ORDER BY received_at DESC, id DESC LIMIT :limit
"""

log = logging.getLogger(__name__)


class Webhooks:
    """The webhooks in the database."""

    def __init__(self, database: Database, hub: Hub, sealing: Sealing) -> None:
        self._db = database
        self._hub = hub
        self._sealing = sealing

    async def add(self, draft: WebhookDraft, now: datetime) -> Webhook:
        """Store a new webhook; its id and its token are made here.

        Raises:
            InvalidError: A value can't be used.
            UnavailableError: What should be the key that seals is none.
        """
        draft, token = draft.checked(), _new_token()
        values = _values(draft, now) | {"created_at": to_text(now), "token_sha256": hash_of(token)}

        def insert(c: sqlite3.Connection) -> Webhook:
            while True:  # until the id is one that no webhook has
                webhook_id = secrets.token_hex(4)
                secret = draft.signing_secret
                sealed = {
                    _TOKEN: self._sealing.seal(_owner(webhook_id, _TOKEN), token),
                    _SECRET: None
                    if secret is None
                    else self._sealing.seal(_owner(webhook_id, _SECRET), secret),
                }
                row = c.execute(_INSERT, values | sealed | {"id": webhook_id}).fetchone()
                if row is not None:
                    return webhook_from(row, token, draft.signing_secret)

        webhook = await self._db.write(insert)
        self._hub.publish(Topic.WEBHOOKS, webhook.id)
        return webhook

    async def get(self, webhook_id: str) -> Webhook:
        """Return the webhook.

        Raises:
            NotFoundError: There is none with this id.
            UnavailableError: What should be the key that opens its token is none.
        """
        found = await self._db.read(lambda c: _read(c, self._sealing.opener(), webhook_id))
        if not found:
            raise _no_webhook(webhook_id)
        return found[0]

    async def list(self) -> list[Webhook]:
        """Return all webhooks, oldest first.

        Raises:
            UnavailableError: What should be the key that opens their tokens is none.
        """
        return await self._db.read(lambda c: _read(c, self._sealing.opener()))

    async def readable(self) -> Sequence[Webhook]:
        """Return the webhooks but those that somebody has edited by hand so that they can't be read.

        Where what should be the key is none, they come without token and secret.
        """
        return await self._db.read(lambda c: _readable(c, self._sealing))

    async def names(self, limit: int = 500) -> Sequence[tuple[str, str]]:
        """Return the ids and names of webhooks, by name."""
        select = "SELECT id, name FROM webhooks ORDER BY lower(name), id LIMIT :limit"
        rows = await self._db.read(lambda c: c.execute(select, {"limit": limit}).fetchall())
        return [(row["id"], row["name"]) for row in rows]

    async def change(
        self, webhook_id: str, changes: Mapping[str, Any], now: datetime, was: datetime | None = None
    ) -> Webhook:
        """Change some of what was decided about the webhook.

        Args:
            webhook_id: Which webhook.
            changes: Fields of `WebhookDraft` and their new values.
            now: The present.
            was: The `updated_at` of the webhook that the changes were decided by; `None` for whichever there is.

        Raises:
            NotFoundError: There is none with this id.
            InvalidError: A value can't be used.
            ConflictError: Somebody else changed the webhook, since then or at the same moment.
            UnavailableError: Its signing secret can't be opened and is not given anew.
        """
        old = await self.get(webhook_id)
        if was not in {None, old.updated_at}:
            raise ConflictError(f"webhook {webhook_id} was changed by someone else meanwhile; look again")
        if (
            old.signature is not None
            and old.signing_secret is None
            and not {"signature", _SECRET} & set(changes)
        ):
            raise UnavailableError(
                f"the signing secret of '{old.name}' can't be opened with the keys in {self._sealing.place};"
                " put back the key that sealed it, or give signing_secret again"
            )
        return await self._store(old, replace(old, **changes).checked(), None, now)

    async def rotate(self, webhook_id: str, now: datetime) -> Webhook:
        """Give the webhook a new token; the old one lets nothing in from then on.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: Somebody else changed the webhook at the same moment.
            UnavailableError: What should be the key that seals is none.
        """
        old = await self.get(webhook_id)
        return await self._store(old, old, _new_token(), now)

    async def disable(self, webhook_id: str, now: datetime) -> None:
        """Let it take no more deliveries, whatever else there is to say about it.

        Raises:
            NotFoundError: There is none with this id.
        """
        update = "UPDATE webhooks SET enabled = 0, updated_at = :now WHERE id = :id RETURNING id"
        values = {"id": webhook_id, "now": to_text(now)}
        if await self._db.write(lambda c: c.execute(update, values).fetchone()) is None:
            raise _no_webhook(webhook_id)
        self._hub.publish(Topic.WEBHOOKS, webhook_id)

    async def remove(self, webhook_id: str) -> None:
        """Delete the webhook with its deliveries; its runs stay.

        Raises:
            NotFoundError: There is none with this id.
        """
        delete = "DELETE FROM webhooks WHERE id = :id RETURNING id"
        if await self._db.write(lambda c: c.execute(delete, {"id": webhook_id}).fetchone()) is None:
            raise _no_webhook(webhook_id)
        self._hub.publish(Topic.WEBHOOKS, webhook_id)

    async def deliveries(self, webhook_id: str, limit: int, cursor: str | None = None) -> DeliveryPage:
        """Return a page of the webhook's deliveries, newest first.

        Raises:
            NotFoundError: There is no such webhook.
            InvalidError: The cursor is not one that a page gave.
        """
        at, delivery_id = (None, None) if cursor is None else place_of(cursor, "list_webhook_deliveries")
        values = {"webhook_id": webhook_id, "at": at, "id": delivery_id, "limit": limit + 1}

        def read(c: sqlite3.Connection) -> list[sqlite3.Row]:
            if c.execute("SELECT 1 FROM webhooks WHERE id = :id", {"id": webhook_id}).fetchone() is None:
                raise _no_webhook(webhook_id)
            return c.execute(_PAGE, values).fetchall()

        rows = await self._db.read(read)
        shown = [delivery_from(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        return DeliveryPage(shown, None if last is None else cursor_of(last["received_at"], last["id"]))

    async def received(
        self, webhook_id: str, limit: int, cursor: str | None = None, *, refused: bool = False
    ) -> ReceivedPage:
        """Return a page of what has come to the webhook, or only of what was refused, newest first, without bodies.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        place = None if cursor is None else place_of(cursor, "the webhook's page")
        rows = await self._db.read(lambda c: page_of(c, webhook_id, place, limit + 1, refused=refused))
        shown = [received_from(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        return ReceivedPage(shown, None if last is None else cursor_of(last["received_at"], last["id"]))

    async def lately(self, since: datetime) -> Mapping[str, Lately]:
        """Return what has come to each webhook by its id: the last delivery, and how many were refused since."""
        return await self._db.read(lambda c: lately(c, since))

    async def delivery(self, delivery_id: str) -> Delivery:
        """Return the delivery.

        Raises:
            NotFoundError: There is none with this id, or none any more.
        """
        select = "SELECT * FROM webhook_deliveries WHERE id = :id"
        row = await self._db.read(lambda c: c.execute(select, {"id": delivery_id}).fetchone())
        if row is None:
            raise NotFoundError(
                f"there is no delivery {delivery_id[:60]!r}; list_webhook_deliveries shows those that are kept",
                field="delivery_id",
            )
        return delivery_from(row)

    async def _store(self, old: Webhook, new: WebhookDraft, token: str | None, now: datetime) -> Webhook:
        """Write the webhook as it is decided now; without a token it keeps its own."""
        at = max(now, old.updated_at + timedelta(milliseconds=1))  # so that it tells two changes apart
        values = _values(new, at) | {"id": old.id, "was": to_text(old.updated_at)}
        secret = new.signing_secret
        select = "SELECT secret_token, token_sha256, signing_secret FROM webhooks WHERE id = :id"

        def update(c: sqlite3.Connection) -> sqlite3.Row | None:
            row = c.execute(select, {"id": old.id}).fetchone()
            if row is None:
                return None
            sealed = dict(row)
            if token is not None:
                sealed |= {_TOKEN: self._sealing.seal(_owner(old.id, _TOKEN), token)}
                sealed["token_sha256"] = hash_of(token)
            if new.signature is None:
                sealed[_SECRET] = None
            elif secret is not None and secret != old.signing_secret:
                sealed[_SECRET] = self._sealing.seal(_owner(old.id, _SECRET), secret)
            updated: sqlite3.Row | None = c.execute(_UPDATE, values | sealed).fetchone()
            return updated

        row = await self._db.write(update)
        if row is None:
            raise ConflictError(f"webhook {old.id} was changed by someone else just now; look again")
        self._hub.publish(Topic.WEBHOOKS, old.id)
        return webhook_from(row, token or old.token, None if new.signature is None else secret)


def count(c: sqlite3.Connection, webhook: Webhook, started: int, now: datetime) -> bool:
    """Count runs that the webhook starts; tells whether the webhook still is as it was read, else none is counted."""
    values = {
        "id": webhook.id,
        "started": started,
        "now": to_text(now),
        "seen": to_text(webhook.updated_at),
        "enabled": int(webhook.enabled),
    }
    return c.execute(_COUNT, values).fetchone() is not None


def title(c: sqlite3.Connection, webhook_id: str) -> str | None:
    """Read the name of a webhook, `None` where it is gone."""
    row = c.execute("SELECT name FROM webhooks WHERE id = :id", {"id": webhook_id}).fetchone()
    return None if row is None else str(row["name"])


def max_costs(c: sqlite3.Connection, webhook_id: str) -> tuple[float | None, float | None]:
    """Read what one run of a webhook may cost, and its runs of a day; nothing bounds those of one that is gone."""
    row = c.execute(
        "SELECT max_cost_usd, max_cost_per_day_usd FROM webhooks WHERE id = :id", {"id": webhook_id}
    ).fetchone()
    return (None, None) if row is None else (row["max_cost_usd"], row["max_cost_per_day_usd"])


def day_budgets(c: sqlite3.Connection) -> dict[str, float]:
    """Read what the runs of a day may cost of those webhooks that have a bound of their own, in US dollars by id."""
    rows = c.execute("SELECT id, max_cost_per_day_usd FROM webhooks WHERE max_cost_per_day_usd IS NOT NULL")
    return {row["id"]: row["max_cost_per_day_usd"] for row in rows}


def reseal(c: sqlite3.Connection, anew: Anew) -> int:
    """Seal every token and every signing secret anew that can be opened, and return how many those were."""
    total = 0
    for row in c.execute("SELECT id, name, secret_token, signing_secret FROM webhooks").fetchall():
        before = {column: row[column] for column in (_TOKEN, _SECRET) if row[column] is not None}
        after = {column: sealed for column, text in before.items() if (sealed := anew(text)) is not None}
        for column in before.keys() - after.keys():
            log.warning("%s of the webhook '%s' can't be opened and stays as it is", column, row["name"])
        values = {"id": row["id"], _TOKEN: None, _SECRET: None} | after
        c.execute(_RESEAL, values)
        total += len(after)
    return total


def hash_of(token: str) -> str:
    """Return what a webhook of this token is found by."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _owner(webhook_id: str, column: str) -> tuple[str, str, str]:
    return "webhook", webhook_id, column


def _opened(row: sqlite3.Row, opened: Open) -> Webhook:
    sealed = row[_SECRET]
    secret = None if sealed is None else opened(_owner(row["id"], _SECRET), sealed)
    return webhook_from(row, opened(_owner(row["id"], _TOKEN), row[_TOKEN]), secret)


def _read(c: sqlite3.Connection, opened: Open, webhook_id: str | None = None) -> list[Webhook]:
    """Read the webhook of this id, or all."""
    select = "SELECT * FROM webhooks WHERE :id IS NULL OR id = :id ORDER BY created_at, id"
    return [_opened(row, opened) for row in c.execute(select, {"id": webhook_id})]


def _readable(c: sqlite3.Connection, sealing: Sealing) -> list[Webhook]:
    try:
        opened = sealing.opener()
    except UnavailableError as error:
        log.warning("webhooks whose deliveries are signed take none: %s", error)
        opened = _opens_nothing
    found = []
    for row in c.execute("SELECT * FROM webhooks"):
        try:
            found.append(_opened(row, opened))
        except InvalidError as error:
            log.warning("it takes no deliveries: %s", error)
    return found


def _opens_nothing(_owner: Sequence[str], _sealed: str) -> None:
    return None


def _values(draft: WebhookDraft, now: datetime) -> dict[str, Any]:
    """Return what is stored of what was decided, but for what is sealed."""
    return {
        "name": draft.name,
        "description": draft.description,
        "prompt_template": draft.prompt_template,
        "tools": json.dumps(draft.tools),
        "profile": draft.profile,
        "commands": json.dumps(draft.commands),
        "timeout_minutes": draft.timeout_minutes,
        "model": draft.model,
        "enabled": int(draft.enabled),
        "signature": draft.signature,
        "filter": draft.filter,
        "plain_fields": json.dumps(draft.plain_fields),
        "max_per_minute": draft.max_per_minute,
        "max_wait_seconds": draft.max_wait_seconds,
        "max_cost_usd": draft.max_cost_usd,
        "max_cost_per_day_usd": draft.max_cost_per_day_usd,
        "updated_at": to_text(now),
    }


def _no_webhook(webhook_id: str) -> NotFoundError:
    return NotFoundError(
        f"there is no webhook {webhook_id[:60]!r}; list_webhooks shows them all", field="webhook_id"
    )
