"""Deliveries: what was sent to a webhook and what became of it. What of one is secret is not kept."""

import json
import re
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from claude_runner.db import from_text, to_text
from claude_runner.errors import InvalidError
from claude_runner.webhooks._signatures import Headers

BODIES: Final = 1_000  # deliveries of a webhook whose bodies are kept, the newest
BODIES_BYTES: Final = 64 * 2**20  # of them together
REFUSALS: Final = 100  # refused deliveries of a webhook that are kept, the newest
KNOWN_FOR: Final = timedelta(days=7)  # for how long at least a delivery is known when it comes again
MAX_HEADERS: Final = 60
MAX_HEADER: Final = 1_000  # characters of a header that are kept
NOT_KEPT: Final = "[not kept]"

_SECRET: Final = re.compile(r"auth|cookie|token|secret|signature|hmac|passw|credential|session|api-?key|jwt")

_COLUMNS: Final = (
    "id", "webhook_id", "delivery_key", "received_at", "verdict", "reason", "headers", "body", "run_id", "replay_of",
)  # fmt: skip
_INSERT: Final = (
    f"INSERT INTO webhook_deliveries ({', '.join(_COLUMNS)})"  # noqa: S608 - names written above
    f" VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
)
_EARLIER: Final = """
    SELECT earlier.id, earlier.run_id, runs.state
    FROM webhook_deliveries AS earlier LEFT JOIN runs ON runs.id = earlier.run_id
    WHERE earlier.webhook_id = :webhook_id AND earlier.delivery_key = :key AND earlier.delivery_key IS NOT NULL
        AND earlier.verdict = 'accepted'
"""
# The terms that SQLite's partial indices stand for must be written out.
_REFUSED: Final = "verdict IN ('bad_signature', 'malformed', 'disabled')"
_FORGET_REFUSED: Final = f"""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE webhook_id = :webhook_id AND {_REFUSED}
        ORDER BY received_at DESC, id DESC LIMIT -1 OFFSET {REFUSALS}
    )
"""  # noqa: S608 - written above
_FORGET_OLD: Final = f"""
    DELETE FROM webhook_deliveries WHERE webhook_id = :webhook_id AND received_at < :before AND received_at < (
        SELECT received_at FROM webhook_deliveries WHERE webhook_id = :webhook_id
        ORDER BY received_at DESC, id DESC LIMIT 1 OFFSET {BODIES}
    )
"""  # noqa: S608 - written above
# It looks at the newest alone: of those before them the bodies are gone already.
_EMPTY: Final = f"""
    UPDATE webhook_deliveries SET body = NULL, headers = '{{}}' WHERE body IS NOT NULL AND id IN (
        SELECT id FROM (
            SELECT id, row_number() OVER newest AS place, sum(length(body)) OVER newest AS bytes
            FROM (
                SELECT id, received_at, body FROM webhook_deliveries WHERE webhook_id = :webhook_id
                ORDER BY received_at DESC, id DESC LIMIT {3 * BODIES}
            )
            WINDOW newest AS (ORDER BY received_at DESC, id DESC ROWS UNBOUNDED PRECEDING)
        ) WHERE place > {BODIES} OR bytes > {BODIES_BYTES}
    )
"""  # noqa: S608 - written above


class Verdict(StrEnum):
    """What became of a delivery."""

    ACCEPTED = "accepted"
    FILTERED = "filtered"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED = "malformed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery as it is written down.

    Attributes:
        key: What it is known by when it comes again.
        reason: Why it was refused, in a sentence.
        headers: As JSON, without what is secret.
        run_id: The run that it started.
        replay_of: The delivery that it is sent again of, by the owner.
    """

    webhook_id: str
    key: str | None
    received_at: datetime
    verdict: Verdict
    reason: str | None
    headers: str
    body: bytes
    run_id: str | None = None
    replay_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as stored; `body` is `None` once it is no longer kept."""

    id: str
    webhook_id: str
    key: str | None
    received_at: datetime
    verdict: Verdict
    reason: str | None
    headers: Mapping[str, str]
    body: bytes | None
    run_id: str | None
    replay_of: str | None


class Earlier(NamedTuple):
    """What became of a delivery when it came for the first time; the run may be gone."""

    run_id: str | None
    state: str | None


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some of a webhook's deliveries, newest first; `next_cursor` asks for those after them."""

    deliveries: list[Delivery]
    next_cursor: str | None


def kept_headers(headers: Headers) -> str:
    """Return what is kept of a request's headers, as JSON: no value of one that may let somebody in."""
    kept = {}
    for name, value in list(headers.items())[:MAX_HEADERS]:
        shown, secret = _named(name)
        kept[shown] = NOT_KEPT if secret else value.decode("latin-1")[:MAX_HEADER]
    return json.dumps(kept)


@lru_cache(maxsize=1024)
def _named(name: bytes) -> tuple[str, bool]:
    text = name.decode("latin-1")[:MAX_HEADER]
    return text, _SECRET.search(text) is not None


def earlier(c: sqlite3.Connection, webhook_id: str, key: str) -> Earlier | None:
    """Read what became of the accepted delivery of this key, `None` where there was none."""
    row = c.execute(_EARLIER, {"webhook_id": webhook_id, "key": key}).fetchone()
    return None if row is None else Earlier(row["run_id"], row["state"])


def keep(c: sqlite3.Connection, deliveries: Sequence[NewDelivery]) -> None:
    """Write deliveries down; their ids are made here."""
    digits = secrets.token_hex(8 * len(deliveries))
    ids = (digits[place : place + 16] for place in range(0, len(digits), 16))
    c.executemany(_INSERT, list(map(_row, ids, deliveries)))


def _row(delivery_id: str, delivery: NewDelivery) -> dict[str, Any]:
    return {
        "id": delivery_id,
        "webhook_id": delivery.webhook_id,
        "delivery_key": delivery.key,
        "received_at": to_text(delivery.received_at),
        "verdict": delivery.verdict.value,
        "reason": delivery.reason,
        "headers": delivery.headers,
        "body": delivery.body,
        "run_id": delivery.run_id,
        "replay_of": delivery.replay_of,
    }


def forget(c: sqlite3.Connection, webhook_id: str, now: datetime) -> None:
    """Drop what of a webhook's deliveries is not kept any longer."""
    values = {"webhook_id": webhook_id, "before": to_text(now - KNOWN_FOR)}
    for statement in (_FORGET_REFUSED, _EMPTY, _FORGET_OLD):
        c.execute(statement, values)


def delivery_from(row: sqlite3.Row) -> Delivery:
    """Make a delivery of its row; raises `InvalidError` where somebody wrote what can't be read into it."""
    try:
        return Delivery(
            id=row["id"],
            webhook_id=row["webhook_id"],
            key=row["delivery_key"],
            received_at=from_text(row["received_at"]),
            verdict=Verdict(row["verdict"]),
            reason=row["reason"],
            headers=dict(json.loads(row["headers"])),
            body=row["body"],
            run_id=row["run_id"],
            replay_of=row["replay_of"],
        )
    except (ValueError, TypeError) as error:
        raise InvalidError(f"delivery {row['id']} was edited by hand and can't be read: {error}") from error
