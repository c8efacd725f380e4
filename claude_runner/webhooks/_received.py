"""What has come to webhooks, as lists tell of it: without bodies, which may be large, and in a bounded time."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.webhooks._deliveries import Verdict

HEAD: Final = 160  # bytes of a body that a list shows
LARGEST_SHOWN: Final = (
    64 * 2**10
)  # bytes of a body of which that is shown: of others it takes too long to read

# The terms that SQLite's partial index stands for must be written out.
_REFUSED: Final = "verdict IN ('bad_signature', 'malformed', 'disabled')"
_PAGE: Final = """
    SELECT it.id, it.received_at, it.verdict, it.reason, it.run_id, it.replay_of, length(it.body) AS size,
        CASE WHEN length(it.body) <= :largest THEN substr(it.body, 1, :head) END AS head,
        runs.state AS run_state
    FROM webhook_deliveries AS it LEFT JOIN runs ON runs.id = it.run_id
    WHERE it.webhook_id = :webhook_id AND (:at IS NULL OR (it.received_at, it.id) < (:at, :id)) {}
    ORDER BY it.received_at DESC, it.id DESC LIMIT :limit
"""
_ALL: Final = _PAGE.format("")
_REFUSED_ALONE: Final = _PAGE.format(f"AND it.{_REFUSED}")
_LATELY: Final = f"""
    SELECT webhooks.id, last.id AS last_id, last.received_at, last.verdict,
        (SELECT count(*) FROM webhook_deliveries
            WHERE webhook_id = webhooks.id AND {_REFUSED} AND received_at >= :since) AS refused
    FROM webhooks LEFT JOIN webhook_deliveries AS last ON last.id = (
        SELECT id FROM webhook_deliveries WHERE webhook_id = webhooks.id ORDER BY received_at DESC, id DESC LIMIT 1
    )
"""  # noqa: S608 - written above


@dataclass(frozen=True, slots=True)
class Received:
    """A delivery as a list shows it.

    Attributes:
        head: The beginning of its body; `None` where that is large, or no longer kept.
        size: Bytes of its body; `None` where that is no longer kept.
        run_state: Its run's; `None` where it has none, or none any more.
    """

    id: str
    received_at: datetime
    verdict: Verdict
    reason: str | None
    head: str | None
    size: int | None
    run_id: str | None
    run_state: str | None
    replay_of: str | None


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """Some of what has come to a webhook, newest first; `next_cursor` asks for what came before."""

    deliveries: list[Received]
    next_cursor: str | None


class Lately(NamedTuple):
    """What has come to a webhook of late.

    Attributes:
        last_id: The last delivery; `None` where none came, or none is kept.
        refused: How many were refused; of those that are kept.
    """

    last_id: str | None
    last_at: datetime | None
    last_verdict: Verdict | None
    refused: int


def page_of(
    c: sqlite3.Connection, webhook_id: str, place: tuple[str, str] | None, limit: int, *, refused: bool
) -> list[sqlite3.Row]:
    """Read rows of deliveries, newest first.

    Args:
        c: A connection.
        webhook_id: Whose.
        place: The delivery that they come before, by when it was received and its id.
        limit: How many.
        refused: Whether only refused ones are wanted.
    """
    at, delivery_id = place or (None, None)
    values: dict[str, Any] = {
        "webhook_id": webhook_id,
        "at": at,
        "id": delivery_id,
        "limit": limit,
        "largest": LARGEST_SHOWN,
        "head": HEAD,
    }
    return c.execute(_REFUSED_ALONE if refused else _ALL, values).fetchall()


def received_from(row: sqlite3.Row) -> Received:
    """Make one of its row."""
    head = row["head"]
    return Received(
        id=row["id"],
        received_at=from_text(row["received_at"]),
        verdict=Verdict(row["verdict"]),
        reason=row["reason"],
        head=None if head is None else head.decode("utf-8", "replace"),
        size=row["size"],
        run_id=row["run_id"],
        run_state=row["run_state"],
        replay_of=row["replay_of"],
    )


def lately(c: sqlite3.Connection, since: datetime) -> Mapping[str, Lately]:
    """Read what has come of late to each webhook, by its id, also to those that can't be read."""
    rows = c.execute(_LATELY, {"since": to_text(since)}).fetchall()
    return {row["id"]: _lately_from(row) for row in rows}


def _lately_from(row: sqlite3.Row) -> Lately:
    if row["last_id"] is None:
        return Lately(None, None, None, row["refused"])
    return Lately(row["last_id"], from_text(row["received_at"]), Verdict(row["verdict"]), row["refused"])
