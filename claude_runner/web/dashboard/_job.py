"""One job: what it does and when, how it went, what it costs, what it remembers and what is in its folder."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError, NotFoundError, UnavailableError
from claude_runner.jobs import STANDARD, Job, JobRow, decided_in
from claude_runner.runs import RunQuery, RunRow, State
from claude_runner.web.dashboard import _charts
from claude_runner.web.dashboard._folders import Listing, listing
from claude_runner.web.dashboard._jobs import fires_to_come, in_words, next_run, results, standing
from claude_runner.web.dashboard._rendering import Pages, live_parts, wants
from claude_runner.web.dashboard._rule_fields import clock_of
from claude_runner.web.dashboard._rules import rules_in_words
from claude_runner.web.dashboard._schedule_preview import SHOWN, marked
from claude_runner.web.dashboard._words import money

DRAWN: Final = 50  # runs in the charts
LISTED: Final = 10
UNITS: Final = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
COLOURS: Final = {State.FINISHED: "ok", State.ERROR: "bad", State.CANCELLED: "skip"}


class JobDetails:
    """The page at `/jobs/{id}`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/jobs/{job_id}", self.show)

    async def show(self, request: Request) -> Response:
        """Show it; a job that was deleted a moment ago can be taken back here."""
        job_id = request.path_params["job_id"]
        try:
            row = await self._app.jobs.row(job_id)
        except NotFoundError:
            for job, until in await self._app.jobs.discarded():
                if job.id == job_id and live_parts(request) is not None:
                    return Response(status_code=410)  # at which an open page loads this one anew
                if job.id == job_id:
                    return await self._pages.page(request, "job_deleted.html", 410, job=job, until=until)
            raise
        return await self._pages.page(request, "job.html", **await self._shown(request, row))

    async def _shown(self, request: Request, row: JobRow) -> dict[str, Any]:
        job = row.job
        now = self._app.clock.now()
        shown: dict[str, Any] = {
            "job": job,
            "row": row,
            "words": in_words(job),
            "standing": standing(row, now),
            "is_paused": job.is_paused(now),
        }
        if wants(request, "glance"):
            shown["results"] = results(row)
            shown["held"] = await self._app.pausing.held()
            shown["next_run"] = await asyncio.to_thread(next_run, job, now)
        if wants(request, "glance", "history"):
            shown["runs"] = (await self._app.runs.search(RunQuery(job_id=job.id), DRAWN)).runs
        if wants(request, "history"):
            shown |= _history(shown["runs"], await self._pages.zone(), now)
            shown["waits"] = await self._app.waits_for(*shown["listed"])
        if wants(request, "next"):
            fires = await asyncio.to_thread(fires_to_come, job, now, SHOWN)
            shown["fires"] = marked(fires, now)
        if wants(request, "rights"):
            shown |= await self._rights(job)
        if wants(request, "folder"):
            shown["folder"] = await self._folder(job)
        return shown

    async def _rights(self, job: Job) -> dict[str, Any]:
        try:
            # It must not start tool servers: somebody is only looking.
            warnings = (
                await self._app.reach.grant(job.tools, job.profile, job.commands, start=False)
            ).warnings
        except InvalidError as error:
            warnings = (str(error),)
        owned = await self._app.stored.owned()
        rules = job.policy.or_else(owned.job_defaults).or_else(STANDARD)
        default = (await self._app.stored.rights()).default
        return {
            "warnings": warnings,
            "profile": job.profile or default,
            "rules": list(
                rules_in_words(rules, clock_of(job.timezone) or ZoneInfo("UTC"), await self._channels())
            ),
            "own_rules": decided_in(job.policy),
            "default_model": owned.default_model,
            "allowed": await self._app.stored.allowed_tools(),
        }

    async def _channels(self) -> list[str] | None:
        with suppress(UnavailableError):  # where the key is not there that opens their addresses
            return [channel.name for channel in await self._app.channels.list()]
        return None

    async def _folder(self, job: Job) -> Listing:
        return await asyncio.to_thread(listing, self._app.settings.playground / job.id)


def _history(runs: Sequence[RunRow], zone: ZoneInfo, now: datetime) -> dict[str, Any]:
    ended = [run for run in reversed(runs) if run.finished_at is not None and run.started_at is not None]
    links = [f"/runs/{run.id}" for run in ended]
    labels = [_label(run.created_at.astimezone(zone)) for run in ended]
    classes = [COLOURS[run.state] for run in ended]

    def drawn(values: Sequence[float], title: str, tell: Callable[[float], str]) -> Markup:
        return _charts.bars(labels, values, classes, links, title=title, tell=tell)

    return {
        "listed": runs[:LISTED],
        "ended": ended,
        "cost_chart": drawn([run.cost_usd or 0.0 for run in ended], "Cost of the last runs", money),
        "time_chart": drawn(*_durations([run.seconds(now) or 0.0 for run in ended])),
    }


def _durations(seconds: Sequence[float]) -> tuple[list[float], str, Callable[[float], str]]:
    """Return durations in the unit that suits the longest, what they are, and how one is told."""
    longest = max(seconds, default=0)
    size, unit = next(((size, unit) for size, unit in UNITS if longest >= size * 2), UNITS[-1])
    return [each / size for each in seconds], "Duration of the last runs", lambda value: f"{value:.3g} {unit}"


def _label(at: datetime) -> str:
    return f"{at.day} {at:%b %H:%M}"
