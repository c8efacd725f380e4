"""What holds runs back: the owner, or a model that would refuse each of them in turn. Owns the table holds.

While anything is held, only runs that somebody started by hand are begun; the others wait, pending. A hold of the owner
and one of a usage limit end at their time. One of a login or a bill has no time to end at: now and then a run is let
through to see, less and less often, and whatever a model answers lifts it.
"""

import sqlite3
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from claude_runner.db import from_text, to_text

SHORTEST: Final = timedelta(minutes=1)  # between two runs that are let through to see
LONGEST: Final = timedelta(hours=1)

_HOLD = """
    INSERT INTO holds (kind, since, until, reason) VALUES (:kind, :now, :until, :reason)
    ON CONFLICT (kind) DO UPDATE SET until = excluded.until, reason = excluded.reason,
        since = iif(kind IN ('paused', 'usage_limit') AND until <= :now, :now, since),
        streak = iif(kind IN ('paused', 'usage_limit') AND until <= :now, 1, streak + 1)
    RETURNING *
"""
_CURRENT = "SELECT * FROM holds WHERE until IS NULL OR until > :now ORDER BY since, kind"


class HoldKind(StrEnum):
    """What holds runs back."""

    PAUSED = "paused"
    NOT_SIGNED_IN = "not_signed_in"
    BILLING = "billing"
    USAGE_LIMIT = "usage_limit"


# Lifted by whatever a model answers, and by a start of the server, which may have another login.
OF_THE_MODEL: Final = (HoldKind.NOT_SIGNED_IN, HoldKind.BILLING, HoldKind.USAGE_LIMIT)


class Hold(NamedTuple):
    """What holds runs back.

    Attributes:
        until: When it ends, or a run is let through to see; `None` for when somebody says so.
        reason: A sentence for a person.
        streak: How often in a row a run met it.
    """

    kind: HoldKind
    since: datetime
    until: datetime | None
    reason: str
    streak: int


def current(c: sqlite3.Connection, now: datetime) -> tuple[Hold, ...]:
    """Read what holds runs back now, the oldest first."""
    return tuple(_hold_from(row) for row in c.execute(_CURRENT, {"now": to_text(now)}))


def are_held(c: sqlite3.Connection, now: datetime) -> bool:
    """Tell whether only runs that somebody started by hand may begin."""
    return c.execute(_CURRENT, {"now": to_text(now)}).fetchone() is not None


def next_end(c: sqlite3.Connection, now: datetime) -> datetime | None:
    """Read when the next of what holds runs back ends."""
    (first,) = c.execute("SELECT min(until) FROM holds WHERE until > :now", {"now": to_text(now)}).fetchone()
    return None if first is None else from_text(first)


def hold(c: sqlite3.Connection, kind: HoldKind, until: datetime | None, reason: str, now: datetime) -> Hold:
    """Hold runs back, from now or for longer, and return what holds them."""
    values = {
        "kind": kind.value,
        "now": to_text(now),
        "until": None if until is None else to_text(until),
        "reason": reason,
    }
    return _hold_from(c.execute(_HOLD, values).fetchone())


def look_again_at(c: sqlite3.Connection, kind: HoldKind, now: datetime) -> datetime:
    """Return when a run may be let through to see, if another has just met this hold: later each time."""
    row = c.execute("SELECT streak FROM holds WHERE kind = :kind", {"kind": kind.value}).fetchone()
    met: int = 0 if row is None else row["streak"]
    pause: timedelta = min(LONGEST, SHORTEST * (1 << min(met, 10)))
    return now + pause


def since(c: sqlite3.Connection, kind: HoldKind) -> datetime | None:
    """Read since when it holds runs back, its time over or not; `None` where it does not."""
    row = c.execute("SELECT since FROM holds WHERE kind = :kind", {"kind": kind.value}).fetchone()
    return None if row is None else from_text(row["since"])


def pass_on(c: sqlite3.Connection, now: datetime, until: datetime) -> None:
    """Let one run through where it is time to see: a hold without an end of its own goes on until then.

    One that had an end is over.
    """
    values = {"now": to_text(now), "until": to_text(until)}
    c.execute("DELETE FROM holds WHERE until <= :now AND kind IN ('paused', 'usage_limit')", values)
    c.execute("UPDATE holds SET until = :until WHERE until <= :now", values)


def lift(c: sqlite3.Connection, kind: HoldKind) -> bool:
    """Let runs begin again, as far as this held them back; tells whether it did."""
    return (
        c.execute("DELETE FROM holds WHERE kind = :kind RETURNING kind", {"kind": kind.value}).fetchone()
        is not None
    )


def lift_those_of_the_model(c: sqlite3.Connection, before: datetime | None = None) -> bool:
    """Lift whatever a model held back, since it answers or since it may be another; tells whether there was any.

    Args:
        c: The transaction of whoever knows.
        before: Only what has been held back since before this.
    """
    kinds = [kind for kind in OF_THE_MODEL if before is None or ((it := since(c, kind)) and it < before)]
    return bool([kind for kind in kinds if lift(c, kind)])


def _hold_from(row: sqlite3.Row) -> Hold:
    return Hold(
        HoldKind(row["kind"]),
        from_text(row["since"]),
        None if row["until"] is None else from_text(row["until"]),
        row["reason"],
        row["streak"],
    )
