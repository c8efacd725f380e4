"""A schedule within its bounds: no slot before it starts or after it ends, and windows in which slots are skipped."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from claude_runner.schedule._blackouts import Blackout
from claude_runner.schedule._clocks import clock_changes, shown_at
from claude_runner.schedule._schedules import Schedule

_INSTANT: Final = timedelta.resolution
_DAY: Final = timedelta(days=1)
_PASSED_OVER: Final = (
    400  # windows that are looked behind for a slot outside of them: more than a year of days
)


class Stretch(NamedTuple):
    """A stretch of time, its end not included, in one blackout or in none.

    Attributes:
        blackout: The window as it was written.
    """

    start: datetime
    end: datetime
    blackout: str | None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The slots of a job.

    Attributes:
        starts_at: No slot before it.
        ends_at: No slot after it.
        blackouts: Windows on the schedule's own clock in which its slots are skipped; they are slots all the same.
    """

    schedule: Schedule
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    blackouts: tuple[Blackout, ...] = ()

    def next(self, after: datetime) -> datetime | None:
        """Return the first slot strictly after an instant, in UTC; `None` where none comes."""
        slot = self.schedule.next(self._not_before(after))
        return None if slot is None or (self.ends_at is not None and slot > self.ends_at) else slot

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot later than `after` and not later than `until`, in UTC; as cheap as a schedule's."""
        last = until if self.ends_at is None else min(until, self.ends_at)
        return self.schedule.latest(self._not_before(after), last)

    def count(self, since: datetime, until: datetime) -> int:
        """Return how many slots there are from one instant on and before another, those in a blackout among them."""
        first = since if self.starts_at is None else max(since, self.starts_at)
        end = until if self.ends_at is None else min(until, self.ends_at + _INSTANT)
        return self.schedule.count(first, end) if first < end else 0

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """Return the slots that follow an instant and are in no blackout, at most `count`, on the schedule's clock.

        Where blackouts cover so much that more than a year of days brings none, there are fewer.
        """
        slots: list[datetime] = []
        passed_over = 0
        while len(slots) < count and (slot := self.next(after)) is not None:
            window = self._window(slot)
            after = slot
            if window is None:
                slots.append(self.schedule.local(slot))
                continue
            passed_over += 1
            if passed_over > _PASSED_OVER:
                break
            after = max(slot, window[1] - _INSTANT)
        return slots

    def latest_open(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last slot in no blackout later than `after` and not later than `until`, in UTC.

        It is looked for as far back as `upcoming` looks ahead.
        """
        for _ in range(_PASSED_OVER):
            slot = self.latest(after, until)
            if slot is None:
                return None
            window = self._window(slot)
            if window is None:
                return slot
            until = min(slot, window[0]) - _INSTANT
        return None

    def blackout_at(self, instant: datetime) -> str | None:
        """Return the window that an instant is in, as it was written."""
        local = self.schedule.local(instant)
        return next((blackout.text for blackout in self.blackouts if blackout.covers(local)), None)

    def open_from(self, instant: datetime) -> datetime:
        """Return an instant that is in no blackout, else when those end that it is in; itself where they do not."""
        later = instant
        for _ in range(_PASSED_OVER):
            window = self._window(later)
            if window is None:
                return later
            later = window[1]
        return instant

    def stretches(self, since: datetime, until: datetime) -> Iterator[Stretch]:
        """Yield what the time from one instant on and before another is made of, in its order."""
        if since >= until:
            return
        start, cause = since, self.blackout_at(since)
        for edge in self._edges(since, until):
            if (other := self.blackout_at(edge)) != cause:
                yield Stretch(start, edge, cause)
                start, cause = edge, other
        yield Stretch(start, until, cause)

    def count_open(self, since: datetime, until: datetime) -> int:
        """Return how many slots that are in no blackout there are from one instant on and before another."""
        return sum(
            self.count(stretch.start, stretch.end)
            for stretch in self.stretches(since, until)
            if stretch.blackout is None
        )

    def _not_before(self, after: datetime) -> datetime:
        return after if self.starts_at is None else max(after, self.starts_at - _INSTANT)

    def _window(self, slot: datetime) -> tuple[datetime, datetime] | None:
        """Return when the blackouts that a slot is in begin and end, the earliest and the latest of them."""
        local = self.schedule.local(slot)
        windows = [window for blackout in self.blackouts if (window := blackout.window(local)) is not None]
        if not windows:
            return None
        begins, ends = (shown_at(wall, self.schedule.zone) for wall in _widest(windows))
        # Where the clock repeats an hour, the slot may be in either pass of it.
        begin = max((at for at in begins if at <= slot), default=slot)
        return begin, min((at for at in ends if at > slot), default=slot)

    def _edges(self, since: datetime, until: datetime) -> list[datetime]:
        """Return the instants between two at which a blackout may begin or end, in their order."""
        if not self.blackouts:
            return []
        zone = self.schedule.zone
        first, last = self.schedule.local(since).date() - _DAY, self.schedule.local(until).date()
        days = [first + _DAY * day for day in range((last - first).days + 1)]
        walls = {wall for blackout in self.blackouts for day in days for wall in blackout.edges(day)}
        edges = {at for wall in walls for at in shown_at(wall, zone)}
        edges |= {change.at for change in clock_changes(zone, since, until)}
        return sorted(edge for edge in edges if since < edge < until)


def _widest(windows: list[tuple[datetime, datetime]]) -> tuple[datetime, datetime]:
    return min(begin for begin, _ in windows), max(end for _, end in windows)
