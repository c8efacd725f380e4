"""When jobs fire next, worked out once for as many pages as ask."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.schedule import parse

STEP: Final = timedelta(hours=1)  # fires are worked out from the beginning of one


def fires(cron: str, timezone: str, after: datetime, until: datetime, most: int) -> list[datetime]:
    """Return when a schedule fires after one instant and before another, so many times at the most.

    A schedule that can't be read any more, since it was edited by hand, does not fire.
    """
    start = after.replace(minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    while start < until and len(found) < most:
        found += [fire for fire in _within_step(cron, timezone, start, most) if after < fire < until]
        start = _following(cron, timezone, start + STEP)
    return found[:most]


@lru_cache(maxsize=50_000)
def _within_step(cron: str, timezone: str, start: datetime, most: int) -> tuple[datetime, ...]:
    try:
        schedule = parse(cron, timezone)
    except InvalidError:
        return ()
    found: list[datetime] = []
    last = start - timedelta(microseconds=1)
    while len(found) < most:
        following = schedule.next(last)
        if following is None or following >= start + STEP:
            break
        found.append(following)
        last = following
    return tuple(found)


@lru_cache(maxsize=50_000)
def _following(cron: str, timezone: str, after: datetime) -> datetime:
    """Return the beginning of the hour in which it fires next, the end of time where it does not."""
    never = datetime.max.replace(tzinfo=after.tzinfo)
    try:
        following = parse(cron, timezone).next(after - timedelta(microseconds=1))
    except InvalidError:
        return never
    return (
        never
        if following is None
        else following.astimezone(after.tzinfo).replace(minute=0, second=0, microsecond=0)
    )
