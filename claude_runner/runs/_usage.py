"""What runs came to in stretches of time, read from the sums that triggers keep."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from operator import add, attrgetter
from typing import Any, Final, NamedTuple

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
        return Totals(*map(add, _values(self), _values(other)))


class Dimension(StrEnum):
    """Whose runs are added up."""

    JOB = "job"
    WEBHOOK = "webhook"
    MODEL = "model"


class Share(NamedTuple):
    """What the runs of one job, webhook or model came to.

    Attributes:
        key: Its id, or the model's name.
        name: What people call it; `None` of a model, and of what is deleted.
        totals: A run of several models counts with each of them, with the tokens and the cost that are that model's.
    """

    key: str
    name: str | None
    totals: Totals


class SlotTotals(NamedTuple):
    """What became of planned slots."""

    ran: int
    skipped: int
    missed: int


_COLUMNS: Final = tuple(each.name for each in fields(Totals))
_values: Final = attrgetter(*_COLUMNS)
_REAL: Final = frozenset({"cost_usd", "seconds"})
_SUMS: Final = ", ".join(f"total({name})" for name in _COLUMNS)
_BETWEEN: Final = f"""
    SELECT {_SUMS} FROM usage_sums
    WHERE span = :span AND rehearsal = :rehearsal AND at >= :since AND at < :until
"""  # noqa: S608 - written above
_IN_ALL: Final = f"SELECT {_SUMS} FROM usage_sums WHERE span = 'day' AND rehearsal = :rehearsal"  # noqa: S608 - above
# Each key is looked for after the one before it: to read them all would be to read the whole history.
_OF_EACH: Final = f"""
    WITH RECURSIVE keys (key) AS (
        SELECT min(key) FROM usage_shares WHERE span = 'month' AND dimension = :dimension
        UNION ALL
        SELECT (SELECT min(key) FROM usage_shares WHERE span = 'month' AND dimension = :dimension AND key > keys.key)
        FROM keys WHERE keys.key IS NOT NULL
    )
    SELECT key, {_SUMS} FROM usage_shares
    WHERE span = :span AND dimension = :dimension AND key IN (SELECT key FROM keys) AND at >= :since AND at < :until
    GROUP BY key
"""  # noqa: S608 - written above
_COST_OF: Final = """
    SELECT total(cost_usd) FROM usage_shares
    WHERE span = :span AND dimension = :dimension AND key = :key AND at >= :since AND at < :until
"""
_NAMES: Final = {
    "job": "SELECT name FROM jobs WHERE id = :key",
    "webhook": "SELECT name FROM webhooks WHERE id = :key",
}
_SLOTS: Final = """
    SELECT total(ran), total(skipped), total(missed) FROM slot_quarters WHERE at >= :since AND at < :until
"""


def usage(c: sqlite3.Connection, edges: Sequence[datetime], *, rehearsal: bool) -> list[Totals]:
    """Read what ended between each edge and the next, to a quarter of an hour."""
    return [_between(c, since, until, rehearsal) for since, until in _stretches(edges)]


def usage_by(
    c: sqlite3.Connection, dimension: Dimension, since: datetime, until: datetime, limit: int
) -> list[Share]:
    """Read what the runs of each job, webhook or model came to that ended in a stretch of time, the dearest first."""
    found: dict[str, Totals] = {}
    for span in _spans(since.astimezone(UTC), until.astimezone(UTC), months=True):
        for key, *sums in c.execute(_OF_EACH, span._asdict() | {"dimension": dimension}):
            found[key] = found.get(key, Totals()) + _totals(sums)
    dearest = sorted(found.items(), key=lambda it: (-it[1].cost_usd, -it[1].runs, it[0]))
    return [Share(key, _name(c, dimension, key), totals) for key, totals in dearest[:limit]]


def cost_between(c: sqlite3.Connection, since: datetime, until: datetime) -> float:
    """Read what all runs have cost that ended in a stretch of time, in US dollars; rehearsals are none of them."""
    return _between(c, since.astimezone(UTC), until.astimezone(UTC), rehearsal=False).cost_usd


def cost_of(c: sqlite3.Connection, dimension: Dimension, key: str, since: datetime, until: datetime) -> float:
    """Read what the runs of one job, webhook or model have cost that ended in a stretch of time, in US dollars."""
    values = {"dimension": dimension, "key": key}
    spans = _spans(since.astimezone(UTC), until.astimezone(UTC), months=True)
    return sum((float(c.execute(_COST_OF, span._asdict() | values).fetchone()[0]) for span in spans), 0.0)


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


class _Span(NamedTuple):
    """Rows of one kind of the sums, from the first to the one before the last."""

    span: str
    since: str
    until: str


def _between(c: sqlite3.Connection, since: datetime, until: datetime, rehearsal: bool) -> Totals:  # noqa: FBT001 - as kept
    parts = (
        c.execute(_BETWEEN, span._asdict() | {"rehearsal": int(rehearsal)}).fetchone()
        for span in _spans(since, until)
    )
    return sum(map(_totals, parts), Totals())


def _spans(since: datetime, until: datetime, *, months: bool = False) -> list[_Span]:
    """Return what a stretch of time in UTC is made of: quarters of an hour at both ends, whole days between them."""
    first, last = _day_of(since + DAY - timedelta(microseconds=1)), _day_of(until)
    if last <= first:
        return [_span("quarter", since, until)]
    inner = _days(first, last) if months else [_span("day", first, last)]
    ends = [_span("quarter", *end) for end in ((since, first), (last, until)) if end[0] < end[1]]
    return [*ends, *inner]


def _days(first: datetime, last: datetime) -> list[_Span]:
    """Return what whole days are made of: days at both ends, and between them whole months."""
    begin, end = first.replace(day=1), last.replace(day=1)
    if first.day > 1:
        begin = (begin + 31 * DAY).replace(day=1)
    if end <= begin:
        return [_span("day", first, last)]
    return [_span("day", first, begin), _span("month", begin, end), _span("day", end, last)]


def _span(span: str, since: datetime, until: datetime) -> _Span:
    return _Span(span, to_text(since), to_text(until))


def _name(c: sqlite3.Connection, dimension: Dimension, key: str) -> str | None:
    row = c.execute(_NAMES[dimension], {"key": key}).fetchone() if dimension in _NAMES else None
    return None if row is None else str(row["name"])


def _day_of(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def _totals(row: Iterable[Any]) -> Totals:
    values = zip(_COLUMNS, row, strict=True)
    return Totals(*(value if name in _REAL else int(value) for name, value in values))
