"""When something fires each so many minutes, hours, days or weeks, counted from an instant or a wall time, its anchor.

Minutes and hours follow real time. Days and weeks keep the anchor's time on the zone's clock: where that skips it they
fire right after the gap, where it repeats it in the first pass.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.schedule._clocks import first_shown
from claude_runner.schedule._moments import instant_of, read_moment, write_moment
from claude_runner.schedule._rules import invalid

_LONGEST: Final = timedelta(weeks=52)
_UNITS: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_TIMED: Final = frozenset({"minute", "hour"})
_SHORT: Final = {"min": "minute", "mins": "minute", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_EVERY: Final = re.compile(r"every\b ?(?:(\d+) ?)?([a-z]*)( from (.*))?", re.IGNORECASE | re.ASCII)
_UNANCHORED: Final = datetime(2020, 1, 6)  # noqa: DTZ001 - a Monday, on any clock
_REAL_TIME: Final = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Every:
    """Fires with equal steps between them.

    Attributes:
        expression: As it is kept.
        number: How many of the unit a step has.
        unit: "minute", "hour", "day" or "week".
        anchor: The first fire, on the clock.
        clock: Whose times have equal steps between them: the job's zone for days and weeks, else UTC.
        anchored: Whether it is known what it is counted from.
    """

    expression: str
    number: int
    unit: str
    anchor: datetime
    clock: ZoneInfo
    _zone: ZoneInfo
    anchored: bool = True

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire strictly after an instant, in UTC; `None` at the end of the calendar."""
        try:
            return self._fire(self._before(after + timedelta.resolution))
        except OverflowError:
            return None

    def count(self, since: datetime, until: datetime) -> int:
        """Return how often it fires from one instant on and before another."""
        return max(0, self._before(until) - self._before(since))

    def describe(self) -> str:
        """Return it in words, such as "Every 2 weeks on Monday at 09:00, from 2026-11-30"."""
        many = self.number > 1
        every = f"Every {self.number} {self.unit}s" if many else f"Every {self.unit}"
        if self.unit in _TIMED:
            local = self._fire(0).astimezone(self._zone)
            return f"{every} from {local:%Y-%m-%d %H:%M}" if self.anchored else every
        weekday = f" on {self.anchor:%A}" if self.unit == "week" else ""
        since = f", from {self.anchor:%Y-%m-%d}" if many and self.anchored else ""
        return f"{every}{weekday} at {self.anchor:%H:%M}{since}"

    @property
    def _step(self) -> timedelta:
        return _UNITS[self.unit] * self.number

    def _fire(self, place: int) -> datetime:
        return first_shown(self.anchor + self._step * place, self.clock)

    def _before(self, instant: datetime) -> int:
        """Return how many fires come before an instant."""
        local = instant.astimezone(self.clock).replace(tzinfo=None)
        place = max(0, (local - self.anchor) // self._step - 1)  # a clock changes by a day at most
        while self._fire(place) < instant:
            place += 1
        return place


def read_every(expression: str, zone: ZoneInfo, now: datetime | None) -> Every | None:
    """Return what an expression says that begins with `every`; `None` for another.

    Args:
        expression: Such as `every 90 minutes`, `every day from 2026-12-01 09:00`.
        zone: Whose clock days and weeks keep to, and an anchor without an offset is read on.
        now: The anchor where the expression has none.

    Raises:
        InvalidError: It can't be read, or the step is too long or none.
    """
    if not re.match(r"every\b", expression, re.IGNORECASE):
        return None
    match = _EVERY.fullmatch(expression)
    number, unit = _step_of(expression, match)
    given = match[4] if match else None
    clock = _REAL_TIME if unit in _TIMED else zone
    moment = read_moment(given) if given is not None else now and now.replace(second=0, microsecond=0)
    step = f"every {number} {unit}s" if number > 1 else f"every {unit}"
    if moment is None:
        return Every(step, number, unit, _UNANCHORED, clock, zone, anchored=False)
    instant = instant_of(moment, zone)
    if unit in _TIMED:
        anchor = instant.replace(tzinfo=None)
        kept = write_moment(instant.astimezone(zone))
    else:  # the time that was written, even if the clock skips it on that very day
        anchor = moment if moment.tzinfo is None else instant.astimezone(zone).replace(tzinfo=None, fold=0)
        kept = write_moment(anchor)
    return Every(f"{step} from {kept}", number, unit, anchor, clock, zone)


def _step_of(expression: str, match: re.Match[str] | None) -> tuple[int, str]:
    hint = "write such as 'every 90 minutes', 'every 2 hours' or 'every 3 days from 2026-12-01 09:00'"
    word = match[2].lower() if match else ""
    unit = _SHORT.get(word, word.removesuffix("s"))
    if match is None or unit not in _UNITS:
        seconds = "; the shortest step is a minute" if unit in {"second", "sec"} else ""
        raise invalid(f"{expression!r} can't be read{seconds}; {hint}, or a schedule such as '0 7 * * 1-5'")
    number = int(match[1] or 1)
    if not 1 <= number <= _LONGEST // _UNITS[unit]:
        most = f"{_LONGEST // _UNITS[unit]:,} {unit}s"
        raise invalid(f"{expression!r} has a step of {number:,} {unit}s; give 1 to {most}")
    return number, unit
