"""The fields of a cron expression as Debian's cron reads them, the wall times they match, and their words."""

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from cron_descriptor import Options, get_description  # type: ignore[import-untyped]

from claude_runner.errors import InvalidError
from claude_runner.schedule._clocks import SECOND, Change
from claude_runner.schedule._rules import invalid

_DAY: Final = timedelta(days=1)
_ITEM: Final = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")
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
class Field:
    """What one of the fields may hold."""

    name: str
    low: int
    high: int
    size: int
    names: str = ""

    def values(self, text: str) -> list[int]:
        """Return the values that a text stands for, smallest first; raises `InvalidError` where it can't be read."""
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
            raise invalid(f"{item!r} has a step but no range in the {self.name}; write {hint}")
        if step and int(step) == 0:
            raise invalid(f"{item!r} has a step of 0 in the {self.name}; the least is 1")
        if high < low:
            hint = f"'{low}-{self.high},{self.low}-{high}'"
            raise invalid(f"{item!r} goes backwards in the {self.name}; split it as in {hint}")
        return range(low, high + 1, int(step or 1))

    def _value(self, word: str) -> int:
        names = self.names.split()
        if word.lower() in names:
            return self.low + names.index(word.lower())
        if not word.isdecimal():
            raise self._unknown(word)
        if not self.low <= int(word) <= self.high:
            hint = f"it goes from {self.low} to {self.high}"
            raise invalid(f"{word} is out of range for the {self.name}; {hint}")
        return int(word)

    def _unknown(self, item: str) -> InvalidError:
        names = f", names ({self.names})" if self.names else ""
        hint = f"it takes numbers from {self.low} to {self.high}{names}, and * , - /"
        return invalid(f"{item!r} is not known in the {self.name}; {hint}")


_FIELDS: Final = (
    Field("second", 0, 59, 60),
    Field("minute", 0, 59, 60),
    Field("hour", 0, 23, 24),
    Field("day of month", 1, 31, 31),
    Field("month", 1, 12, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    Field("day of week", 0, 7, 7, "sun mon tue wed thu fri sat"),
)


class Times(NamedTuple):
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
        return skips and not self.between(change.end, change.end + SECOND)

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


def times_of(fields: list[tuple[Field, str]]) -> Times:
    """Return the wall times that fields match."""
    values = {kind.name: kind.values(text) for kind, text in fields}
    day, _, weekday = (text for _, text in fields[-3:])
    return Times(
        seconds=values.get("second", [0]),
        minutes=values["minute"],
        hours=values["hour"],
        days=values["day of month"],
        months=values["month"],
        weekdays=values["day of week"],
        both=day.startswith("*") or weekday.startswith("*"),
    )


def fields_of(expression: str) -> list[tuple[Field, str]]:
    """Return the fields of an expression, what each may hold beside what it does."""
    nickname = expression.lower()
    if nickname == "@reboot":
        raise invalid("'@reboot' is not a time; write when to run, such as '@daily' or '0 7 * * 1-5'")
    if nickname.startswith("@") and nickname not in _NICKNAMES:
        raise invalid(f"{expression!r} is not known; the names are {', '.join(_NICKNAMES)}")
    texts = _NICKNAMES.get(nickname, expression).split()
    if len(texts) not in {5, 6}:
        count = "1 field" if len(texts) == 1 else f"{len(texts)} fields"
        six = ", or 6 with the seconds first" if len(texts) > 6 else ""
        raise invalid(f"{expression!r} has {count}; a schedule has 5, such as '0 7 * * 1-5'{six}")
    return list(zip(_FIELDS[-len(texts) :], texts, strict=True))


@lru_cache(maxsize=4096)
def in_words(expression: str) -> str:
    """Return an expression in words, such as "At 09:00, Monday through Friday"."""
    fields = fields_of(expression)
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
