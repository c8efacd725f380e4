"""Cron as pure arithmetic: what an expression means, when it fires, and how to say it in words.

Fields are read here, as Debian's cron reads them; croniter finds the wall times that match, in a calendar
without zones; what daylight saving does to those is decided here. A schedule is *fixed* where neither its
minute nor its hour begins with `*`. A fixed schedule fires once for a wall time: right after the gap where the
clock skips it, in the first pass where the clock repeats it. Any other schedule follows real time: it fires
whenever the clock on the wall matches, in both passes of a repeated hour, and never in a gap.
"""

import copy
import re
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal
from cron_descriptor import Options, get_description  # type: ignore[import-untyped]
from croniter import CroniterBadDateError, croniter

from claude_runner.errors import InvalidError

_LONGEST: Final = 200  # characters; every minute of an hour, listed one by one, takes 169 of them
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_START: Final = datetime(2020, 1, 1, tzinfo=UTC)  # what fires at all fires within `_YEARS` of this
_YEARS: Final = 50  # how far croniter looks ahead

_TEXT: Final = re.compile(r"[\t -~]*")
_ITEM: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")
_ZONE: Final = re.compile(r"(?=.{1,64}\Z)[A-Z][\w+-]*(?:/[\w+-]+)*", re.ASCII)  # not `localtime`, `zone.tab`
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due; made by `parse`.

    Attributes:
        expression: The cron expression as it was written, with single spaces.
        timezone: The IANA name of the zone whose wall clock counts.
    """

    expression: str
    timezone: str
    _zone: ZoneInfo = field(repr=False, compare=False)
    _cron: "croniter[datetime]" = field(repr=False, compare=False)
    _fixed: bool = field(repr=False, compare=False)
    _times: "_Times" = field(repr=False, compare=False)

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire strictly after an instant, in UTC; `None` where 50 years bring none."""
        after = after.astimezone(UTC)
        local = after.astimezone(self._zone)
        wall = local.replace(tzinfo=None, microsecond=0)
        change = _change_at(wall, self._zone)
        try:
            if change is not None:  # the clock did show this time, so it is one that it shows twice
                if self._fixed and local.fold:
                    wall = change.end - _SECOND
                elif not self._fixed and not local.fold and self._match(wall) >= change.end:
                    wall = change.start - _SECOND
            return self._fire(self._match(wall), after)
        except CroniterBadDateError:
            return None

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """Return the fires that follow an instant, at most `count`, on the schedule's own clock."""
        fires: list[datetime] = []
        while len(fires) < count and (fire := self.next(after)) is not None:
            fires.append(fire.astimezone(self._zone))
            after = fire
        return fires

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last fire later than `after` and not later than `until`, in UTC, if there is one.

        The work grows with the logarithm of the span, for there may be millions of fires in it.
        """
        last, bound = self.next(after), until
        if last is None or last > until:
            return None
        while (later := self.next(last)) is not None and later <= until:
            middle = later + (bound - later) / 2
            beyond = self.next(middle)
            last, bound = (later, middle) if beyond is None or beyond > until else (beyond, bound)
        return last

    def count(self, since: datetime, until: datetime) -> int:
        """Return how often it fires from one instant on and before another.

        The work grows with the days between them, not with the fires, of which there may be millions.
        """
        local = since.astimezone(self._zone)
        wall, total = local.replace(tzinfo=None), 0
        if self._fixed and local.fold and (repeat := _change_at(wall, self._zone)) is not None:
            wall = repeat.end
        for change in clock_changes(self._zone, since - _SECOND, until + _SECOND):
            if change.at > until:
                break
            if change.at > since:
                total += self._times.between(wall, change.end if change.repeats else change.start)
                wall = change.end if self._fixed or not change.repeats else change.start
            if self._fixed and not change.repeats and since <= change.at < until:
                total += self._times.are_skipped_by(change)
        return total + self._times.between(wall, until.astimezone(self._zone).replace(tzinfo=None))

    def describe(self) -> str:
        """Return the schedule in words, such as "At 09:00, Monday through Friday"."""
        return _in_words(self.expression)

    def _match(self, wall: datetime) -> datetime:
        """Return the first wall time later than this one that the fields match, gaps or not."""
        cron = copy.copy(self._cron)  # it keeps its place in itself, and threads share a schedule
        return cron.get_next(datetime, wall)

    def _fire(self, wall: datetime, after: datetime) -> datetime | None:
        """Return when a matching wall time fires, later than `after`; one in a gap may give way to the next."""
        for _ in range(_YEARS):  # `*/60 2 8-14 3 */7` matches only in New York's gap, each spring
            change = _change_at(wall, self._zone)
            if change is None or change.repeats:
                first, second = (
                    wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)
                )
                return first if first > after else second
            if self._fixed:
                return change.at
            wall = self._match(change.end - _SECOND)
        return None


def parse(expression: str, timezone: str) -> Schedule:
    """Return the schedule of a cron expression in a time zone; cheap when asked again.

    Args:
        expression: 5 fields as in Debian's crontab(5), 6 with the seconds first, or a name such as `@daily`.
        timezone: An IANA name.

    Raises:
        InvalidError: Either can't be used; `field` is "cron" or "timezone".
    """
    if len(expression) > _LONGEST:
        raise _invalid(f"the schedule has {len(expression)} characters; {_LONGEST} is the most it may have")
    if not _TEXT.fullmatch(expression):
        raise _invalid(f"{expression!a} has a character cron does not know; write one line of plain ASCII")
    if not expression.strip():
        raise _invalid("the schedule is empty; write one such as '0 7 * * 1-5'")
    return _schedule(" ".join(expression.split()), timezone)


def local_timezone() -> str:
    """Return the IANA name of this machine's time zone, "UTC" where it can't be told."""
    with suppress(ZoneInfoNotFoundError, InvalidError):  # its files may disagree, or name no zone
        return _zone(tzlocal.get_localzone_name() or "").key
    return "UTC"


@lru_cache(maxsize=4096)
def _schedule(expression: str, timezone: str) -> Schedule:
    zone = _zone(timezone)
    fields = _fields(expression)
    listed = " ".join(kind.listed(text) for kind, text in fields)
    cron = croniter(listed, _START, datetime, implement_cron_bug=True, second_at_beginning=True)
    fixed = not any(text.startswith("*") for kind, text in fields if kind.name in {"minute", "hour"})
    schedule = Schedule(expression, timezone, zone, cron, fixed, _times(fields))
    if schedule.next(_START) is None:
        raise _invalid(f"{expression!r} never fires; choose a day and an hour that exist")
    return schedule


def _zone(name: str) -> ZoneInfo:
    if _ZONE.fullmatch(name):
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):  # missing, not a zone's file, a folder
            return ZoneInfo(name)
    hint = "write an IANA name such as 'Europe/Berlin' or 'UTC'"
    raise InvalidError(f"{name[:64]!a} is not a time zone; {hint}", field="timezone")


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


def _change_at(wall: datetime, zone: ZoneInfo) -> Change | None:
    """Return the change that repeats or skips a wall time, if one does (PEP 495)."""
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before == after:
        return None
    small, large = sorted((before, after))
    low = wall.replace(tzinfo=UTC) - large  # here the old offset holds, at `wall - small` the new one
    return _change_in(zone, low, low + (large - small))


def _change_in(zone: ZoneInfo, low: datetime, high: datetime) -> Change:
    """Return the one change between two instants, at the earlier of which the old offset holds."""
    old, new = _offset(low.astimezone(zone)), _offset(high.astimezone(zone))
    seconds = bisect_left(
        range(-(-(high - low) // _SECOND)),
        True,  # noqa: FBT003 - what the key turns to at the change
        key=lambda seconds: _offset((low + seconds * _SECOND).astimezone(zone)) == new,
    )
    at = (low + seconds * _SECOND).replace(microsecond=0)  # zones change on whole seconds
    start, end = sorted((at + old, at + new))
    return Change(at, start.replace(tzinfo=None), end.replace(tzinfo=None), old > new)


def _offset(local: datetime) -> timedelta:
    return local.utcoffset() or timedelta()


@dataclass(frozen=True, slots=True)
class _Field:
    """What one of the fields may hold."""

    name: str
    low: int
    high: int
    size: int
    names: str = ""

    def values(self, text: str) -> list[int]:
        found = {value for item in text.split(",") for value in self._item(item)}
        return sorted({value % 7 for value in found} if self.size == 7 else found)

    def listed(self, text: str) -> str:
        """Return the field value by value: croniter reads more into it than Debian, and `5-5` as `*`.

        A `*` at the beginning stays; it decides whether both days must match, or one.
        """
        first, *_ = text.split(",")
        values = ",".join(map(str, self.values(text)))
        return first if first == "*" else f"{first},{values}" if first.startswith("*") else values

    def spoken(self, text: str) -> str:
        """Return the field as it goes into words: `*/45` is no "every 45 minutes", for one."""
        values = self.values(text)
        if len(values) == self.size:
            return "*" if text.startswith("*") else f"{values[0]}-{values[-1]}"
        even = text.startswith("*/") and text[2:].isdecimal() and self.size % int(text[2:]) == 0
        if len(values) == 1 or ("/" in text and not even):
            return ",".join(map(str, values))
        return re.sub(r"\d+", lambda number: str(int(number[0])), text)

    def _item(self, item: str) -> range:
        match = _ITEM.fullmatch(item)
        if match is None:
            raise self._unknown(item)
        first, last, step = match.groups()
        low = self._value(first) if first else self.low
        high = self._value(last) if last else low if first else self.high
        if step and first and not last:
            hint = f"'{first}-{self.high}/{step}'"
            raise _invalid(f"{item!r} has a step but no range in the {self.name}; write {hint}")
        if step and int(step) == 0:
            raise _invalid(f"{item!r} has a step of 0 in the {self.name}; the least is 1")
        if high < low:
            hint = f"'{low}-{self.high},{self.low}-{high}'"
            raise _invalid(f"{item!r} goes backwards in the {self.name}; split it as in {hint}")
        return range(low, high + 1, int(step or 1))

    def _value(self, word: str) -> int:
        names = self.names.split()
        if word.lower() in names:
            return self.low + names.index(word.lower())
        if not word.isdecimal():
            raise self._unknown(word)
        if not self.low <= int(word) <= self.high:
            hint = f"it goes from {self.low} to {self.high}"
            raise _invalid(f"{word} is out of range for the {self.name}; {hint}")
        return int(word)

    def _unknown(self, item: str) -> InvalidError:
        names = f", names ({self.names})" if self.names else ""
        hint = f"it takes numbers from {self.low} to {self.high}{names}, and * , - /"
        return _invalid(f"{item!r} is not known in the {self.name}; {hint}")


_FIELDS: Final = (
    _Field("second", 0, 59, 60),
    _Field("minute", 0, 59, 60),
    _Field("hour", 0, 23, 24),
    _Field("day of month", 1, 31, 31),
    _Field("month", 1, 12, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    _Field("day of week", 0, 7, 7, "sun mon tue wed thu fri sat"),
)


class _Times(NamedTuple):
    """The wall times that fields match, to be counted without going from each to the next.

    Attributes:
        both: Whether a day must be one of the days and of the weekdays, not one of either.
    """

    seconds: list[int]
    minutes: list[int]
    hours: list[int]
    days: list[int]
    months: list[int]
    weekdays: list[int]
    both: bool

    def between(self, start: datetime, end: datetime) -> int:
        """Return how many there are from one wall time on and before another."""
        if start >= end:
            return 0
        days = (end.date() - start.date()).days
        whole = sum(self._has(start.date() + _DAY * day) for day in range(days))
        daily = len(self.hours) * len(self.minutes) * len(self.seconds)
        first, last = self._has(start.date()), self._has(end.date())
        return whole * daily + last * self._before(end) - first * self._before(start)

    def are_skipped_by(self, change: Change) -> bool:
        """Tell whether the clock skips some, and does not show one right after it as well."""
        skips = self.between(change.start, change.end) > 0
        return skips and not self.between(change.end, change.end + _SECOND)

    def _has(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_day and by_weekday) if self.both else (by_day or by_weekday)

    def _before(self, wall: datetime) -> int:
        """Return how many there are earlier in the day, on a day that matches."""
        minute = len(self.seconds)
        total = bisect_left(self.hours, wall.hour) * len(self.minutes) * minute
        if wall.hour in self.hours:
            total += bisect_left(self.minutes, wall.minute) * minute
            if wall.minute in self.minutes:
                total += bisect_left(self.seconds, wall.second + (wall.microsecond > 0))
        return total


def _times(fields: list[tuple[_Field, str]]) -> _Times:
    values = {kind.name: kind.values(text) for kind, text in fields}
    day, _, weekday = (text for _, text in fields[-3:])
    return _Times(
        seconds=values.get("second", [0]),
        minutes=values["minute"],
        hours=values["hour"],
        days=values["day of month"],
        months=values["month"],
        weekdays=values["day of week"],
        both=day.startswith("*") or weekday.startswith("*"),
    )


def _fields(expression: str) -> list[tuple[_Field, str]]:
    """Return the fields of an expression, what each may hold beside what it does."""
    nickname = expression.lower()
    if nickname == "@reboot":
        raise _invalid("'@reboot' is not a time; write when to run, such as '@daily' or '0 7 * * 1-5'")
    if nickname.startswith("@") and nickname not in _NICKNAMES:
        raise _invalid(f"{expression!r} is not known; the names are {', '.join(_NICKNAMES)}")
    texts = _NICKNAMES.get(nickname, expression).split()
    if len(texts) not in {5, 6}:
        count = "1 field" if len(texts) == 1 else f"{len(texts)} fields"
        six = ", or 6 with the seconds first" if len(texts) > 6 else ""
        raise _invalid(f"{expression!r} has {count}; a schedule has 5, such as '0 7 * * 1-5'{six}")
    return list(zip(_FIELDS[-len(texts) :], texts, strict=True))


@lru_cache(maxsize=4096)
def _in_words(expression: str) -> str:
    fields = _fields(expression)
    *clock, day, month, weekday = (kind.spoken(text) for kind, text in fields)
    if "*" in {day, weekday}:
        return _words(*clock, day, month, weekday)
    # Between the two the descriptor says "or", or nothing; cron wants both where either begins with `*`.
    both = any(text.startswith("*") for kind, text in fields if kind.name.startswith("day"))
    weekdays = _words("0", "0", "*", "*", weekday).removeprefix("At 00:00, ").removeprefix("only ")
    months = _words("0", "0", "*", month, "*").removeprefix("At 00:00")
    return f"{_words(*clock, day, '*', '*')}, {'but only' if both else 'or'} {weekdays}{months}"


def _words(*texts: str) -> str:
    return str(get_description(" ".join(texts), Options(locale_code="en_US", use_24hour_time_format=True)))


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, field="cron")
