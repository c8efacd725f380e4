"""Stretches of time on the owner's clock: hours, days, weeks and months, whatever daylight saving does to them."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from claude_runner.errors import InvalidError


class Period(StrEnum):
    """How long each interval is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def edges_of(since: datetime, until: datetime, period: Period, zone: ZoneInfo, most: int) -> list[datetime]:
    """Return where intervals begin, and where the last ends: whole ones, from that with `since` to that with `until`.

    Raises:
        InvalidError: `until` is not later than `since`, or there are more than `most`.
    """
    if until <= since:
        raise InvalidError("until is not later than since", field="until")
    edges = [_beginning(since.astimezone(zone), period)]
    while edges[-1] < until:
        if len(edges) > most:
            raise InvalidError(
                f"that makes more than {most} intervals; ask for a longer period", field="period"
            )
        edges.append(_following(edges[-1], period))
    return edges


def _beginning(at: datetime, period: Period) -> datetime:
    hour = at.replace(minute=0, second=0, microsecond=0)
    match period:
        case Period.HOUR:
            return hour
        case Period.DAY:
            return hour.replace(hour=0, fold=0)
        case Period.WEEK:
            return hour.replace(hour=0, fold=0) - timedelta(days=at.weekday())
        case Period.MONTH:
            return hour.replace(day=1, hour=0, fold=0)


def _following(edge: datetime, period: Period) -> datetime:
    match period:
        case Period.HOUR:  # of real time; a clock may show one twice
            return (edge.astimezone(UTC) + timedelta(hours=1)).astimezone(edge.tzinfo)
        case Period.DAY:
            return edge + timedelta(days=1)
        case Period.WEEK:
            return edge + timedelta(days=7)
        case Period.MONTH:
            return (edge + timedelta(days=31)).replace(day=1)
