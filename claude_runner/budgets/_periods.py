"""Days and months on the owner's clock, whatever daylight saving does to them."""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Period(NamedTuple):
    """A day or a month, in UTC; the end does not belong to it."""

    begin: datetime
    end: datetime


def day_of(now: datetime, zone: ZoneInfo) -> Period:
    """Return the day that an instant is in."""
    today = now.astimezone(zone).date()
    return Period(_beginning(today, zone), _beginning(today + timedelta(days=1), zone))


def month_of(now: datetime, zone: ZoneInfo) -> Period:
    """Return the month that an instant is in."""
    first = now.astimezone(zone).date().replace(day=1)
    return Period(_beginning(first, zone), _beginning((first + timedelta(days=31)).replace(day=1), zone))


def _beginning(day: date, zone: ZoneInfo) -> datetime:
    """Return a day's first instant: a midnight that is skipped is where it is skipped, of two it is the first."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
