"""The sender's side of the outbox: what is due, whose it is to send, and what came of it.

What is claimed is put off by as long as the sending may take: a sender that dies loses nothing, and what it had sent
just then may be sent twice. What waits for one channel goes together, and is put off together where the channel does
not take it.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.notifications._records import Notification, notification_from

LEASE: Final = timedelta(minutes=5)  # longer than any sending takes
READ: Final = 40  # of what waits for a channel, how many are read: more than a digest names
KEPT: Final = timedelta(days=30)
PINGS_KEPT: Final = timedelta(days=1)
TIDIED: Final = 2_000  # rows at a time

_DUE: Final = """
    SELECT id, shown LIKE 'email:%' AS mail, (
        SELECT min(next_attempt_at) FROM outbox
        WHERE channel_id = channels.id AND state = 'waiting' AND ping_url IS NULL
    ) AS at FROM channels WHERE enabled = 1
"""
_DUE_PINGS: Final = """
    SELECT job_id, min(next_attempt_at) AS at FROM outbox WHERE state = 'waiting' AND ping_url IS NOT NULL
    GROUP BY job_id
"""
_CLAIM: Final = """
    UPDATE outbox SET next_attempt_at = :lease, attempts = attempts + 1
    WHERE channel_id = :channel_id AND state = 'waiting' AND ping_url IS NULL AND next_attempt_at <= :now
    RETURNING id, attempts
"""
_CLAIMED: Final = """
    SELECT *, NULL AS channel FROM outbox
    WHERE channel_id = :channel_id AND state = 'waiting' AND ping_url IS NULL AND next_attempt_at = :lease
    ORDER BY created_at, rowid LIMIT :limit
"""
_CLAIM_PING: Final = """
    UPDATE outbox SET next_attempt_at = :lease, attempts = attempts + 1 WHERE state = 'waiting' AND id = (
        SELECT id FROM outbox WHERE state = 'waiting' AND ping_url IS NOT NULL AND job_id = :job_id
            AND next_attempt_at <= :now AND expires_at > :now
        ORDER BY created_at, rowid LIMIT 1
    ) RETURNING *, NULL AS channel
"""
_SENT: Final = """
    UPDATE outbox SET state = 'sent', finished_at = :now, error = NULL WHERE id = :id AND state = 'waiting'
"""
# Whoever did not take this would not take the next one either, so that all of the channel's waits together.
_PUT_OFF: Final = """
    UPDATE outbox SET next_attempt_at = :then, error = iif(next_attempt_at = :lease, :error, coalesce(error, :error))
    WHERE {whose} AND state = 'waiting' AND (next_attempt_at = :lease OR next_attempt_at < :then)
"""
_OF_CHANNEL: Final = "channel_id = :key AND ping_url IS NULL"
_OF_JOB: Final = "job_id = :key AND ping_url IS NOT NULL"
_GIVE_UP: Final = """
    UPDATE outbox SET state = 'failed', finished_at = :now, error = coalesce(error, 'it could not be sent in time')
    WHERE state = 'waiting' AND (ping_url IS NOT NULL OR attempts > 0 OR NOT EXISTS (
        SELECT 1 FROM channels WHERE channels.id = channel_id AND enabled = 1)) AND expires_at <= :then AND {whose}
"""
_FORGET: Final = """
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE state <> 'waiting' AND created_at < :before AND (:old OR ping_url IS NOT NULL)
        LIMIT :limit
    )
"""


class Lane(NamedTuple):
    """What waits for one channel, or of one job's pings: one is sent after the other.

    Attributes:
        key: The id of the channel or of the job.
        is_ping: Which of the two.
        is_mail: Whether the channel is one of our own mail.
        at: When the first is due.
    """

    key: str
    is_ping: bool
    is_mail: bool
    at: datetime


class Claim(NamedTuple):
    """What is to be sent now through one lane.

    Attributes:
        lane: Which.
        ids: Of all that is to be sent, oldest first as far as they are read.
        first: The oldest of them, read.
        attempts: How often what was tried most was tried, this time included.
        sealed: The address of its channel, sealed; `None` for a ping.
        lease: Until when it is nobody else's.
    """

    lane: Lane
    ids: tuple[str, ...]
    first: tuple[Notification, ...]
    attempts: int
    sealed: str | None
    lease: str


def due(c: sqlite3.Connection) -> list[Lane]:
    """Read for each lane when something of it is due, the first first."""
    lanes = [
        Lane(row["id"], is_ping=False, is_mail=bool(row["mail"]), at=from_text(row["at"]))
        for row in c.execute(_DUE)
        if row["at"] is not None
    ]
    lanes += [
        Lane(row["job_id"], is_ping=True, is_mail=False, at=from_text(row["at"]))
        for row in c.execute(_DUE_PINGS)
    ]
    return sorted(lanes, key=lambda lane: lane.at)


def claim(c: sqlite3.Connection, lanes: Sequence[Lane], now: datetime) -> list[Claim]:
    """Take all that is due in the lanes, of a job's pings the first; a lane in which nothing is has no claim."""
    lease = to_text(now + LEASE)
    found = [
        (_claim_ping if lane.is_ping else _claim_channel)(c, lane, to_text(now), lease) for lane in lanes
    ]
    return [it for it in found if it is not None]


