"""When jobs fire next, worked out once for as many pages as ask.

What is kept is kept by full hours, so that the next look, some seconds later, finds it. Slots in a
blackout do not fire.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final

from claude_runner.schedule import Timetable

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
INSTANT: Final = timedelta.resolution
KEPT_OF_HOUR: Final = 60  # fires; an hour that has more is not kept
NEVER: Final = datetime.max.replace(tzinfo=UTC)


def fires(timetable: Timetable, after: datetime, until: datetime, most: int) -> list[datetime]:
    """Return when a timetable fires after one instant and before another, in UTC.

    Where that is more often than `most`, it is so many of them at the most, spread over the time.
    """
    if timetable.count_open(after + INSTANT, until) <= most:
        return list(each(timetable, after, until))
    length = -(-(until - after) // most // MINUTE) * MINUTE
    start = after.astimezone(UTC) - (after - datetime.min.replace(tzinfo=UTC)) % length
    found = []
    while start < until:
        fire = _first(timetable, start, start + length)
        if fire is not None and after < fire < until:
            found.append(fire)
        start += length
    return found[:most]


def each(timetable: Timetable, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield when a timetable fires after one instant and before another, in UTC, worked out as it is asked for."""
    start = _hour_of(after)
    while start < until:
        for fire in _of_hour(timetable, start, max(start - INSTANT, after)):
            if fire >= until:
                return
            if fire > after:
                yield fire
        start = _following(timetable, start + HOUR)


@lru_cache(maxsize=16_384)
def counts(timetable: Timetable, edges: tuple[datetime, ...]) -> tuple[int, ...]:
    """Return how often a timetable fires from each edge on and before the next."""
    return tuple(timetable.count_open(since, until) for since, until in pairwise(edges))


def _of_hour(timetable: Timetable, start: datetime, after: datetime) -> Iterator[datetime]:
    """Yield the fires of an hour, or, where they are too many to be kept, those of them after an instant."""
    kept = _kept(timetable, start)
    if kept is not None:
        yield from kept
        return
    while (fire := _after(timetable, after)) is not None and fire < start + HOUR:
        yield fire
        after = fire


@lru_cache(maxsize=50_000)
def _kept(timetable: Timetable, start: datetime) -> tuple[datetime, ...] | None:
    count = timetable.count_open(start, start + HOUR)
    if count > KEPT_OF_HOUR:
        return None
    found: list[datetime] = []
    last: datetime | None = start - INSTANT
    while len(found) < count and last is not None and (last := _after(timetable, last)) is not None:
        found.append(last)
    return tuple(found)


@lru_cache(maxsize=50_000)
def _first(timetable: Timetable, since: datetime, until: datetime) -> datetime | None:
    fire = _after(timetable, since - INSTANT)
    return fire if fire is not None and fire < until else None


@lru_cache(maxsize=50_000)
def _following(timetable: Timetable, since: datetime) -> datetime:
    """Return the beginning of the hour in which it fires next, the end of time where it does not."""
    following = _after(timetable, since - INSTANT)
    return NEVER if following is None else _hour_of(following)


def _after(timetable: Timetable, after: datetime) -> datetime | None:
    """Return the first fire strictly after an instant, in UTC."""
    fires = timetable.upcoming(after, 1)
    return fires[0].astimezone(UTC) if fires else None


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
