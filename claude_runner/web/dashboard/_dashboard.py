"""Every page of the dashboard, and what a browser is told where one can't be shown."""

from collections.abc import Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from claude_runner.app import App
from claude_runner.errors import RunnerError
from claude_runner.web._answers import error_answer, mistake_of, refusal_of
from claude_runner.web.dashboard._calendar import Calendar
from claude_runner.web.dashboard._calls import CallLog
from claude_runner.web.dashboard._exports import Exports
from claude_runner.web.dashboard._forms import back_to, go_to, read_form
from claude_runner.web.dashboard._job import JobDetails
from claude_runner.web.dashboard._job_actions import JobActions
from claude_runner.web.dashboard._job_editor import JobEditor
from claude_runner.web.dashboard._jobs import JobList
from claude_runner.web.dashboard._live import RARE, Live
from claude_runner.web.dashboard._notifications import NotificationsPage
from claude_runner.web.dashboard._overview import Overview
from claude_runner.web.dashboard._pauses import PausePages
from claude_runner.web.dashboard._quick import Quick
from claude_runner.web.dashboard._rendering import THEMES, Pages
from claude_runner.web.dashboard._run import RunPage
from claude_runner.web.dashboard._runs import RunList
from claude_runner.web.dashboard._servers import ServersPage
from claude_runner.web.dashboard._settings import SettingsPage
from claude_runner.web.dashboard._spending import SpendingPage
from claude_runner.web.dashboard._webhooks import WebhookPages

THEME_SECONDS: Final = 365 * 86_400
DATA: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # of what is no page
MOST_NAMED: Final = 5_000  # jobs, and webhooks, that are found by their names
KEYS: Final = (
    (("q",), "Run a prompt"),
    (("n",), "Make a job"),
    (("Ctrl", "K"), "Go to anything by its name"),
    (("/",), "Search this page's list"),
    (("j",), "The next of a list"),
    (("k",), "The one before it"),
    (("g", "o"), "Overview"),
    (("g", "j"), "Jobs"),
    (("g", "r"), "Runs"),
    (("g", "c"), "Calendar"),
    (("g", "w"), "Webhooks"),
    (("g", "s"), "Servers"),
    (("g", "l"), "Tool log"),
    (("g", "p"), "Spending"),
    (("g", "n"), "Notifications"),
    (("g", "e"), "Settings"),
    (("?",), "This sheet"),
    (("Esc",), "Close what is open"),
)


class Dashboard:
    """The pages of an application."""

    def __init__(self, app: App) -> None:
        self._pages = Pages(app)
        self._live = Live(app.hub)

    def routes(self) -> Iterator[Route]:
        """Yield every route; all of them are the owner's alone."""
        yield Route("/static/{version}/{name}", self._pages.assets.serve)
        yield Route("/live", self._live.changes)
        yield Route("/theme", self._theme, methods=["POST"])
        yield Route("/keys", self._keys)
        yield Route("/palette", self._palette)
        yield from Overview(self._pages).routes()
        for page in (PausePages, JobList, JobEditor, JobActions, JobDetails, Calendar):
            yield from page(self._pages).routes()
        yield from ServersPage(self._pages).routes()
        yield from WebhookPages(self._pages).routes()
        yield from SpendingPage(self._pages).routes()
        yield from NotificationsPage(self._pages).routes()
        yield from SettingsPage(self._pages).routes()
        yield from RunList(self._pages).routes()
        yield from Exports(self._pages).routes()
        yield from Quick(self._pages).routes()
        yield from CallLog(self._pages).routes()
        yield from RunPage(self._pages, self._live).routes()

    def seen(self) -> int:
        """Return what tells whether anything changes from now on; a page bears what it was when its request came."""
        return self._pages.app.hub.turn(*RARE)

    def finish(self) -> None:
        """End the streams of open pages."""
        self._live.finish()

    async def refused(self, request: Request, error: Exception) -> Response:
        """Answer what a page refused: a person with a page, a program with the house's error."""
        assert isinstance(error, RunnerError)  # noqa: S101 - it is what it is registered for
        if not _is_for_a_person(request):
            return refusal_of(error)
        return await self._error_page(request, error.status, str(error))

    async def mistaken(self, request: Request, error: Exception) -> Response:
        """Answer what nobody expected, which is logged."""
        answer = mistake_of(error, request.url.path)
        if not _is_for_a_person(request):
            return answer
        words = "The server made a mistake. Its log tells more."
        return await self._error_page(request, 500, words)

    async def not_found(self, request: Request, _: Exception) -> Response:
        """Answer a request for a page that there is not."""
        words = f"there is nothing at {request.url.path[:200]}"
        if not _is_for_a_person(request):
            return error_answer("not_found", words, 404)
        return await self._error_page(request, 404, words)

    async def _error_page(self, request: Request, status: int, words: str) -> Response:
        return await self._pages.page(request, "error.html", status, status=status, words=words)

    async def _keys(self, request: Request) -> Response:
        return await self._pages.page(request, "keys.html", rows=KEYS)

    async def _palette(self, _: Request) -> Response:
        """Answer with everything that has a name and a page of its own."""
        app = self._pages.app
        named = [
            *((name, "job", f"/jobs/{job_id}") for job_id, name in await app.jobs.names(MOST_NAMED)),
            *(
                (name, "webhook", f"/webhooks/{hook_id}")
                for hook_id, name in await app.webhooks.names(MOST_NAMED)
            ),
            *((server.name, "server", f"/servers/{server.name}") for server in await app.servers.list()),
        ]
        entries = [{"name": name, "kind": kind, "url": url} for name, kind, url in named]
        return JSONResponse(entries, headers=DATA)

    async def _theme(self, request: Request) -> Response:
        theme = (await read_form(request)).text("theme")
        answer = go_to(back_to(request))
        if theme in THEMES:
            answer.set_cookie("theme", theme, max_age=THEME_SECONDS, samesite="strict")
        else:
            answer.delete_cookie("theme")
        return answer


def _is_for_a_person(request: Request) -> bool:
    """Tell whether a browser shows the answer as a page; open pages and programs do not."""
    is_page = "text/html" in request.headers.get("accept", "")
    return (
        is_page and not request.url.path.startswith(("/api/", "/static/")) and "x-live" not in request.headers
    )
