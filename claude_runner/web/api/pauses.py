"""Endpoints about what holds runs back, why a job did not run, and who spent what."""

from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.views.decisions import owners_zone
from claude_runner.views.jobs import JobView, job_view
from claude_runner.views.pauses import ExplanationView, HoldList, explanation_view, hold_list, read_until
from claude_runner.views.spending import By, Spending, spending
from claude_runner.web.api._endpoints import EndpointGroup, endpoint


class NewPause(TypedDict, total=False):
    """How long something is paused, and why."""

    until: Annotated[
        str | None,
        Field(description="When it goes on by itself, ISO 8601; null for when somebody says so."),
    ]
    reason: Annotated[str | None, Field(description="Why, for whoever asks later.")]


@dataclass(frozen=True, slots=True)
class WhichSlot:
    """Which slot is meant."""

    around: Annotated[
        str | None,
        Field(
            description="A time near it, on the job's clock where it has no offset; else the last that did not run."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class WhoseUse:
    """Whose use, and of which time."""

    by: Annotated[By, Field(description="What each row is of.")] = By.JOB
    since: Annotated[
        str | None, Field(description="From when on; the last 30 days where it is left out.")
    ] = None
    until: Annotated[str | None, Field(description="Until when; now where it is left out.")] = None


class PauseEndpoints(EndpointGroup):
    """Pauses and other holds, why a job did not run, and who spent what."""

    subject = "Pauses"

    @endpoint("GET /api/holds")
    async def list_holds(self) -> HoldList:
        """List what holds runs back but those that are started by hand."""
        return await hold_list(self.app)

    @endpoint("POST /api/pause")
    async def pause_all(self, body: NewPause) -> HoldList:
        """Pause all jobs and webhooks; runs that go on go on."""
        await self.app.pausing.pause_all(
            read_until(body.get("until"), await owners_zone(self.app)), body.get("reason")
        )
        return await hold_list(self.app)

    @endpoint("POST /api/resume")
    async def resume_all(self) -> HoldList:
        """Let everything go on that was paused together."""
        await self.app.pausing.resume_all()
        return await hold_list(self.app)

    @endpoint("POST /api/jobs/{job_id}/pause")
    async def pause_job(self, job_id: str, body: NewPause) -> JobView:
        """Skip a job's slots, for a time or until it is resumed; it can still be triggered."""
        zone = ZoneInfo((await self.app.jobs.get(job_id)).timezone)
        job = await self.app.pause_job(job_id, read_until(body.get("until"), zone), body.get("reason"))
        return await job_view(self.app, job)

    @endpoint("POST /api/jobs/{job_id}/resume")
    async def resume_job(self, job_id: str) -> JobView:
        """End a job's pause, whoever or whatever paused it; a job that is disabled stays so."""
        return await job_view(self.app, await self.app.resume_job(job_id))

    @endpoint("GET /api/jobs/{job_id}/why")
    async def explain_job(self, job_id: str, query: WhichSlot) -> ExplanationView:
        """Tell in words why a job did not run, or that it did."""
        return await explanation_view(self.app, job_id, query.around)

    @endpoint("GET /api/spending")
    async def show_spending(self, query: WhoseUse) -> Spending:
        """Tell what the runs of each job, webhook, model or day came to."""
        return await spending(self.app, query.since, query.until, query.by, ("since", "until"))
