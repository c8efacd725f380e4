"""The calendar: a month of slots, done and to come, with what became of them and what they cost; and one day of it."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import NotFoundError
from claude_runner.jobs import Slot
from claude_runner.runs import SlotTotals, Totals
from claude_runner.web.dashboard import _charts
from claude_runner.web.dashboard._days import (
    Entry,
    Stretch,
    ahead,
    coming_counts,
    entries,
    hour_edges,
    midnight,
    often,
    stretches,
)
from claude_runner.web.dashboard._filters import Asked
from claude_runner.web.dashboard._rendering import Pages, wants, with_query

FIRST: Final = date(2000, 1, 1)
LAST: Final = date(2100, 12, 31)
READ: Final = 120  # slots of a day at a time
AT_ONCE: Final = 5_000  # of one instant, as many as there are jobs
AHEAD: Final = 60  # entries to come at a time
ONE: Final = timedelta(days=1)


class Day(NamedTuple):
    """A day of the month's grid.

    Attributes:
        is_of_month: Whether it is of the month that is shown, not of the one before or after.
    """

    date: date
    stretch: Stretch
    is_of_month: bool


class Calendar:
    """The pages at `/calendar` and `/calendar/{day}`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        yield Route("/calendar", self.month)
        yield Route("/calendar/{day}", self.day)

    async def month(self, request: Request) -> Response:
        """Show a month; the present one where none is asked for."""
        zone, now = await self._pages.zone(), self._app.clock.now()
        today = now.astimezone(zone).date()
        asked = Asked(request.query_params, zone)
        first = _month(asked, today)
        start = first - timedelta(days=first.weekday())
        after = _following(first)
        dates = _dates(start, after + timedelta(days=-after.weekday() % 7))
        edges = [midnight(day, zone).astimezone(UTC) for day in (*dates, dates[-1] + ONE)]
        found = await stretches(self._app, edges, await self._coming(edges, now))
        days = [Day(day, stretch, first <= day < after) for day, stretch in zip(dates, found, strict=True)]
        return await self._pages.page(
            request,
            "calendar.html",
            422 if asked.errors else 200,
            first=first,
            today=today,
            weeks=[days[place : place + 7] for place in range(0, len(days), 7)],
            whole=_sum([day.stretch for day in days if day.is_of_month]),
            earlier=_link(first - ONE),
            later=_link(after),
            errors=asked.errors,
            bar=_bar,
        )

    async def day(self, request: Request) -> Response:
        """Show a day: its hours, its slots in order, and what is still to come."""
        zone, now = await self._pages.zone(), self._app.clock.now()
        day = _read_day(request.path_params["day"])
        start, end = (midnight(each, zone).astimezone(UTC) for each in (day, day + ONE))
        asked = Asked(request.query_params, zone)
        since = min(max(asked.instant("from") or start, start), end)
        shown: dict[str, Any] = {
            "day": day,
            "today": now.astimezone(zone).date(),
            "earlier": f"/calendar/{day - ONE}" if day > FIRST else "",
            "later": f"/calendar/{day + ONE}" if day < LAST else "",
            "next_day": day + ONE,
            "since": since if since > start else None,
            "errors": asked.errors,
        }
        if wants(request, "hours"):
            edges = hour_edges(start, end)
            hours = await stretches(self._app, edges, await self._coming(edges, now))
            shown |= {"whole": _sum(hours), "hours_chart": _hours_chart(hours, zone, f"/calendar/{day}")}
        if wants(request, "slots"):
            shown |= await self._slots(since, end, now, f"/calendar/{day}")
        status = 422 if asked.errors else 200
        return await self._pages.page(request, "calendar_day.html", status, **shown)

    async def _coming(self, edges: Sequence[datetime], now: datetime) -> list[int]:
        """Return how many fires come between each edge and the next; the first look at a month takes its time."""
        if edges[-1] <= now:
            return [0] * (len(edges) - 1)
        jobs = await self._app.jobs.coming(edges[-1])
        return await asyncio.to_thread(coming_counts, jobs, edges, now)

    async def _slots(self, since: datetime, end: datetime, now: datetime, path: str) -> dict[str, Any]:
        slots = await self._app.jobs.occurrences(since, end, limit=READ)
        slots, rest = _cut(slots)
        if rest is not None and not slots:  # more came at one instant than are read at a time
            slots = await self._app.jobs.occurrences(since, rest, limit=AT_ONCE)
        coming: list[Entry] = []
        frequent: list[Entry] = []
        if rest is None and end > now:
            after = max(now, since - timedelta.resolution)
            jobs = await self._app.jobs.coming(end)
            seldom, frequent = await asyncio.to_thread(often, jobs, after, end)
            coming, rest = await asyncio.to_thread(ahead, seldom, after, end, AHEAD)
        return {
            "done": entries(slots),
            "coming": coming,
            "frequent": frequent[:AHEAD],
            "rest": with_query(path, **{"from": _iso(rest)}) if rest is not None else "",
        }


