"""Pauses of a job and of everything: until when and why are typed if somebody likes, and each can be taken back."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.holds import Hold, HoldKind
from claude_runner.jobs import Job, Pause
from claude_runner.pausing import BY_OWNER
from claude_runner.views.pauses import read_until
from claude_runner.web.dashboard._forms import Form, Notice, back_to, go_to, read_form
from claude_runner.web.dashboard._rendering import Pages, with_query
from claude_runner.web.dashboard._rule_fields import clock_of
from claude_runner.web.dashboard._words import exact

LONGEST_UNDO: Final = 1_000  # of an address, which a cookie carries
MORNING: Final = 8  # o'clock


class PausePages:
    """The forms that pause a job or everything, and the buttons that let it go on."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes; they come before that of a job's page."""
        yield Route("/jobs/{job_id}/pause", self.ask_job, methods=["GET"])
        yield Route("/jobs/{job_id}/pause", self.pause_job, methods=["POST"])
        yield Route("/jobs/{job_id}/resume", self.resume_job, methods=["POST"])
        yield Route("/pause-all", self.ask_all, methods=["GET"])
        yield Route("/pause-all", self.pause_all, methods=["POST"])
        yield Route("/resume-all", self.resume_all, methods=["POST"])

    async def ask_job(self, request: Request) -> Response:
        """Show the form that pauses a job; one that is paused is paused anew."""
        job = await self._job(request)
        return await self._form(request, job, _of(job.pause, _clock(job)))

    async def pause_job(self, request: Request) -> Response:
        """Pause a job: its slots are skipped until the pause ends."""
        job, form = await self._job(request), await _read(request)
        clock = _clock(job)
        try:
            job = await self._app.pause_job(job.id, _until(form, clock), form.text("reason"))
        except InvalidError as error:
            return await self._form(request, job, form, error)
        back = back_to(request, f"/jobs/{job.id}")
        undo = with_query(f"/jobs/{job.id}/resume", back=back)
        assert job.pause is not None  # noqa: S101 - it was paused this moment
        return go_to(back, _paused(f"“{job.name}” is paused", job.pause.until, clock, undo))

    async def resume_job(self, request: Request) -> Response:
        """End a job's pause; nothing of it is caught up."""
        job = await self._job(request)
        back = back_to(request, f"/jobs/{job.id}")
        if job.pause is None:
            return go_to(back, Notice(f"“{job.name}” is not paused.", "note"))
        await self._app.resume_job(job.id)
        undo = _again(f"/jobs/{job.id}/pause", back, job.pause.until, job.pause.reason)
        return go_to(back, Notice(f"“{job.name}” goes on.", action=undo, label="Undo"))

    async def ask_all(self, request: Request) -> Response:
        """Show the form that pauses everything."""
        return await self._form(request, None, _of(await self._hold(), await self._pages.zone()))

    async def pause_all(self, request: Request) -> Response:
        """Pause everything; runs that go on go on."""
        form, clock = await _read(request), await self._pages.zone()
        try:
            hold = await self._app.pausing.pause_all(_until(form, clock), form.text("reason"))
        except InvalidError as error:
            return await self._form(request, None, form, error)
        back = back_to(request, "/")
        undo = with_query("/resume-all", back=back)
        return go_to(back, _paused("Everything is paused", hold.until, clock, undo))

    async def resume_all(self, request: Request) -> Response:
        """Let everything go on that was paused together."""
        hold, back = await self._hold(), back_to(request, "/")
        await self._app.pausing.resume_all()
        if hold is None:
            return go_to(back, Notice("Nothing was paused.", "note"))
        undo = _again("/pause-all", back, hold.until, hold.reason)
        return go_to(back, Notice("Everything goes on.", action=undo, label="Undo"))

    async def _form(
        self, request: Request, job: Job | None, form: Form, error: InvalidError | None = None
    ) -> Response:
        place = "/" if job is None else f"/jobs/{job.id}"
        clock = await self._pages.zone() if job is None else _clock(job)
        refused: Mapping[str, str] = {} if error is None else {f"pause-{error.field}": str(error)}
        shown: dict[str, Any] = {
            "job": job,
            "paused": await self._hold() if job is None else job.pause,
            "form": form,
            "errors": refused,
            "clock": clock,
            "back": back_to(request, place),
            "shortcuts": _shortcuts(self._app.clock.now(), clock),
        }
        return await self._pages.page(request, "pause.html", 422 if error else 200, **shown)

    async def _job(self, request: Request) -> Job:
        return await self._app.jobs.get(request.path_params["job_id"])

    async def _hold(self) -> Hold | None:
        held = await self._app.pausing.held()
        return next((hold for hold in held if hold.kind is HoldKind.PAUSED), None)


def _clock(job: Job) -> ZoneInfo:
    return clock_of(job.timezone) or ZoneInfo("UTC")


async def _read(request: Request) -> Form:
    """Return the form that was sent; a button that takes something back has it in its address."""
    form, query = await read_form(request), request.query_params
    return Form((name, form.text(name, query.get(name, ""))) for name in ("until", "reason"))


def _of(pause: Pause | Hold | None, clock: ZoneInfo) -> Form:
    """Return the form as it was filled for a pause."""
    if pause is None:
        return Form()
    until = "" if pause.until is None else f"{pause.until.astimezone(clock):%Y-%m-%dT%H:%M}"
    return Form([("until", until), ("reason", "" if pause.reason == BY_OWNER else pause.reason)])


def _until(form: Form, clock: ZoneInfo) -> datetime | None:
    return read_until(form.text("until").strip() or None, clock)


def _paused(what: str, until: datetime | None, clock: ZoneInfo, undo: str) -> Notice:
    how_long = "until it is resumed" if until is None else f"until {exact(until, clock)}"
    return Notice(f"{what} {how_long}.", action=undo, label="Undo")


def _again(path: str, back: str, until: datetime | None, reason: str) -> str:
    """Return where a form goes that pauses as it was before."""
    ends = "" if until is None else until.isoformat()
    undo = with_query(path, back=back, until=ends, reason=reason)
    return undo if len(undo) <= LONGEST_UNDO else with_query(path, back=back, until=ends)


def _shortcuts(now: datetime, clock: ZoneInfo) -> list[tuple[str, str]]:
    """Return how long somebody may well want to pause: in words, and until when."""
    local = now.astimezone(clock)
    morning = local.replace(hour=MORNING, minute=0, second=0, microsecond=0)
    tomorrow = morning + timedelta(days=1)  # on the wall: DST is the zone's
    monday = morning + timedelta(days=7 - local.weekday())
    found = {
        now + timedelta(hours=1): "For an hour",
        tomorrow: f"Until tomorrow, {tomorrow:%H:%M}",
        monday: f"Until Monday, {monday:%H:%M}",
    }
    return [(words, until.isoformat()) for until, words in found.items()]
