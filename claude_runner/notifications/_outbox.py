"""What somebody is to hear of: written in the transaction of what it tells of, and sent afterwards."""

import secrets
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from claude_runner.db import to_text
from claude_runner.jobs import clean_text
from claude_runner.notifications._couriers import Message
from claude_runner.notifications._records import Delivery, Event, Notification, Where, notification_from

MAX_TITLE: Final = 150
MAX_BODY: Final = 4_000
KEPT_TRYING: Final = timedelta(days=3)  # so that a service that is down for a weekend loses nothing
START_KEPT: Final = timedelta(minutes=2)  # a start that is told late is a wrong one
END_KEPT: Final = timedelta(hours=1)

# Behind what waits for a channel that did not take something: it is not asked again for each.
_TELL: Final = """
    INSERT INTO outbox (id, channel_id, event, job_id, run_id, title, body, next_attempt_at, expires_at, created_at)
    VALUES (:id, :channel_id, :event, :job_id, :run_id, :title, :body,
        coalesce((SELECT max(next_attempt_at) FROM outbox
            WHERE channel_id = :channel_id AND state = 'waiting' AND ping_url IS NULL AND error IS NOT NULL), :now),
        :expires_at, :now)
"""
_PING: Final = """
    INSERT INTO outbox (id, ping_url, event, job_id, run_id, title, body, next_attempt_at, expires_at, created_at)
    VALUES (:id, :ping_url, :event, :job_id, :run_id, '', :body, :now, :expires_at, :now)
"""
_OVERTAKEN: Final = """
    DELETE FROM outbox WHERE state = 'waiting' AND ping_url IS NOT NULL AND job_id = :job_id
        AND (event = 'started' OR :event = 'ended')
"""
_NOTE: Final = """
    INSERT INTO outbox (id, channel_id, event, title, body, state, attempts, next_attempt_at, expires_at, error,
        created_at, finished_at)
    VALUES (:id, :channel_id, :event, :title, :body, :state, 1, :now, :now, :error, :now, :now)
    RETURNING *, (SELECT name FROM channels WHERE channels.id = channel_id) AS channel
"""
_SAID: Final = """
    SELECT 1 FROM outbox WHERE job_id IS :job_id AND event = :event AND created_at >= :since AND title = :title LIMIT 1
"""


class About(NamedTuple):
    """What a notification is about."""

    job_id: str | None = None
    run_id: str | None = None


def tell(
    c: sqlite3.Connection,
    channels: Sequence[Where],
    event: Event,
    message: Message,
    about: About,
    now: datetime,
) -> None:
    """Have something sent to channels."""
    cleaned = _cleaned(message)
    for channel in channels:
        values = {
            "id": secrets.token_hex(6),
            "channel_id": channel.id,
            "event": event.value,
            "job_id": about.job_id,
            "run_id": about.run_id,
            "title": cleaned.title,
            "body": cleaned.body,
            "expires_at": to_text(now + KEPT_TRYING),
            "now": to_text(now),
        }
        c.execute(_TELL, values)


def ping(
    c: sqlite3.Connection, url: str, event: Event, body: str, *, job_id: str, run_id: str, now: datetime
) -> None:
    """Have a heartbeat pinged; what waits of the job's and is overtaken by this is not sent any more.

    Args:
        c: The transaction of what it tells of.
        url: The whole address.
        event: `started` or `ended`.
        body: A few words that the service keeps with it.
        job_id: Whose heartbeat it is.
        run_id: Which run it tells of.
        now: The present.
    """
    kept = START_KEPT if event is Event.STARTED else END_KEPT
    values: dict[str, Any] = {
        "id": secrets.token_hex(6),
        "ping_url": url,
        "event": event.value,
        "job_id": job_id,
        "run_id": run_id,
        "body": clean_text(body)[:MAX_BODY],
        "expires_at": to_text(now + kept),
        "now": to_text(now),
    }
    c.execute(_OVERTAKEN, {"job_id": job_id, "event": event.value})
    c.execute(_PING, values)


def was_told(c: sqlite3.Connection, event: Event, title: str, job_id: str | None, since: datetime) -> bool:
    """Tell whether somebody was told, or is to be told, of the same since then."""
    title = _cleaned(Message(title, "")).title
    values = {"job_id": job_id, "event": event.value, "title": title, "since": to_text(since)}
    return c.execute(_SAID, values).fetchone() is not None


def note(
    c: sqlite3.Connection, channel_id: str, event: Event, message: Message, error: str | None, now: datetime
) -> Notification:
    """Write down what was sent already, or could not be: `error` says why."""
    values = {
        "id": secrets.token_hex(6),
        "channel_id": channel_id,
        "event": event.value,
        "title": message.title,
        "body": message.body,
        "state": (Delivery.SENT if error is None else Delivery.FAILED).value,
        "error": error,
        "now": to_text(now),
    }
    return notification_from(c.execute(_NOTE, values).fetchone())


def _cleaned(message: Message) -> Message:
    """Return a message whose title is one line: it may become the header of a mail."""
    title = " ".join(clean_text(message.title).split())
    if len(title) > MAX_TITLE:
        title = f"{title[: MAX_TITLE - 1]}…"
    return Message(title, clean_text(message.body)[:MAX_BODY])