def _month(asked: Asked, today: date) -> date:
    """Return the first day of the month that is asked for."""
    text = asked.text("month")
    if text is None:
        return today.replace(day=1)
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        asked.errors["month"] = f"{text[:40]!r} is no month; give one such as {today:%Y-%m}"
        return today.replace(day=1)
    if not FIRST <= first <= LAST:
        asked.errors["month"] = f"{text[:40]!r} is too far away; the years from 2000 to 2100 are shown"
        return today.replace(day=1)
    return first


def _read_day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if not FIRST <= day <= LAST:
        raise NotFoundError(f"{text[:40]!r} is no day that is shown; give one such as 2026-11-27")
    return day


def _following(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def _dates(start: date, end: date) -> list[date]:
    return [start + timedelta(days=number) for number in range((end - start).days)]


def _link(day: date) -> str:
    return f"/calendar?month={day:%Y-%m}" if FIRST <= day <= LAST else ""


def _sum(parts: Sequence[Stretch]) -> Stretch:
    """Return several stretches as one."""
    totals = reduce(add, (part.totals for part in parts), Totals())
    ran, skipped, missed = (sum(column) for column in zip(*(part.slots for part in parts), strict=True))
    coming = sum(part.coming for part in parts)
    return Stretch(parts[0].start, parts[-1].end, totals, SlotTotals(ran, skipped, missed), coming)


def _cut(slots: Sequence[Slot]) -> tuple[Sequence[Slot], datetime | None]:
    """Return what is shown of slots that may have been read in part, and the instant that the rest begins with.

    Those of one instant stand together: where all are of one, none is left, and the rest begins after them.
    """
    if len(slots) < READ:
        return slots, None
    last = slots[-1].scheduled_for
    whole = [slot for slot in slots if slot.scheduled_for < last]
    return (whole, last) if whole else ([], last + timedelta(seconds=1))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _bar(stretch: Stretch) -> Markup:
    """Return the fates of a day as a thin bar, each as wide as its share."""
    parts = [
        ("ok", stretch.totals.finished), ("bad", stretch.totals.failed), ("warn", stretch.slots.missed),
        ("skip", stretch.totals.cancelled + stretch.slots.skipped), ("coming", stretch.coming),
    ]  # fmt: skip
    whole = sum(count for _, count in parts)
    if not whole:
        return Markup("")
    x, drawn = 0.0, ""
    for colour, count in parts:
        if count:
            wide = 100 * count / whole
            drawn += f'<rect class="{colour}" x="{x:.1f}" width="{wide:.1f}" height="4"/>'
            x += wide
    start = '<svg class="fates" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(f"{start}{drawn}</svg>")  # noqa: S704 - made of numbers and our own words


def _hours_chart(hours: Sequence[Stretch], zone: ZoneInfo, path: str) -> Markup:
    labels = [f"{hour.start.astimezone(zone):%H:%M}" for hour in hours]
    series = [
        _charts.Series("ran", "ok", [hour.slots.ran for hour in hours]),
        _charts.Series("missed", "warn", [hour.slots.missed for hour in hours]),
        _charts.Series("skipped", "skip", [hour.slots.skipped for hour in hours]),
        _charts.Series("to come", "run", [hour.coming for hour in hours]),
    ]
    links = [with_query(path, **{"from": _iso(hour.start)}) for hour in hours]
    return _charts.stacked_bars(
        labels, series, title="Slots by the hour", links=links, width=1080, height=150
    )
