"""The channels in the database: names of addresses that are sealed, as they may hold secrets."""

import logging
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from claude_runner.credentials import Anew, Open, Sealing
from claude_runner.db import Database, from_text, to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import checked_name
from claude_runner.notifications import _outbox, _sending
from claude_runner.notifications._couriers import Courier, Delivered, Message, Parcel
from claude_runner.notifications._records import Channel, Event, Notification, Where

MAX_CHANNELS: Final = 50
MAX_URL: Final = 4_000
_TEST: Final = Message(
    "A test from Claude Runner",
    "This channel works: what jobs fail at, what was missed and what has been paused is told here.",
)

_INSERT: Final = """
    INSERT INTO channels (id, name, sealed, shown, enabled, created_at, updated_at)
    VALUES (:id, :name, :sealed, :shown, 1, :now, :now) ON CONFLICT DO NOTHING RETURNING *
"""
_UPDATE: Final = """
    UPDATE channels SET name = :name, sealed = coalesce(:sealed, sealed), shown = :shown, enabled = :enabled,
        updated_at = :now
    WHERE id = :id AND updated_at = :was RETURNING *
"""

log = logging.getLogger(__name__)


class Channels:
    """The channels in the database."""

    def __init__(self, database: Database, hub: Hub, sealing: Sealing, courier: Courier) -> None:
        """Make them; the courier knows addresses, and brings a test there."""
        self._db = database
        self._hub = hub
        self._sealing = sealing
        self._courier = courier

    async def add(self, name: str, url: str, now: datetime) -> Channel:
        """Store a channel that is enabled.

        Raises:
            InvalidError: The name or the address can't be used, or there are very many channels.
            ConflictError: Another has the name.
            UnavailableError: What should be the key that seals is none, or the address can't be looked at.
        """
        name = checked_name(name, "a channel")
        url, shown = await self._looked_at(url)

        def insert(c: sqlite3.Connection) -> sqlite3.Row:
            _refuse_taken(c, name, None)
            (count,) = c.execute("SELECT count(*) FROM channels").fetchone()
            if count >= MAX_CHANNELS:
                raise InvalidError(
                    f"there are {MAX_CHANNELS} channels, and there can't be more", field="name"
                )
            while True:  # until the id is one that no channel has
                channel_id = secrets.token_hex(4)
                sealed = self._sealing.seal(_owner(channel_id), url)
                values = {
                    "id": channel_id,
                    "name": name,
                    "sealed": sealed,
                    "shown": shown,
                    "now": to_text(now),
                }
                row: sqlite3.Row | None = c.execute(_INSERT, values).fetchone()
                if row is not None:
                    return row

        row = await self._db.write(insert)
        self._hub.publish(Topic.OUTBOX, row["id"])
        return _channel(row, url)

    async def get(self, channel_id: str) -> Channel:
        """Return the channel.

        Raises:
            NotFoundError: There is none with this id.
            UnavailableError: What should be the key that opens its address is none.
        """
        found = await self._db.read(lambda c: _read(c, self._sealing.opener(), channel_id))
        if not found:
            raise _no_channel(channel_id)
        return found[0]

    async def list(self) -> list[Channel]:
        """Return all channels by name.

        Raises:
            UnavailableError: What should be the key that opens their addresses is none.
        """
        return await self._db.read(lambda c: _read(c, self._sealing.opener()))

    async def missing(self, names: Iterable[str]) -> Sequence[str]:
        """Return those of the names that no channel has."""
        known = await self._db.read(lambda c: {row["name"] for row in c.execute("SELECT name FROM channels")})
        return [name for name in names if name not in known]

    async def change(
        self, channel_id: str, changes: Mapping[str, Any], now: datetime, was: datetime | None = None
    ) -> Channel:
        """Change some of a channel.

        Args:
            channel_id: Which channel.
            changes: New values of `name`, `url` and `enabled`.
            now: The present.
            was: The `updated_at` of the channel that the changes were decided by; `None` for whichever there is.

        Raises:
            NotFoundError: There is none with this id.
            InvalidError: A value can't be used.
            ConflictError: Another has the name, or somebody else changed the channel since then or at the same moment.
            UnavailableError: What should be the key that seals is none, or the address can't be looked at.
        """
        old = await self.get(channel_id)
        if was not in {None, old.updated_at}:
            raise _changed(channel_id)
        name = checked_name(changes["name"], "a channel") if "name" in changes else old.name
        url, shown = (None, old.shown) if "url" not in changes else await self._looked_at(changes["url"])
        at = max(now, old.updated_at + timedelta(milliseconds=1))  # so that it tells two changes apart
        values = {
            "id": old.id,
            "name": name,
            "shown": shown,
            "enabled": int(changes.get("enabled", old.enabled)),
            "now": to_text(at),
            "was": to_text(old.updated_at),
        }

        def update(c: sqlite3.Connection) -> sqlite3.Row | None:
            _refuse_taken(c, name, old.id)
            sealed = None if url is None else self._sealing.seal(_owner(old.id), url)
            row: sqlite3.Row | None = c.execute(_UPDATE, values | {"sealed": sealed}).fetchone()
            if row is not None and url is not None:
                _sending.hurry(c, [old.id], now)
            return row

        row = await self._db.write(update)
        if row is None:
            raise _changed(channel_id)
        self._hub.publish(Topic.OUTBOX, old.id)
        return _channel(row, url or old.url)

    async def remove(self, channel_id: str, now: datetime) -> None:
        """Delete the channel; what waits for it is told nobody, and says so.

        Raises:
            NotFoundError: There is none with this id.
        """

        def delete(c: sqlite3.Connection) -> sqlite3.Row | None:
            _sending.give_up(c, channel_id, "its channel was deleted before it was sent", now)
            row: sqlite3.Row | None = c.execute(
                "DELETE FROM channels WHERE id = :id RETURNING id", {"id": channel_id}
            ).fetchone()
            return row

        if await self._db.write(delete) is None:
            raise _no_channel(channel_id)
        self._hub.publish(Topic.OUTBOX, channel_id)

    async def test(self, channel_id: str, now: datetime) -> Notification:
        """Send a test through the channel at once, enabled or not, and return what came of it.

        Raises:
            NotFoundError: There is none with this id.
            UnavailableError: What should be the key that opens its address is none.
        """
        channel = await self.get(channel_id)
        error: str | None = self.unreadable

        async def heard(delivered: Delivered) -> None:
            nonlocal error
            error = delivered.error

        if channel.url is not None:
            await self._courier.deliver([Parcel(channel.url, (_TEST,))], heard)
        told = await self._db.write(
            lambda c: _outbox.note(c, channel.id, Event.TEST, _TEST, error, now),
        )
        self._hub.publish(Topic.OUTBOX, channel.id)
        return told

    @property
    def unreadable(self) -> str:
        """Return what is wrong with a channel whose address no key opens."""
        return (
            f"its address can't be opened with the keys in {self._sealing.place}; put back the key that sealed it, or "
            "give the channel its url again"
        )

    async def urls(self, sealed: Mapping[str, str]) -> dict[str, str | None]:
        """Open sealed addresses, by the ids of their channels; one that no key opens is `None`."""

        def opened(_: sqlite3.Connection) -> dict[str, str | None]:
            opener = self._sealing.opener()
            return {channel_id: opener(_owner(channel_id), text) for channel_id, text in sealed.items()}

        return await self._db.read(opened)

    async def _looked_at(self, url: str) -> tuple[str, str]:
        """Return an address as it is kept, and what of it may be shown."""
        url = url.strip()
        if not url or len(url) > MAX_URL or any(ord(it) < 32 or ord(it) == 127 for it in url):
            raise InvalidError(
                f"a channel's url has 1 to {MAX_URL:,} characters, and no control characters", field="url"
            )
        return url, await self._courier.shown(url)


