"""Zones by their names, and how they change their clocks (PEP 495)."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

from claude_runner.errors import InvalidError

SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_ZONE: Final = re.compile(r"(?=.{1,64}\Z)[A-Z][\w+-]*(?:/[\w+-]+)*", re.ASCII)  # not `localtime`, `zone.tab`


def zone_of(name: str) -> ZoneInfo:
    """Return the zone of an IANA name; raises `InvalidError` for another text."""
    if _ZONE.fullmatch(name):
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):  # missing, not a zone's file, a folder
            return ZoneInfo(name)
    hint = "write an IANA name such as 'Europe/Berlin' or 'UTC'"
    raise InvalidError(f"{name[:64]!a} is not a time zone; {hint}", field="timezone")


def local_timezone() -> str:
    """Return the IANA name of this machine's time zone, "UTC" where it can't be told."""
    with suppress(ZoneInfoNotFoundError, InvalidError):  # its files may disagree, or name no zone
        return zone_of(tzlocal.get_localzone_name() or "").key
    return "UTC"


class Change(NamedTuple):
    """A change of a zone's offset; it repeats or skips the wall times from `start` up to, not with, `end`."""

    at: datetime
    start: datetime
    end: datetime
    repeats: bool


def clock_changes(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[Change]:
    """Yield when a zone's clocks are changed later than one instant and before another."""
    at = since.astimezone(UTC)
    while at < until:
        later = min(at + _DAY, until.astimezone(UTC))
        old, new = _offset(at.astimezone(zone)), _offset(later.astimezone(zone))
        if old != new and (change := _change_in(zone, at, later)).at < until:
            yield change
        at = later


def change_at(wall: datetime, zone: ZoneInfo) -> Change | None:
    """Return the change that repeats or skips a wall time, if one does (PEP 495)."""
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before == after:
        return None
    small, large = sorted((before, after))
    low = wall.replace(tzinfo=UTC) - large  # here the old offset holds, at `wall - small` the new one
    return _change_in(zone, low, low + (large - small))


def shown_at(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return when a clock shows a wall time, in UTC: twice where it repeats that; right after a gap that skips it."""
    change = change_at(wall, zone)
    if change is not None and not change.repeats:
        return (change.at,)
    folds = (0,) if change is None else (0, 1)
    return tuple(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in folds)


def first_shown(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return when a clock first shows a wall time, in UTC, or comes right after it where it skips that."""
    return shown_at(wall, zone)[0]


def _change_in(zone: ZoneInfo, low: datetime, high: datetime) -> Change:
    """Return the one change between two instants, at the earlier of which the old offset holds."""
    old, new = _offset(low.astimezone(zone)), _offset(high.astimezone(zone))
    seconds = bisect_left(
        range(-(-(high - low) // SECOND)),
        True,  # noqa: FBT003 - what the key turns to at the change
        key=lambda seconds: _offset((low + seconds * SECOND).astimezone(zone)) == new,
    )
    at = (low + seconds * SECOND).replace(microsecond=0)  # zones change on whole seconds
    start, end = sorted((at + old, at + new))
    return Change(at, start.replace(tzinfo=None), end.replace(tzinfo=None), old > new)


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()
