"""What a schedule comes to, as somebody writes it: in words, and as the next days on the clock it is read by."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.errors import InvalidError
from claude_runner.schedule import Blackout, Change, Schedule, Timetable, clock_changes, parse, parse_blackout
from claude_runner.views.pauses import read_moment

SHOWN: Final = 10
MAX_BLACKOUTS: Final = 20
YEAR: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Fire:
    """One of the next fires.

    Attributes:
        local: When, on the schedule's own clock.
        change: The change of that clock which comes before it, in words; empty where there is none.
    """

    local: datetime
    change: str = ""


@dataclass(frozen=True, slots=True)
class SchedulePreview:
    """What a schedule comes to.

    Attributes:
        errors: What is wrong with its `cron` or `timezone`.
    """

    words: str = ""
    timezone: str = ""
    fires: Sequence[Fire] = ()
    errors: Mapping[str, str] = field(default_factory=dict)


async def preview(cron: str, timezone: str, now: datetime, bounds: Mapping[str, str]) -> SchedulePreview:
    """Return what a schedule comes to; whatever is wrong with it is told, not raised.

    Args:
        cron: The schedule, as it is typed.
        timezone: Its zone.
        now: The present.
        bounds: The rules as they are typed that leave slots out, by name; one that can't be read leaves out none.
    """
    try:
        schedule = parse(cron, timezone.strip(), now)
        fires = await asyncio.to_thread(_within(schedule, bounds).upcoming, now, SHOWN)
    except InvalidError as error:
        return SchedulePreview(errors={error.field or "cron": str(error)})
    return SchedulePreview(schedule.describe(), schedule.timezone, marked(fires, now))


def _within(schedule: Schedule, bounds: Mapping[str, str]) -> Timetable:
    moments: dict[str, datetime | None] = {}
    blackouts: list[Blackout] = []
    for name in ("starts_at", "ends_at"):
        with suppress(InvalidError):
            moments[name] = read_moment(bounds[name], name, schedule.zone) if bounds.get(name) else None
    for line in filter(str.strip, bounds.get("blackouts", "").splitlines()[:MAX_BLACKOUTS]):
        with suppress(InvalidError):
            blackouts.append(parse_blackout(line))
    return Timetable(schedule, **moments, blackouts=tuple(blackouts))


def marked(fires: Sequence[datetime], now: datetime) -> list[Fire]:
    """Return fires on a clock of their own, each with the change of that clock that comes before it."""
    return list(_marked(fires, now))


def _marked(fires: Sequence[datetime], now: datetime) -> Iterator[Fire]:
    before = now
    for fire in fires:
        zone = fire.tzinfo
        changes: list[Change] = []
        if isinstance(zone, ZoneInfo) and before.astimezone(zone).utcoffset() != fire.utcoffset():
            changes = list(clock_changes(zone, max(before, fire - YEAR), fire + timedelta.resolution))
        yield Fire(fire, _told(changes[-1], fire) if changes else "")
        before = fire


def _told(change: Change, fire: datetime) -> str:
    day = change.at.astimezone(fire.tzinfo)
    if change.repeats:
        how = f"Clocks go back from {change.end:%H:%M} to {change.start:%H:%M}"
    else:
        how = f"Clocks go forward from {change.start:%H:%M} to {change.end:%H:%M}"
    return f"{how} on {day:%a} {day.day} {day:%b %Y}"
