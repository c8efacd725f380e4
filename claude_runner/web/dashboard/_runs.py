"""Every run of every trigger in one list: filtered, searched, page by page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.runs import ReportStatus, RunHits, RunRow, State
from claude_runner.web.dashboard._filters import Asked, Tab, given, is_day, tidy
from claude_runner.web.dashboard._rendering import Pages, live_parts, with_query
from claude_runner.web.dashboard._run_filters import REASONS, STATES, TRIGGERS, run_query
from claude_runner.web.dashboard._visible import visible
from claude_runner.webhooks import without_fences

ROWS: Final = 30  # of a page; what an open page is sent as runs come and go stays within 5 KB
TITLE: Final = 70  # characters of a prompt in place of a name
TOLD: Final = 120  # characters of a prompt beside a name
SAID: Final = 160  # characters of what came of a run
UNUSUAL: Final = (
    "trigger",
    "webhook",
    "reason",
    "since",
    "until",
    "cost",
    "rehearsal",
    "model",
)  # filters, folded away
REPORTS: Final = {
    ReportStatus.DONE: "",
    ReportStatus.PARTLY: "warn",
    ReportStatus.NOTHING_TO_DO: "",
    ReportStatus.FAILED: "bad",
}


class Said(NamedTuple):
    """What came of a run, in a line, and its colour."""

    words: str
    kind: str


class RunList:
    """The page at `/runs`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route("/runs", self.show)

    async def show(self, request: Request) -> Response:
        """Show it."""
        if (elsewhere := tidy(request)) is not None:
            return elsewhere
        asked = Asked(request.query_params, await self._pages.zone())
        hits = await self._found(asked)
        filters, cursor = given(request, "cursor"), asked.text("cursor")
        shown: dict[str, Any] = {
            "runs": hits.runs,
            "waits": await self._app.waits_for(*hits.runs),
            "looked_until": hits.looked_until,
            "newest": with_query("/runs", **filters) if cursor else "",
            "older": with_query("/runs", **filters, cursor=hits.next_cursor) if hits.next_cursor else "",
            "filters": filters,
            "errors": asked.errors,
            "follows": not cursor and "q" not in filters,
            "triggers": TRIGGERS,
            "title_of": title_of,
            "came_of": came_of,
            "told": told,
            "visible": visible,
        }
        if live_parts(request) is None:
            shown |= await self._choices(filters)
        return await self._pages.page(request, "runs.html", 422 if asked.errors else 200, **shown)

    async def _found(self, asked: Asked) -> RunHits:
        query, cursor = run_query(asked), asked.text("cursor")
        if asked.errors:
            return RunHits([], None)
        try:
            return await self._app.runs.search(query, ROWS, cursor)
        except InvalidError as error:
            asked.errors["cursor"] = str(error)
            return RunHits([], None)

    async def _choices(self, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return what there is to choose from."""
        return {
            "tabs": _tabs(filters),
            "jobs": await self._app.jobs.names(),
            "webhooks": await self._app.webhooks.names(),
            "reasons": REASONS,
            "is_day": is_day,
            "is_unfolded": any(name in filters for name in UNUSUAL),
            "files": [
                (ending.upper(), with_query(f"/runs.{ending}", **filters)) for ending in ("csv", "json")
            ],
        }


def title_of(run: RunRow) -> str:
    """Return what a run is called: its job, its webhook, or what it was told."""
    if run.job_id is not None:
        return run.job_name or f"job {run.job_id}"
    if run.webhook_id is not None:
        return run.webhook_name or "a webhook that was deleted"
    return first_line(run.prompt, TITLE)


def told(run: RunRow) -> str:
    """Return the beginning of what a run was told."""
    return first_line(without_fences(run.prompt) if run.webhook_id else run.prompt, TOLD)


def came_of(run: RunRow) -> Said | None:
    """Return what came of a run: why it did not finish, or what it says itself.

    Why its last attempt failed is told by what it waits for, where it is to have another.
    """
    if run.error and run.state is not State.PENDING:
        return Said(first_line(run.error, SAID), "bad" if run.state is State.ERROR else "")
    if run.report is not None:
        status = run.report.status.replace("_", " ")
        return Said(first_line(f"{status}: {run.report.summary}", SAID), REPORTS[run.report.status])
    return None


def first_line(text: str, most: int) -> str:
    """Return the first line of a text that has something on it, with a sign where it is cut."""
    line = next((each.strip() for each in text.splitlines() if each.strip()), "")
    return visible(line if len(line) <= most else line[: most - 1].rstrip() + "…")


def _tabs(filters: Mapping[str, Sequence[str]]) -> list[Tab]:
    others = {name: values for name, values in filters.items() if name != "state"}
    chosen = filters.get("state", ())
    every = Tab("All", with_query("/runs", **others), not chosen)
    return [
        every,
        *(
            Tab(words, with_query("/runs", **others, state=state), state in chosen)
            for state, words in STATES.items()
        ),
    ]
