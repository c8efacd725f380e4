"""The outbox, for whoever does not hold a connection: what was told, and what waits to be."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from claude_runner.db import Database, to_text
from claude_runner.notifications._records import Delivery, Event, Notification, notification_from
from claude_runner.runs import cursor_of, place_of

PINGS: Final = (Event.STARTED, Event.ENDED)

_PAGE: Final = """
    SELECT outbox.*, channels.name AS channel FROM outbox LEFT JOIN channels ON channels.id = outbox.channel_id
    WHERE (:state IS NULL OR outbox.state = :state)
        AND (:at IS NULL OR (outbox.created_at, outbox.id) < (:at, :id))
    ORDER BY outbox.created_at DESC, outbox.id DESC LIMIT :limit
"""


class NotificationPage(NamedTuple):
    """Some notifications, newest first; `next_cursor` asks for those after them."""

    notifications: Sequence[Notification]
    next_cursor: str | None


class Outbox:
    """What was told, and what waits to be."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def list(
        self, state: Delivery | None = None, limit: int = 50, cursor: str | None = None
    ) -> NotificationPage:
        """Return a page of notifications and pings, newest first.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        at, row_id = (None, None) if cursor is None else place_of(cursor, "list_notifications")
        values = {"state": state, "at": at, "id": row_id, "limit": limit + 1}

        def read(c: sqlite3.Connection) -> list[Notification]:
            return [notification_from(row) for row in c.execute(_PAGE, values)]

        found = await self._db.read(read)
        shown = found[:limit]
        last = shown[-1] if len(found) > limit else None
        return NotificationPage(shown, None if last is None else cursor_of(to_text(last.created_at), last.id))
