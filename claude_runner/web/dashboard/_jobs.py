"""All jobs: what each does, when it runs next, how it went lately and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.jobs import Job, JobPage, JobQuery, JobRow, JobSort, JobState, Outcome
from claude_runner.web.dashboard._filters import Asked, Tab, given, tidy, whole
from claude_runner.web.dashboard._rendering import Pages, live_parts, with_query

ROWS: Final = 40  # of a page; what an open page is sent as jobs run stays within 5 KB
STATES: Final[Mapping[JobState | None, str]] = {
    None: "All",
    JobState.ENABLED: "Scheduled",
    JobState.RUNNING: "Running",
    JobState.FAILING: "Failing",
    JobState.PAUSED: "Paused or off",
}
DESCENDING: Final = frozenset({JobSort.LAST, JobSort.COST, JobSort.CREATED})  # at the first click
COLOURS: Final[Mapping[Outcome, str]] = {
    Outcome.OK: "ok",
    Outcome.FAILED: "bad",
    Outcome.CANCELLED: "skip",
    Outcome.SKIPPED: "skip",
    Outcome.MISSED: "warn",
    Outcome.REHEARSED: "ok",
    Outcome.REHEARSAL_FAILED: "bad",
}
WORDS: Final[Mapping[Outcome, str]] = {
    Outcome.OK: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
    Outcome.SKIPPED: "skipped",
    Outcome.MISSED: "missed",
    Outcome.REHEARSED: "rehearsed",
    Outcome.REHEARSAL_FAILED: "rehearsal failed",
}
TOLD: Final = frozenset({Outcome.OK, Outcome.FAILED, Outcome.REHEARSED, Outcome.REHEARSAL_FAILED})
FAILURES: Final = frozenset({Outcome.FAILED, Outcome.REHEARSAL_FAILED})


class Column(NamedTuple):
    """The head of a column that the list can be ordered by.

    Attributes:
        order: As `aria-sort` says it; empty where the list is ordered by another.
    """

    words: str
    link: str
    order: str


class Standing(NamedTuple):
    """How a job is, in a word and a colour."""

    word: str
    colour: str


class JobList:
    """The page at `/jobs`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/jobs", self.show)

    async def show(self, request: Request) -> Response:
        """Show it."""
        if (elsewhere := tidy(request)) is not None:
            return elsewhere
        asked = Asked(request.query_params, await self._pages.zone())
        query, page, now = _query(asked), _page(asked), self._app.clock.now()
        found = JobPage([], 0)
        if not asked.errors:
            found = await self._app.jobs.overview(query, ROWS, (page - 1) * ROWS)
        filters = given(request, "page")
        shown: dict[str, Any] = {
            "rows": found.rows,
            "unreadable": found.unreadable,
            "total": found.total,
            "page": page,
            "pages": max(ceil(found.total / ROWS), 1),
            "earlier": with_query("/jobs", **filters, page=page - 1 if page > 2 else "") if page > 1 else "",
            "later": with_query("/jobs", **filters, page=page + 1) if page * ROWS < found.total else "",
            "is_filtered": bool(query.text or query.state),
            "columns": _columns(query, filters),
            "errors": asked.errors,
            "standing": lambda row: standing(row, now),
            "next_run": lambda job: next_run(job, now),
            "words": in_words,
            "results": results,
        }
        if live_parts(request) is None:
            shown |= {"tabs": _tabs(query, filters), "discarded": await self._app.jobs.discarded()}
        return await self._pages.page(request, "jobs.html", 422 if asked.errors else 200, **shown)


def standing(row: JobRow, now: datetime) -> Standing:
    """Return how a job is."""
    if row.running is not None:
        return Standing("running", "run")
    if not row.job.enabled:
        return Standing("off", "skip")
    if row.job.is_paused(now):
        return Standing("paused", "skip")
    if row.job.next_run_at is None and not row.job.is_over:
        return Standing("not scheduled", "bad")
    last = next((outcome for outcome in reversed(row.recent) if outcome in TOLD), None)
    if last is None:
        return Standing("new", "skip")
    return Standing("failing", "bad") if last in FAILURES else Standing("ok", "ok")


def fires_to_come(job: Job, now: datetime, count: int) -> list[datetime]:
    """Return when it runs next, on its own clock: after its pause, and never where that has no end."""
    if job.pause is None or not job.is_paused(now):
        return job.next_fires(now, count)
    return [] if job.pause.until is None else job.next_fires(job.pause.until - timedelta.resolution, count)


def next_run(job: Job, now: datetime) -> datetime | None:
    """Return when it runs next: a slot that is due already, or the first to come."""
    if not job.enabled or job.next_run_at is None:
        return None
    if not job.is_paused(now) and not job.policy.blackouts:
        return job.next_run_at
    return next(iter(fires_to_come(job, now, 1)), None)


def in_words(job: Job) -> str:
    """Return a job's schedule in words, or what is wrong with one that was edited by hand."""
    try:
        return job.schedule.describe()
    except InvalidError as error:
        return str(error)


def results(row: JobRow) -> tuple[list[str], list[str]]:
    """Return the classes and the words of a job's last results."""
    return [COLOURS[outcome] for outcome in row.recent], [WORDS[outcome] for outcome in row.recent]


def _query(asked: Asked) -> JobQuery:
    return JobQuery(
        text=asked.text("q") or "",
        state=asked.one_of("state", JobState),
        sort=asked.one_of("sort", JobSort) or JobSort.NAME,
        descending=asked.yes_or_no("down") or False,
    )


def _page(asked: Asked) -> int:
    text = asked.text("page") or "1"
    page = whole(text)
    if page:
        return page
    asked.errors["page"] = f"{text[:40]!r} is no page; they are numbered from 1 on"
    return 1


def _tabs(query: JobQuery, filters: Mapping[str, Sequence[str]]) -> list[Tab]:
    others = {name: values for name, values in filters.items() if name != "state"}
    return [
        Tab(words, with_query("/jobs", **others, state=state), query.state is state)
        for state, words in STATES.items()
    ]


def _columns(query: JobQuery, filters: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    others = {name: values for name, values in filters.items() if name not in {"sort", "down"}}
    columns = {}
    for sort, words in (
        (JobSort.NAME, "Job"),
        (JobSort.NEXT, "Next run"),
        (JobSort.LAST, "Last results"),
        (JobSort.COST, "Cost per run"),
    ):
        is_chosen = query.sort is sort
        down = not query.descending if is_chosen else sort in DESCENDING
        link = with_query("/jobs", **others, sort=sort, down="yes" if down else "")
        order = ("descending" if query.descending else "ascending") if is_chosen else ""
        columns[str(sort)] = Column(words, link, order)
    return columns