def enabled(c: sqlite3.Connection, names: Sequence[str] | None) -> tuple[list[Where], list[str]]:
    """Read the enabled channels of these names, all enabled ones where `None` is given.

    Returns:
        The channels, and the names that no channel has. Where there are such, all enabled channels are among the
        first: what nobody would hear of is told to all.
    """
    if names is not None and not names:
        return [], []
    rows = c.execute("SELECT id, name, enabled FROM channels ORDER BY name").fetchall()
    gone = [name for name in names or () if name not in {row["name"] for row in rows}]
    wanted = None if names is None or gone else set(names)
    found = [Where(row["id"], row["name"]) for row in rows if row["enabled"]]
    return [it for it in found if wanted is None or it.name in wanted], gone


def reseal(c: sqlite3.Connection, anew: Anew) -> int:
    """Seal every address anew that can be opened, and return how many those were."""
    total = 0
    for row in c.execute("SELECT id, name, sealed FROM channels").fetchall():
        sealed = anew(row["sealed"])
        if sealed is None:
            log.warning("the address of the channel '%s' can't be opened and stays as it is", row["name"])
            continue
        c.execute("UPDATE channels SET sealed = :sealed WHERE id = :id", {"id": row["id"], "sealed": sealed})
        total += 1
    return total


def _read(c: sqlite3.Connection, opened: Open, channel_id: str | None = None) -> list[Channel]:
    """Read the channel of this id, or all."""
    select = "SELECT * FROM channels WHERE :id IS NULL OR id = :id ORDER BY lower(name), id"
    rows = c.execute(select, {"id": channel_id}).fetchall()
    return [_channel(row, opened(_owner(row["id"]), row["sealed"])) for row in rows]


def _channel(row: sqlite3.Row, url: str | None) -> Channel:
    return Channel(
        id=row["id"],
        name=row["name"],
        url=url,
        shown=row["shown"],
        enabled=bool(row["enabled"]),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
    )


def _owner(channel_id: str) -> tuple[str, str]:
    return "channel", channel_id


def _refuse_taken(c: sqlite3.Connection, name: str, but: str | None) -> None:
    select = "SELECT id FROM channels WHERE name = :name AND id IS NOT :but"
    if c.execute(select, {"name": name, "but": but}).fetchone() is not None:
        raise ConflictError(f"there is a channel '{name}' already; choose another name", field="name")


def _changed(channel_id: str) -> ConflictError:
    return ConflictError(f"channel {channel_id} was changed by someone else just now; look again")


def _no_channel(channel_id: str) -> NotFoundError:
    return NotFoundError(
        f"there is no channel {channel_id[:60]!r}; list_notification_channels shows them all",
        field="channel_id",
    )
