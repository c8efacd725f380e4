"""What runs came to in stretches of time, read from the sums that triggers keep."""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from claude_runner.db import to_text

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Totals:
    """What runs that ended came to together.

    Attributes:
        cost_usd: US dollars, of those whose price is known.
        unpriced: How many have run and have no known price.
        seconds: From their starts to their ends.
    """

    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    seconds: float = 0.0

    @property
    def runs(self) -> int:
        """Return how many ended, however they did."""
        return self.finished + self.failed + self.cancelled

    @property
    def total_tokens(self) -> int:
        """Return the sum of the four counts."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def success_rate(self) -> float | None:
        """Return the part of the runs that finished, of those that nobody cancelled; `None` where there are none."""
        counted = self.finished + self.failed
        return self.finished / counted if counted else None

    def __add__(self, other: "Totals") -> "Totals":
        """Return both together."""
        return Totals(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


class SlotTotals(NamedTuple):
    """What became of planned slots."""

    ran: int
    skipped: int
    missed: int


_COLUMNS: Final = tuple(each.name for each in fields(Totals))
_REAL: Final = frozenset({"cost_usd", "seconds"})
_SUMS: Final = ", ".join(f"total({name})" for name in _COLUMNS)
_BETWEEN: Final = f"""
    SELECT {_SUMS} FROM usage_sums
    WHERE span = :span AND rehearsal = :rehearsal AND at >= :since AND at < :until
"""  # noqa: S608 - written above
_IN_ALL: Final = f"SELECT {_SUMS} FROM usage_sums WHERE span = 'day' AND rehearsal = :rehearsal"  # noqa: S608 - above
_SLOTS: Final = """
    SELECT total(ran), total(skipped), total(missed) FROM slot_quarters WHERE at >= :since AND at < :until
"""


def usage(c: sqlite3.Connection, edges: Sequence[datetime], *, rehearsal: bool) -> list[Totals]:
    """Read what ended between each edge and the next, to a quarter of an hour."""
    return [_between(c, since, until, rehearsal) for since, until in _stretches(edges)]


def usage_in_all(c: sqlite3.Connection, *, rehearsal: bool) -> Totals:
    """Read what all runs there ever were came to."""
    return _totals(c.execute(_IN_ALL, {"rehearsal": int(rehearsal)}).fetchone())


def slots(c: sqlite3.Connection, edges: Sequence[datetime]) -> list[SlotTotals]:
    """Read what became of the slots planned between each edge and the next, to a quarter of an hour."""
    return [
        SlotTotals(
            *map(int, c.execute(_SLOTS, {"since": to_text(since), "until": to_text(until)}).fetchone())
        )
        for since, until in _stretches(edges)
    ]


def _stretches(edges: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    instants = [edge.astimezone(UTC) for edge in edges]
    return list(pairwise(instants))


def _between(c: sqlite3.Connection, since: datetime, until: datetime, rehearsal: bool) -> Totals:  # noqa: FBT001 - as kept
    """Add up quarters of an hour at both ends, and between them whole days."""
    first, last = _day_of(since + DAY - timedelta(microseconds=1)), _day_of(until)
    spans = [("quarter", since, until)]
    if last - first > DAY:
        spans = [("quarter", since, first), ("day", first, last), ("quarter", last, until)]
    parts = (
        c.execute(
            _BETWEEN,
            {
                "span": span,
                "rehearsal": int(rehearsal),
                "since": to_text(from_),
                "until": to_text(to),
            },
        ).fetchone()
        for span, from_, to in spans
    )
    return sum(map(_totals, parts), Totals())


def _day_of(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def _totals(row: sqlite3.Row) -> Totals:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Totals(**{name: value if name in _REAL else int(value) for name, value in values.items()})
