"""What is told of what was used, by whom or on which day."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import reduce
from operator import add
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.runs import Dimension, Totals
from claude_runner.views.decisions import owners_zone
from claude_runner.views.pauses import read_moment

USUAL_DAYS: Final = 30
MOST_DAYS: Final = 400
MOST: Final = 200  # rows


class By(StrEnum):
    """What is told apart."""

    JOB = "job"
    WEBHOOK = "webhook"
    MODEL = "model"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Spent:
    """What runs came to; `unpriced` are those whose price is not known, which are in no cost."""

    runs: int
    failed: int
    tokens: int
    cost_usd: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class SpentBy(Spent):
    """What the runs of one job, webhook, model or day came to; `name` is what people call it."""

    key: str
    name: str | None


@dataclass(frozen=True, slots=True)
class Spending:
    """What was used in a stretch of time on the owner's clock: in all, and the dearest rows, or day by day."""

    by: By
    since: str
    until: str
    timezone: str
    totals: Spent
    rows: list[SpentBy]


async def spending(
    app: App, since: str | None, until: str | None, by: By, names: tuple[str, str] = ("from", "to")
) -> Spending:
    """Return what runs came to that ended in a stretch of time, the last 30 days where none is named.

    Args:
        app: What knows of the runs.
        since: Where it begins.
        until: Where it ends; now where it is left out.
        by: What is told apart.
        names: What the caller calls its beginning and its end.

    Raises:
        InvalidError: A time can't be read, the stretch is empty, or it has too many days to tell each.
    """
    zone = await owners_zone(app)
    end = app.clock.now() if until is None else read_moment(until, names[1], zone)
    start = end - timedelta(days=USUAL_DAYS) if since is None else read_moment(since, names[0], zone)
    if end <= start and until is None:
        raise InvalidError(f"{names[0]} is a time to come, and no run has ended then", field=names[0])
    if end <= start:
        raise InvalidError(f"{names[1]} is not later than {names[0]}", field=names[1])
    edges = _midnights(start, end, zone, names[0]) if by is By.DAY else [start, end]
    parts = await app.runs.usage(edges, rehearsal=app.settings.rehearsal)
    if by is By.DAY:
        rows = [
            _row(f"{day.astimezone(zone):%Y-%m-%d}", None, each)
            for day, each in zip(edges, parts, strict=False)
        ]
    else:
        shares = await app.runs.usage_by(Dimension(by.value), start, end, MOST)
        rows = [_row(share.key, share.name, share.totals) for share in shares]
    totals = reduce(add, parts)
    spent = Spent(totals.runs, totals.failed, totals.total_tokens, totals.cost_usd, totals.unpriced)
    begins, ends = (edge.astimezone(zone).isoformat(timespec="seconds") for edge in (edges[0], edges[-1]))
    return Spending(by, begins, ends, zone.key, spent, rows)


def _midnights(start: datetime, end: datetime, zone: ZoneInfo, name: str) -> list[datetime]:
    """Return where the days begin, from that of one instant, and where that of another ends."""
    day = start.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    edges = [day]
    while edges[-1] < end:
        if len(edges) > MOST_DAYS:
            raise InvalidError(
                f"more than {MOST_DAYS} days can't be told one by one; ask for fewer", field=name
            )
        edges.append(edges[-1] + timedelta(days=1))
    return edges


def _row(key: str, name: str | None, it: Totals) -> SpentBy:
    return SpentBy(it.runs, it.failed, it.total_tokens, it.cost_usd, it.unpriced, key, name)
