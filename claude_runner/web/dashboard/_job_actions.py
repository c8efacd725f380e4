"""What is done to a job with one button; what can be taken back is done at once, and says how."""

from collections.abc import Awaitable, Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.jobs import Job
from claude_runner.web.dashboard._forms import Notice, back_to, go_to, read_form
from claude_runner.web.dashboard._rendering import Pages, with_query


class JobActions:
    """The buttons of a job; each sends a form to a path of its own."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        acts = (self.run, self.duplicate, self.delete, self.restore)
        for act in acts:
            yield Route(f"/jobs/{{job_id}}/{act.__name__}", act, methods=["POST"])
        yield Route("/jobs/{job_id}/switch-off", self.switch_off, methods=["POST"])
        yield Route("/jobs/{job_id}/switch-on", self.switch_on, methods=["POST"])
        yield Route("/jobs/{job_id}/rehearse", self.ask_to_rehearse, methods=["GET"])
        yield Route("/jobs/{job_id}/rehearse", self.rehearse, methods=["POST"])

    async def run(self, request: Request) -> Response:
        """Run it now, besides its schedule."""
        job = await self._job(request)

        async def do() -> str:
            return f"/runs/{(await self._app.trigger(job.id)).id}"

        path = await self._once(request, do)
        back = back_to(request, "")
        return go_to(back or path, Notice(f"“{job.name}” runs now.") if back else None)

    async def switch_off(self, request: Request) -> Response:
        """Take it off its schedule."""
        return await self._switch(request, "“{}” is off: it runs only by hand.", "switch-on", enabled=False)

    async def switch_on(self, request: Request) -> Response:
        """Put it on its schedule again."""
        return await self._switch(request, "“{}” is on its schedule again.", "switch-off", enabled=True)

    async def duplicate(self, request: Request) -> Response:
        """Make a copy of it, switched off so that nothing is done twice, and open its form."""

        async def do() -> str:
            copy = await self._app.jobs.duplicate(request.path_params["job_id"], self._app.clock.now())
            return f"/jobs/{copy.id}/edit"

        notice = Notice("This is a copy, and it is off: change it, tick “Scheduled” and save it.", "note")
        return go_to(await self._once(request, do), notice)

    async def delete(self, request: Request) -> Response:
        """Delete it; for an hour it can be taken back."""
        job_id = request.path_params["job_id"]
        name = ""

        async def do() -> str:
            nonlocal name
            name = (await self._app.jobs.get(job_id)).name
            await self._app.discard_job(job_id)
            return back_to(request, "/jobs")

        path = await self._once(request, do)
        what = f"“{name}”" if name else "the job"
        return go_to(
            path, Notice(f"Deleted: {what}, with its runs.", action=f"/jobs/{job_id}/restore", label="Undo")
        )

    async def restore(self, request: Request) -> Response:
        """Take its deletion back."""
        job = await self._app.restore_job(request.path_params["job_id"])
        return go_to(f"/jobs/{job.id}", Notice(f"“{job.name}” is back, as it was."))

    async def ask_to_rehearse(self, request: Request) -> Response:
        """Say what a rehearsal is, and offer it."""
        job = await self._job(request)
        return await self._pages.page(request, "job_rehearsal.html", job=job, rehearsal=None)

    async def rehearse(self, request: Request) -> Response:
        """Rehearse it, and show the report."""
        job = await self._job(request)
        rehearsal = await self._app.rehearsals.of_job(job.id)
        return await self._pages.page(request, "job_rehearsal.html", job=job, rehearsal=rehearsal)

    async def _switch(self, request: Request, words: str, back_by: str, *, enabled: bool) -> Response:
        job = await self._job(request)
        back = back_to(request, f"/jobs/{job.id}")
        if job.enabled is not enabled:
            await self._app.jobs.change(job.id, {"enabled": enabled}, self._app.clock.now())
        undo = with_query(f"/jobs/{job.id}/{back_by}", back=back)
        return go_to(back, Notice(words.format(job.name), action=undo, label="Undo"))

    async def _job(self, request: Request) -> Job:
        return await self._app.jobs.get(request.path_params["job_id"])

    async def _once(self, request: Request, do: Callable[[], Awaitable[str]]) -> str:
        return await self._pages.once.done((await read_form(request)).text("once"), do)
