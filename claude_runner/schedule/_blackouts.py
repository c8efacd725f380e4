"""Windows in which slots are skipped, by weekdays and times or by dates, on the clock of a job's zone."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from claude_runner.errors import InvalidError

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ALL: Final = frozenset(range(7))
_DATES: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?: ?\.\. ?(\d{4}-\d\d-\d\d))?", re.ASCII)
_WINDOW: Final = re.compile(
    r"(?P<days>[a-z]+(?: ?[,-] ?[a-z]+)*)?(?: ?\b(?P<start>\d{1,2}:\d\d) ?- ?(?P<end>\d{1,2}:\d\d))?",
    re.IGNORECASE | re.ASCII,
)
_LONGEST: Final = 100  # characters
_LAST_YEAR: Final = 2199
_DAY: Final = timedelta(days=1)
_HINT: Final = "write such as 'Mon-Fri 22:00-06:00', '22:00-06:00', 'Sat,Sun' or '2026-12-24..2027-01-01'"


@dataclass(frozen=True, slots=True)
class Blackout:
    """A window in which slots are skipped; made by `parse_blackout`.

    Attributes:
        text: As it was written, with single spaces.
        days: The weekdays on which it begins, Monday being 0.
        start: How long after the midnight of such a day it begins.
        length: How long it lasts.
        dates: The first and the last day of one that is no weekly window.
    """

    text: str
    days: frozenset[int] = _ALL
    start: timedelta = timedelta()
    length: timedelta = _DAY
    dates: tuple[date, date] | None = None

    def covers(self, local: datetime) -> bool:
        """Tell whether a wall time is in the window; its end is not."""
        return self.window(local) is not None

    def window(self, local: datetime) -> tuple[datetime, datetime] | None:
        """Return the wall times at which the window begins and ends that a wall time is in, if it is in one."""
        wall = local.replace(tzinfo=None, fold=0)
        days = (wall.date(), wall.date() - _DAY)  # one that began yesterday may go on past midnight
        windows = (window for day in days if (window := self._window_of(day)) is not None)
        return next((window for window in windows if window[0] <= wall < window[1]), None)

    def edges(self, day: date) -> tuple[datetime, ...]:
        """Return the wall times at which a window begins or ends that covers something of a day, or begins on it."""
        return self._window_of(day) or ()

    def _window_of(self, day: date) -> tuple[datetime, datetime] | None:
        """Return the window that begins on a day, or the dates that it is one of."""
        if self.dates is not None:
            first, last = (datetime.combine(each, time()) for each in self.dates)
            return (first, last + _DAY) if self.dates[0] <= day <= self.dates[1] else None
        begin = datetime.combine(day, time()) + self.start
        return (begin, begin + self.length) if day.weekday() in self.days else None


def parse_blackout(text: str) -> Blackout:
    """Return the window that a text describes.

    Args:
        text: Weekdays, times or both (`Mon-Fri 22:00-06:00`), or dates (`2026-12-24..2027-01-01`), the last included.
            A window over midnight belongs to the day on which it begins.

    Raises:
        InvalidError: It can't be read; `field` is "blackouts".
    """
    kept = " ".join(text.split())
    if not kept or len(kept) > _LONGEST:
        raise _invalid(f"a blackout has 1 to {_LONGEST} characters; {_HINT}")
    if dates := _DATES.fullmatch(kept):
        return Blackout(kept, dates=_dates(kept, dates[1], dates[2] or dates[1]))
    window = _WINDOW.fullmatch(kept)
    if window is None:
        raise _invalid(f"{kept!r} is not a blackout; {_HINT}")
    days = _ALL if window["days"] is None else _weekdays(kept, window["days"])
    if window["start"] is None:
        return Blackout(kept, days)
    start, end = _clock(kept, window["start"]), _clock(kept, window["end"])
    if start in {end, _DAY}:
        raise _invalid(f"{kept!r} ends when it begins; leave the times out for whole days")
    return Blackout(kept, days, start, end - start if end > start else end + _DAY - start)


def _weekdays(whole: str, text: str) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.partition("-")
        begin = _weekday(whole, first)
        end = _weekday(whole, last) if last else begin
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(found)


def _weekday(whole: str, word: str) -> int:
    name = word.strip().lower()
    if name in _DAYS:
        return _DAYS.index(name)
    if name in _NAMES:
        return _NAMES.index(name)
    raise _invalid(f"{name!r} in {whole!r} is not a weekday; {_HINT}")


def _clock(whole: str, text: str) -> timedelta:
    hours, minutes = map(int, text.split(":"))
    if hours * 60 + minutes > 24 * 60 or minutes > 59:
        raise _invalid(f"{text} in {whole!r} is not a time of day; it goes from 00:00 to 24:00")
    return timedelta(hours=hours, minutes=minutes)


def _dates(whole: str, first: str, last: str) -> tuple[date, date]:
    try:
        span = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise _invalid(f"{whole!r} has a day that does not exist; {_HINT}") from None
    if span[1].year > _LAST_YEAR:
        raise _invalid(f"the year of {last} is after {_LAST_YEAR}")
    if span[1] < span[0]:
        raise _invalid(f"{whole!r} ends before it begins; write the earlier day first")
    return span


def _invalid(message: str) -> InvalidError:
    return InvalidError(message, field="blackouts")