def sent(c: sqlite3.Connection, ids: Sequence[str], now: datetime) -> None:
    """Note that these were sent."""
    at = to_text(now)
    c.executemany(_SENT, [{"id": each, "now": at} for each in ids])


def put_off(c: sqlite3.Connection, claim: Claim, error: str, now: datetime, then: datetime) -> None:
    """Have what is left of the claim and waits behind it tried again then; what expires before is given up."""
    whose = _OF_JOB if claim.lane.is_ping else _OF_CHANNEL
    values = {
        "key": claim.lane.key,
        "error": error,
        "now": to_text(now),
        "then": to_text(then),
        "lease": claim.lease,
    }
    c.execute(_PUT_OFF.format(whose=whose), values)
    c.execute(_GIVE_UP.format(whose=whose), values)


def give_up(c: sqlite3.Connection, channel_id: str, error: str, now: datetime) -> None:
    """Note of all that waits for a channel that it is not sent, and why."""
    c.execute(
        "UPDATE outbox SET state = 'failed', finished_at = :now, error = :error "
        "WHERE channel_id = :id AND state = 'waiting' AND ping_url IS NULL",
        {"id": channel_id, "error": error, "now": to_text(now)},
    )


def hurry(c: sqlite3.Connection, channel_ids: Sequence[str], now: datetime) -> None:
    """Have what failed before and waits for channels tried at once: something about them has changed."""
    update = (
        "UPDATE outbox SET next_attempt_at = :now WHERE channel_id = :id AND state = 'waiting' AND ping_url IS NULL "
        "AND error IS NOT NULL AND next_attempt_at > :now"
    )
    c.executemany(update, [{"id": each, "now": to_text(now)} for each in channel_ids])


def tidy(c: sqlite3.Connection, now: datetime) -> bool:
    """Give up what is too late, and forget some of what is old; tells whether there may be more of that."""
    c.execute(_GIVE_UP.format(whose="1"), {"now": to_text(now), "then": to_text(now)})
    count = 0
    for before, old in ((now - KEPT, 1), (now - PINGS_KEPT, 0)):
        values = {"before": to_text(before), "old": old, "limit": TIDIED}
        count = max(count, c.execute(_FORGET, values).rowcount)
    return count == TIDIED


def _claim_channel(c: sqlite3.Connection, lane: Lane, now: str, lease: str) -> Claim | None:
    select = "SELECT sealed FROM channels WHERE id = :id AND enabled = 1"
    channel = c.execute(select, {"id": lane.key}).fetchone()
    if channel is None:
        return None
    values = {"channel_id": lane.key, "now": now, "lease": lease, "limit": READ}
    rows = c.execute(_CLAIM, values).fetchall()
    if not rows:
        return None
    first = tuple(notification_from(row) for row in c.execute(_CLAIMED, values))
    ids = dict.fromkeys((*(each.id for each in first), *(row["id"] for row in rows)))
    return Claim(lane, tuple(ids), first, max(row["attempts"] for row in rows), channel["sealed"], lease)


def _claim_ping(c: sqlite3.Connection, lane: Lane, now: str, lease: str) -> Claim | None:
    values = {"key": lane.key, "job_id": lane.key, "now": now, "then": now, "lease": lease}
    c.execute(_GIVE_UP.format(whose=_OF_JOB), values)
    row = c.execute(_CLAIM_PING, values).fetchone()
    if row is None:
        return None
    first = notification_from(row)
    return Claim(lane, (first.id,), (first,), first.attempts, None, lease)
