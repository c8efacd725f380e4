"""Endpoints about time: what was planned and what became of it, what comes, and when a cron fires."""

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.jobs import Coming
from claude_runner.schedule import parse
from claude_runner.views.decisions import owners_zone
from claude_runner.views.instants import iso, read_instant
from claude_runner.views.slots import SlotView, slot_view
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._types import Since, Until

LONGEST: Final = timedelta(days=100)
_INSTANT: Final = timedelta(microseconds=1)
USUAL: Final = timedelta(days=7)  # before and after now


@dataclass(frozen=True, slots=True)
class CalendarSearch:
    """Which time, and which job."""

    since: Since = None
    until: Until = None
    job_id: Annotated[str | None, Field(description="Of this job.")] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="How many of the past, and of what comes.")] = 500


@dataclass(frozen=True, slots=True)
class ComingView:
    """A slot of a job that is to come, on the job's own clock too."""

    job_id: str
    job_name: str
    scheduled_for: str
    local: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """What was planned in a stretch of time and what comes in it; where one ends with its limit, there may be more."""

    since: str
    until: str
    past: list[SlotView]
    coming: list[ComingView]


@dataclass(frozen=True, slots=True)
class ScheduleSearch:
    """Which cron."""

    cron: Annotated[
        str,
        Field(
            description="Five fields as in cron, six with the second first, or such as `@daily`, "
            "`every 90 minutes` or `at 2026-12-01 09:00`."
        ),
    ]
    timezone: Annotated[str | None, Field(description="IANA name of a zone; the owner's where left out.")] = (
        None
    )
    count: Annotated[int, Field(ge=1, le=100, description="How many of its next fires.")] = 10


@dataclass(frozen=True, slots=True)
class Fire:
    """When it fires; by `clock_change_minutes` the zone's clocks were put forward, or back, since the fire before."""

    at: str
    local: str
    clock_change_minutes: int


@dataclass(frozen=True, slots=True)
class SchedulePreview:
    """A schedule in words, and when it fires next."""

    cron: str
    timezone: str
    schedule: str
    fires: list[Fire]


class CalendarEndpoints(EndpointGroup):
    """What was planned and what comes."""

    subject = "Calendar"

    @endpoint("GET /api/calendar", NotFoundError)
    async def get_calendar(self, query: CalendarSearch) -> Calendar:
        """Show planned slots with what became of them, and those to come; a week back and ahead where none is named."""
        now = self.app.clock.now()
        since = read_instant(query.since, "since") or now - USUAL
        until = read_instant(query.until, "until") or max(now, since) + USUAL
        if not since < until <= since + LONGEST:
            raise InvalidError(
                f"until is later than since, by {LONGEST.days} days at the most", field="until"
            )
        if query.job_id is not None:
            await self.app.jobs.get(query.job_id)
        past = await self.app.jobs.occurrences(since, until, query.job_id, query.limit)
        coming = [it for it in await self.app.jobs.coming(until) if query.job_id in {None, it.id}]
        ahead = await asyncio.to_thread(_ahead, coming, max(now, since), until, query.limit)
        return Calendar(since.isoformat(), until.isoformat(), [slot_view(slot) for slot in past], ahead)

    @endpoint("GET /api/schedule")
    async def preview_schedule(self, query: ScheduleSearch) -> SchedulePreview:
        """Say a cron in words and tell when it fires next, changes of the zone's clocks marked."""
        now = self.app.clock.now()
        schedule = parse(query.cron, query.timezone or (await owners_zone(self.app)).key, now)
        fires = await asyncio.to_thread(schedule.upcoming, now, query.count)
        return SchedulePreview(
            schedule.expression, schedule.timezone, schedule.describe(), _marked(fires, now)
        )


def _ahead(coming: Sequence[Coming], since: datetime, until: datetime, most: int) -> list[ComingView]:
    """Return the fires of jobs from one instant on and before another, in the order of time."""
    waiting = [(it.next_run_at, place) for place, it in enumerate(coming)]
    heapq.heapify(waiting)
    found: list[ComingView] = []
    while waiting and len(found) < most:
        at, place = heapq.heappop(waiting)
        job = coming[place]
        if at >= since and job.timetable.blackout_at(at) is None:
            local = job.timetable.schedule.local(at).isoformat(timespec="seconds")
            found.append(ComingView(job.id, job.name, at.isoformat(), local))
        for following in job.timetable.upcoming(max(at, since - _INSTANT), 1):
            if following < until:
                heapq.heappush(waiting, (following.astimezone(UTC), place))
    return found


def _marked(fires: Sequence[datetime], now: datetime) -> list[Fire]:
    marked: list[Fire] = []
    before = None if not fires else now.astimezone(fires[0].tzinfo).utcoffset()
    for fire in fires:
        offset = fire.utcoffset() or timedelta()
        changed = int((offset - (before or timedelta())) / timedelta(minutes=1))
        marked.append(Fire(iso(fire) or "", fire.isoformat(timespec="seconds"), changed))
        before = offset
    return marked
