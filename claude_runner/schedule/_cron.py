"""When a cron expression fires.

Its fields are read as Debian's cron reads them; croniter finds the wall times that match, in a calendar without zones;
what daylight saving does to those is decided here. An expression is *fixed* where neither its minute nor its hour
begins with `*`. A fixed one fires once for a wall time: right after the gap where the clock skips it, in the first
pass where the clock repeats it. Any other follows real time: it fires whenever the clock on the wall matches, in both
passes of a repeated hour, and never in a gap.
"""

import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from claude_runner.schedule._clocks import SECOND, change_at, clock_changes
from claude_runner.schedule._fields import Times, fields_of, in_words, times_of
from claude_runner.schedule._rules import invalid

_START: Final = datetime(2020, 1, 1, tzinfo=UTC)  # what fires at all fires within `_YEARS` of this
_YEARS: Final = 50  # how far croniter looks ahead


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression on the clock of a zone; made by `read_cron`."""

    expression: str
    _zone: ZoneInfo
    _cron: "croniter[datetime]"
    _fixed: bool
    _times: Times

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire strictly after an instant, in UTC; `None` where 50 years bring none."""
        after = after.astimezone(UTC)
        local = after.astimezone(self._zone)
        wall = local.replace(tzinfo=None, microsecond=0)
        change = change_at(wall, self._zone)
        try:
            if change is not None:  # the clock did show this time, so it is one that it shows twice
                if self._fixed and local.fold:
                    wall = change.end - SECOND
                elif not self._fixed and not local.fold and self._match(wall) >= change.end:
                    wall = change.start - SECOND
            return self._fire(self._match(wall), after)
        except CroniterBadDateError:
            return None

    def count(self, since: datetime, until: datetime) -> int:
        """Return how often it fires from one instant on and before another.

        The work grows with the days between them, not with the fires, of which there may be millions.
        """
        local = since.astimezone(self._zone)
        wall, total = local.replace(tzinfo=None), 0
        if self._fixed and local.fold and (repeat := change_at(wall, self._zone)) is not None:
            wall = repeat.end
        for change in clock_changes(self._zone, since - SECOND, until + SECOND):
            if change.at > until:
                break
            if change.at > since:
                total += self._times.between(wall, change.end if change.repeats else change.start)
                wall = change.end if self._fixed or not change.repeats else change.start
            if self._fixed and not change.repeats and since <= change.at < until:
                total += self._times.are_skipped_by(change)
        return total + self._times.between(wall, until.astimezone(self._zone).replace(tzinfo=None))

    def describe(self) -> str:
        """Return the expression in words, such as "At 09:00, Monday through Friday"."""
        return in_words(self.expression)

    def _match(self, wall: datetime) -> datetime:
        """Return the first wall time later than this one that the fields match, gaps or not."""
        cron = copy.copy(self._cron)  # it keeps its place in itself, and threads share a schedule
        return cron.get_next(datetime, wall)

    def _fire(self, wall: datetime, after: datetime) -> datetime | None:
        """Return when a matching wall time fires, later than `after`; one in a gap may give way to the next."""
        for _ in range(_YEARS):  # `*/60 2 8-14 3 */7` matches only in New York's gap, each spring
            change = change_at(wall, self._zone)
            if change is None or change.repeats:
                first, second = (
                    wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)
                )
                return first if first > after else second
            if self._fixed:
                return change.at
            wall = self._match(change.end - SECOND)
        return None


def read_cron(expression: str, zone: ZoneInfo) -> Cron:
    """Return what an expression says; raises `InvalidError` where it can't be read, or never fires."""
    fields = fields_of(expression)
    listed = " ".join(kind.listed(text) for kind, text in fields)
    cron = croniter(listed, _START, datetime, implement_cron_bug=True, second_at_beginning=True)
    fixed = not any(text.startswith("*") for kind, text in fields if kind.name in {"minute", "hour"})
    rule = Cron(expression, zone, cron, fixed, times_of(fields))
    if rule.next(_START) is None:
        raise invalid(f"{expression!r} never fires; choose a day and an hour that exist")
    return rule
