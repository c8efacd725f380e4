"""A schedule within its bounds: no slot before it starts or after it ends, and windows in which slots are skipped."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from claude_runner.schedule._blackouts import Blackout
from claude_runner.schedule._schedules import Schedule

_INSTANT: Final = timedelta.resolution
_PASSED_OVER: Final = (
    400  # windows that are looked behind for a slot outside of them: more than a year of days
)


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
            local = self.schedule.local(slot)
            ends = [end for blackout in self.blackouts if (end := blackout.end(local)) is not None]
            if not ends:
                slots.append(local)
                after = slot
                continue
            passed_over += 1
            if passed_over > _PASSED_OVER:
                break
            behind = max(ends).replace(tzinfo=local.tzinfo).astimezone(UTC) - _INSTANT
            after = max(slot, behind)
        return slots

    def blackout_at(self, instant: datetime) -> str | None:
        """Return the window that an instant is in, as it was written."""
        local = self.schedule.local(instant)
        return next((blackout.text for blackout in self.blackouts if blackout.covers(local)), None)

    def _not_before(self, after: datetime) -> datetime:
        return after if self.starts_at is None else max(after, self.starts_at - _INSTANT)
