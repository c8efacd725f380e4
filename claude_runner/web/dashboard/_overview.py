"""The first page: what ran, what it cost, what needs the owner, what comes next, and what is going on."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.holds import HoldKind
from claude_runner.runs import RunQuery, State, Totals
from claude_runner.views.instants import clock_time
from claude_runner.web.dashboard import _charts
from claude_runner.web.dashboard._fires import fires
from claude_runner.web.dashboard._needs import needed
from claude_runner.web.dashboard._rendering import Pages, wants, with_query
from claude_runner.web.dashboard._words import day_edges, money

DAYS: Final = 30
ENDED: Final = tuple(state for state in State if state.is_final)
LATELY: Final = 6
AHEAD: Final = timedelta(hours=24)
LANES: Final = 8
MARKS: Final = 48  # in a lane; more can't be told apart


class Overview:
    """The page at `/`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/", self.show)

    async def show(self, request: Request) -> Response:
        """Show it."""
        now, zone = self._app.clock.now(), await self._pages.zone()
        shown: dict[str, Any] = {}
        if wants(request, "tiles", "charts"):
            shown |= await self._usage(now, zone)
        if wants(request, "needs"):
            shown["needs"] = await needed(self._app)
        if wants(request, "running"):
            shown["going_on"] = await self._app.runs.going_on()
            shown["waits"] = await self._app.waits_for(*shown["going_on"])
        if wants(request, "lately"):
            shown["lately"] = (await self._app.runs.search(RunQuery(states=ENDED), LATELY)).runs
        if wants(request, "coming"):
            shown |= await self._coming(now, zone)
        return await self._pages.page(request, "overview.html", **shown)

    async def _usage(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
        rehearsal = self._app.settings.rehearsal
        edges = day_edges(now, zone, DAYS + 1)  # a month has 31 at the most
        days = await self._app.runs.usage(edges, rehearsal=rehearsal)
        local = now.astimezone(zone)
        return {
            "today": days[-1],
            "yesterday": days[-2],
            "week": _sum(days[-1 - local.weekday() :]),
            "month": _sum(days[-local.day :]),
            "in_all": await self._app.runs.usage_in_all(rehearsal=rehearsal),
            "thirty": _sum(days[1:]),
            "days": list(zip(edges[1:-1], days[1:], strict=True)),
            "runs_chart": _runs_chart(edges[1:], days[1:]),
            "cost_chart": _cost_chart(edges[1:], days[1:]),
        }

    async def _coming(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
        coming = await self._app.jobs.coming(now + AHEAD)
        held = await self._app.pausing.held()
        paused = next((hold for hold in held if hold.kind is HoldKind.PAUSED), None)
        begin = now if paused is None else (paused.until or now + AHEAD) - timedelta.resolution
        lanes = []
        for job in coming[:LANES]:
            at = fires(job.timetable, begin, now + AHEAD, MARKS)
            marks = [
                _charts.Mark(
                    (fire - now) / AHEAD,
                    "run",
                    f"{job.name}, {clock_time(fire, now, zone)}",
                    f"/jobs/{job.id}",
                )
                for fire in at
            ]
            lanes.append((job.name, marks))
        chart = (
            _charts.timeline(lanes, _hours(now, zone), title="Runs of the next 24 hours") if lanes else None
        )
        return {
            "paused": paused,
            "coming": coming,
            "coming_chart": chart,
            "not_drawn": len(coming) - len(lanes),
        }


def _sum(totals: Sequence[Totals]) -> Totals:
    return reduce(add, totals)


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"


def _runs_chart(edges: Sequence[datetime], days: Sequence[Totals]) -> Markup:
    series = [
        _charts.Series("succeeded", "ok", [day.finished for day in days]),
        _charts.Series("failed", "bad", [day.failed for day in days]),
        _charts.Series("cancelled", "skip", [day.cancelled for day in days]),
    ]
    links = [
        with_query("/runs", since=f"{one:%Y-%m-%d}", until=f"{other:%Y-%m-%d}")
        for one, other in pairwise(edges)
    ]
    return _charts.stacked_bars([_day(at) for at in edges[:-1]], series, title="Runs per day", links=links)


def _cost_chart(edges: Sequence[datetime], days: Sequence[Totals]) -> Markup:
    values = [day.cost_usd for day in days]
    return _charts.area([_day(at) for at in edges[:-1]], values, title="Cost per day", tell=money)


def _hours(now: datetime, zone: ZoneInfo) -> list[tuple[float, str]]:
    """Return every third full hour of the owner's clock, where it stands and what it is called."""
    first = now.astimezone(zone).replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    hours = ((first + timedelta(hours=ahead)).astimezone(zone) for ahead in range(1, 25))
    return [((at - now) / AHEAD, f"{at:%H:%M}") for at in hours if at.hour % 3 == 0]
