"""Endpoints about jobs: what they are, how they have run, and what is done with them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError
from claude_runner.jobs import Job, JobDraft, JobQuery, JobSort, JobState
from claude_runner.rehearsing import Rehearsal
from claude_runner.views.decisions import decided, owners_zone
from claude_runner.views.instants import iso
from claude_runner.views.job_rows import JobWithRuns, PageOfJobs, job_with_runs, page_of_jobs
from claude_runner.views.jobs import JobView, Triggered, job_view
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._seen import Seen, tag_of
from claude_runner.web.api._types import Commands, Enabled, Limit, Minutes, Model, Policy, Profile, Tools

Name = Annotated[str, Field(description="What it is called.")]
Cron = Annotated[
    str,
    Field(
        description="When it runs: five fields as in cron, six with the second first, or such as `@daily`, "
        "`every 90 minutes` or `at 2026-12-01 09:00`."
    ),
]
Prompt = Annotated[str, Field(description="What Claude is to do.")]


class _Optional(TypedDict, total=False):
    timezone: Annotated[str, Field(description="IANA name of the zone of the cron; else the owner's.")]
    tools: Tools
    profile: Profile
    commands: Commands
    model: Model
    timeout_minutes: Minutes
    enabled: Enabled
    policy: Policy


class NewJob(_Optional):
    """A job that is to be made."""

    name: Name
    cron: Cron
    prompt: Prompt


class JobChanges(_Optional, total=False):
    """What is to be changed of a job; what is left out stays as it is."""

    name: Name
    cron: Cron
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class JobSearch:
    """Which jobs, in which order."""

    text: Annotated[str, Field(max_length=500, description="Words that all occur in name, prompt or id.")] = (
        ""
    )
    state: Annotated[JobState | None, Field(description="In this state.")] = None
    sort: Annotated[JobSort, Field(description="Ordered by this; `cost` is that of a run.")] = JobSort.NAME
    descending: Annotated[bool, Field(description="The other way round.")] = False
    limit: Limit = 50
    offset: Annotated[int, Field(ge=0, le=2**31, description="How many to pass over.")] = 0


@dataclass(frozen=True, slots=True)
class Discarded:
    """A job that was deleted; `POST /api/jobs/{job_id}/restore` has it back until then."""

    deleted: bool
    id: str
    name: str
    restorable_until: str | None


@dataclass(frozen=True, slots=True)
class DiscardedList:
    """The jobs that were deleted and can be had back, latest first."""

    jobs: list[Discarded]
    total: int


def _version(job: Any) -> str:
    version: str = job.updated_at
    return version


class JobEndpoints(EndpointGroup):
    """Jobs and their schedules."""

    subject = "Jobs"

    @endpoint("GET /api/jobs")
    async def list_jobs(self, query: JobSearch) -> PageOfJobs:
        """List jobs: when each runs next, how its last runs went, and what they cost."""
        wanted = JobQuery(query.text, query.state, query.sort, query.descending)
        return await page_of_jobs(self.app, await self.app.jobs.overview(wanted, query.limit, query.offset))

    @endpoint("POST /api/jobs", status=201, tag=_version, location="/api/jobs/{id}")
    async def create_job(self, body: NewJob) -> JobView:
        """Make a job: a prompt that Claude carries out unattended, on a schedule."""
        zone = (await owners_zone(self.app)).key
        new = await decided(self.app, {"timezone": zone, **body})
        job = await self.app.jobs.add(JobDraft(**new.values), self.app.clock.now())
        return await self._shown(job, new.warnings)

    @endpoint("GET /api/discarded-jobs")
    async def list_discarded_jobs(self) -> DiscardedList:
        """List the jobs that were deleted and can still be had back."""
        gone = [_discarded(job, until) for job, until in await self.app.jobs.discarded()]
        return DiscardedList(gone, len(gone))

    @endpoint("GET /api/jobs/{job_id}", tag=_version)
    async def get_job(self, job_id: str) -> JobWithRuns:
        """Show a job whole, with what came of it up to now."""
        return await job_with_runs(self.app, await self.app.jobs.row(job_id))

    @endpoint("PATCH /api/jobs/{job_id}", ConflictError, tag=_version)
    async def change_job(self, job_id: str, body: JobChanges, seen: Seen) -> JobView:
        """Change some of a job; what is left out stays as it is. A run that is going on is not touched."""
        return await self._changed(job_id, body, seen)

    @endpoint("DELETE /api/jobs/{job_id}", ConflictError)
    async def delete_job(self, job_id: str, seen: Seen) -> Discarded:
        """Delete a job with its runs, after ending those that are going on; for an hour it can be had back."""
        job = await self.app.jobs.get(job_id)
        seen.check(_tag(job), f"the job '{job.name}'")
        await self.app.discard_job(job_id)
        untils = {gone.id: until for gone, until in await self.app.jobs.discarded()}
        return _discarded(job, untils.get(job_id))

    @endpoint("POST /api/jobs/{job_id}/restore", ConflictError, tag=_version)
    async def restore_job(self, job_id: str) -> JobView:
        """Have a job back that was deleted, as it was."""
        return await self._shown(await self.app.restore_job(job_id))

    @endpoint("POST /api/jobs/{job_id}/trigger", status=202, location="/api/runs/{run_id}")
    async def trigger_job(self, job_id: str) -> Triggered:
        """Run a job now, besides its schedule."""
        run = await self.app.trigger(job_id)
        return Triggered(run.id, run.state, job_id)

    @endpoint("POST /api/jobs/{job_id}/rehearse", ConflictError)
    async def rehearse_job(self, job_id: str) -> Rehearsal:
        """Try a job without spending a token: would it run, with which tools, how large is its first request."""
        return await self.app.rehearsals.of_job(job_id)

    @endpoint("POST /api/jobs/{job_id}/duplicate", status=201, tag=_version, location="/api/jobs/{id}")
    async def duplicate_job(self, job_id: str) -> JobView:
        """Make a copy of a job, disabled, so that nothing runs twice before it was changed."""
        return await self._shown(await self.app.jobs.duplicate(job_id, self.app.clock.now()))

    async def _changed(self, job_id: str, given: Any, seen: Seen) -> JobView:
        old = await self.app.jobs.get(job_id)
        minds = seen.holds(_tag(old), f"the job '{old.name}'")
        changes = await decided(self.app, given, old)
        job = await self.app.jobs.change(
            job_id, changes.values, self.app.clock.now(), was=old.updated_at if minds else None
        )
        return await self._shown(job, changes.warnings)

    async def _shown(self, job: Job, warnings: tuple[str, ...] | None = None) -> JobView:
        return await job_view(self.app, job, warnings)


def _tag(job: Job) -> str:
    return tag_of(job.updated_at.isoformat())


def _discarded(job: Job, until: datetime | None) -> Discarded:
    return Discarded(deleted=True, id=job.id, name=job.name, restorable_until=iso(until))
