"""Schedules of whichever kind, and how they are made of a text."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.schedule._clocks import zone_of
from claude_runner.schedule._cron import read_cron
from claude_runner.schedule._every import read_every
from claude_runner.schedule._moments import write_moment
from claude_runner.schedule._once import Once, read_once
from claude_runner.schedule._rules import Rule, invalid

_LONGEST: Final = 200  # characters; every minute of an hour, listed one by one, takes 169 of them
_TEXT: Final = re.compile(r"[\t -~]*")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is due; made by `parse`.

    Attributes:
        expression: The schedule as it is kept: as it was written with single spaces, an interval with its anchor.
        timezone: The IANA name of the zone whose wall clock counts.
        zone: That zone.
    """

    expression: str
    timezone: str
    zone: ZoneInfo = field(repr=False, compare=False)
    _rule: Rule = field(repr=False, compare=False)

    @property
    def is_once(self) -> bool:
        """Whether it fires a single time."""
        return isinstance(self._rule, Once)

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire strictly after an instant, in UTC; `None` where none comes, or not in 50 years."""
        return self._rule.next(after)

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """Return the fires that follow an instant, at most `count`, on the schedule's own clock."""
        fires: list[datetime] = []
        while len(fires) < count and (fire := self.next(after)) is not None:
            fires.append(self.local(fire))
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

        The work grows with the days between them at most, not with the fires, of which there may be millions.
        """
        return self._rule.count(since, until)

    def describe(self) -> str:
        """Return the schedule in words, such as "At 09:00, Monday through Friday"."""
        return self._rule.describe()

    def local(self, instant: datetime) -> datetime:
        """Return an instant on the schedule's own clock."""
        return instant.astimezone(self.zone)


def parse(expression: str, timezone: str, now: datetime | None = None) -> Schedule:
    """Return the schedule that a text describes in a time zone; cheap when asked again.

    Args:
        expression: A cron expression (5 fields as in Debian's crontab(5), 6 with the seconds first, or a name such as
            `@daily`), an interval (`every 90 minutes`, `every 2 weeks from 2026-11-30 09:00`), or one time
            (`at 2026-12-01 09:00`).
        timezone: An IANA name.
        now: What an interval is counted from that has no `from`, and what a single time must come after; without it
            nothing is refused for being past.

    Raises:
        InvalidError: Either can't be used; `field` is "cron" or "timezone".
    """
    if len(expression) > _LONGEST:
        raise invalid(f"the schedule has {len(expression)} characters; {_LONGEST} is the most it may have")
    if not _TEXT.fullmatch(expression):
        raise invalid(f"{expression!a} has a character cron does not know; write one line of plain ASCII")
    if not expression.strip():
        raise invalid("the schedule is empty; write one such as '0 7 * * 1-5'")
    text = " ".join(expression.split())
    if now is not None and (every := read_every(text, zone_of(timezone), now)) is not None:
        text = every.expression
    schedule = _schedule(text, timezone)
    if now is not None and schedule.is_once and schedule.next(now) is None:
        raise _past(schedule, now)
    return schedule


@lru_cache(maxsize=4096)
def _schedule(expression: str, timezone: str) -> Schedule:
    zone = zone_of(timezone)
    rule = read_every(expression, zone, None) or read_once(expression, zone) or read_cron(expression, zone)
    return Schedule(rule.expression, timezone, zone, rule)


def _past(schedule: Schedule, now: datetime) -> Exception:
    clock = write_moment(schedule.local(now).replace(tzinfo=None, second=0, microsecond=0))
    return invalid(
        f"{schedule.expression!r} is past: in {schedule.timezone} it is {clock} now; choose a time to come"
    )
