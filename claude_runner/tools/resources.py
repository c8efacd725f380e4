"""What clients can attach to a conversation without a tool: outputs of runs, and jobs."""

from collections.abc import Sequence
from typing import Any, Final

from fastmcp import FastMCP
from fastmcp.resources import Resource
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp_types import ListResourcesRequest
from pydantic_core import to_json

from claude_runner.app import App
from claude_runner.jobs import Job
from claude_runner.runs import Run, RunFilter, State
from claude_runner.tools._toolbox import looked_up
from claude_runner.views.jobs import job_view

OUTPUT: Final = "run://{id}/output"
JOB: Final = "job://{id}"
LISTED: Final = 20  # of each kind, the latest; by its address each of them can be read
LONGEST: Final = 200_000  # characters of an output, as a page of get_run


class Resources(Middleware):
    """Outputs of runs and jobs under addresses of their own; lists the latest of them."""

    def __init__(self, app: App) -> None:
        self._app = app

    def add_to(self, mcp: FastMCP[Any]) -> None:
        """Offer them to the clients of a server."""
        mcp.resource(OUTPUT, title="Output of a run", mime_type="text/markdown")(self.output_of_run)
        mcp.resource(JOB, title="Job", mime_type="application/json")(self.job)
        mcp.add_middleware(self)

    async def output_of_run(self, id: str) -> str:  # noqa: A002 - its name in the address
        """What a run said, by the run's id; of one that is going on, what it has said so far."""
        run = await looked_up(self._app.runs.get(id))
        text = run.output or (await self._app.runs.text_so_far(run.id) if run.state is State.RUNNING else "")
        if len(text) > LONGEST:
            return f"{text[:LONGEST]}\n\n[{len(text) - LONGEST:,} characters more: get_run, output_offset={LONGEST}]"
        return text or _nothing_said(run)

    async def job(self, id: str) -> str:  # noqa: A002 - as above
        """A job whole as get_job answers it, by the job's id."""
        job = await looked_up(self._app.jobs.get(id))
        return to_json(await job_view(self._app, job), indent=2).decode()

    async def on_list_resources(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self,
        context: MiddlewareContext[ListResourcesRequest],
        call_next: CallNext[ListResourcesRequest, Sequence[Resource]],
    ) -> Sequence[Resource]:
        """List the latest jobs and runs, besides what there is otherwise."""
        jobs = await self._app.jobs.list()
        runs = (await self._app.runs.list(RunFilter(), LISTED)).runs
        names = {job.id: job.name for job in jobs}
        return [
            *await call_next(context),
            *(_job_listed(job) for job in jobs[: -LISTED - 1 : -1]),
            *(_run_listed(run, names) for run in runs),
        ]


def _nothing_said(run: Run) -> str:
    if run.error is not None:
        return f"[no output; the run ended as {run.state}: {run.error}]"
    return f"[no output; the run is {run.state}]"


def _job_listed(job: Job) -> Resource:
    return Resource.model_validate(
        {"uri": JOB.format(id=job.id), "name": job.name, "title": job.name, "mime_type": "application/json"}
    )


def _run_listed(run: Run, jobs: dict[str, str]) -> Resource:
    whose = "a prompt" if run.job_id is None else jobs.get(run.job_id, run.job_id)
    name = f"{whose}, {run.created_at:%Y-%m-%d %H:%M} UTC, {run.state}"
    return Resource.model_validate(
        {"uri": OUTPUT.format(id=run.id), "name": name, "title": name, "mime_type": "text/markdown"}
    )
