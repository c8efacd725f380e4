"""When jobs fire next, worked out once for as many pages as ask.

What is kept is kept by full hours, so that the next look, some seconds later, finds it. A schedule that can't be read
any more, since it was edited by hand, does not fire.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.schedule import Schedule, parse

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
INSTANT: Final = timedelta.resolution
KEPT_OF_HOUR: Final = 60  # fires; an hour that has more is not kept
NEVER: Final = datetime.max.replace(tzinfo=UTC)


def fires(cron: str, timezone: str, after: datetime, until: datetime, most: int) -> list[datetime]:
    """Return when a schedule fires after one instant and before another, in UTC.

    Where that is more often than `most`, it is so many of them at the most, spread over the time.
    """
    schedule = _read(cron, timezone)
    if schedule is None:
        return []
    if schedule.count(after + INSTANT, until) <= most:
        return list(each(cron, timezone, after, until))
    length = -(-(until - after) // most // MINUTE) * MINUTE
    start = after.astimezone(UTC) - (after - datetime.min.replace(tzinfo=UTC)) % length
    found = []
    while start < until:
        fire = _first(cron, timezone, start, start + length)
        if fire is not None and after < fire < until:
            found.append(fire)
        start += length
    return found[:most]


def each(cron: str, timezone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Yield when a schedule fires after one instant and before another, in UTC, worked out as it is asked for."""
    start = _hour_of(after)
    while start < until:
        for fire in _of_hour(cron, timezone, start, max(start - INSTANT, after)):
            if fire >= until:
                return
            if fire > after:
                yield fire
        start = _following(cron, timezone, start + HOUR)


@lru_cache(maxsize=16_384)
def counts(cron: str, timezone: str, edges: tuple[datetime, ...]) -> tuple[int, ...]:
    """Return how often a schedule fires from each edge on and before the next."""
    schedule = _read(cron, timezone)
    if schedule is None:
        return (0,) * (len(edges) - 1)
    return tuple(schedule.count(since, until) for since, until in pairwise(edges))


def _of_hour(cron: str, timezone: str, start: datetime, after: datetime) -> Iterator[datetime]:
    """Yield the fires of an hour, or, where they are too many to be kept, those of them after an instant."""
    kept = _kept(cron, timezone, start)
    if kept is not None:
        yield from kept
        return
    schedule = parse(cron, timezone)
    while (fire := schedule.next(after)) is not None and fire < start + HOUR:
        yield fire
        after = fire


@lru_cache(maxsize=50_000)
def _kept(cron: str, timezone: str, start: datetime) -> tuple[datetime, ...] | None:
    schedule = _read(cron, timezone)
    if schedule is None:
        return ()
    count = schedule.count(start, start + HOUR)
    if count > KEPT_OF_HOUR:
        return None
    found: list[datetime] = []
    last: datetime | None = start - INSTANT
    while len(found) < count and last is not None and (last := schedule.next(last)) is not None:
        found.append(last)
    return tuple(found)


@lru_cache(maxsize=50_000)
def _first(cron: str, timezone: str, since: datetime, until: datetime) -> datetime | None:
    fire = parse(cron, timezone).next(since - INSTANT)
    return fire if fire is not None and fire < until else None


@lru_cache(maxsize=50_000)
def _following(cron: str, timezone: str, since: datetime) -> datetime:
    """Return the beginning of the hour in which it fires next, the end of time where it does not."""
    schedule = _read(cron, timezone)
    following = None if schedule is None else schedule.next(since - INSTANT)
    return NEVER if following is None else _hour_of(following)


def _read(cron: str, timezone: str) -> Schedule | None:
    try:
        return parse(cron, timezone)
    except InvalidError:
        return None


def _hour_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
