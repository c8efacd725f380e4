"""The outbox, for whoever does not hold a connection: what was told, and what waits to be."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from claude_runner.db import Database, from_text, to_text
from claude_runner.notifications._records import Delivery, Event, Notification, notification_from
from claude_runner.runs import cursor_of, place_of

PINGS: Final = (Event.STARTED, Event.ENDED)

_PAGE: Final = """
    SELECT outbox.*, channels.name AS channel FROM outbox LEFT JOIN channels ON channels.id = outbox.channel_id
    WHERE (:state IS NULL OR outbox.state = :state)
        AND (:at IS NULL OR (outbox.created_at, outbox.id) < (:at, :id))
    ORDER BY outbox.created_at DESC, outbox.id DESC LIMIT :limit
"""


# Of what was tried through each, the last: it tells how things are now.
_TROUBLED: Final = """
    SELECT channels.id AS channel_id, NULL AS job_id, channels.name, last.error, last.created_at
    FROM channels JOIN outbox AS last ON last.id = (
        SELECT id FROM outbox WHERE channel_id = channels.id AND ping_url IS NULL AND created_at >= :since
            AND (error IS NOT NULL OR state = 'sent') ORDER BY created_at DESC, id DESC LIMIT 1
    ) WHERE channels.enabled = 1 AND last.error IS NOT NULL
    UNION ALL
    SELECT NULL, jobs.id, jobs.name, last.error, last.created_at
    FROM jobs JOIN outbox AS last ON last.id = (
        SELECT id FROM outbox WHERE job_id = jobs.id AND event = 'ended' AND ping_url IS NOT NULL
            AND created_at >= :since AND (error IS NOT NULL OR state = 'sent')
        ORDER BY created_at DESC, id DESC LIMIT 1
    ) WHERE jobs.heartbeat_url IS NOT NULL AND jobs.removed_at IS NULL AND last.error IS NOT NULL
    ORDER BY name LIMIT :limit
"""


class NotificationPage(NamedTuple):
    """Some notifications, newest first; `next_cursor` asks for those after them."""

    notifications: Sequence[Notification]
    next_cursor: str | None


class Trouble(NamedTuple):
    """A channel, or the heartbeat of a job, that did not take the last that was to be told through it.

    Attributes:
        name: The channel's or the job's.
        error: What was in the way.
    """

    channel_id: str | None
    job_id: str | None
    name: str
    error: str
    at: datetime


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

    async def troubles(self, since: datetime, limit: int) -> Sequence[Trouble]:
        """Return the enabled channels, and the jobs' heartbeats, that did not take the last of what was tried since."""
        values = {"since": to_text(since), "limit": limit}

        def read(c: sqlite3.Connection) -> list[Trouble]:
            return [
                Trouble(
                    row["channel_id"], row["job_id"], row["name"], row["error"], from_text(row["created_at"])
                )
                for row in c.execute(_TROUBLED, values)
            ]

        return await self._db.read(read)
