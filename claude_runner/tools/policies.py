"""Tools that pause and resume, that say why something did not run, and that set the owner's rules and budgets."""

from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from claude_runner.tools._policy import AnObject
from claude_runner.tools._toolbox import ToolGroup, given, tool
from claude_runner.views.decisions import owners_zone
from claude_runner.views.jobs import PausedJob, paused_job
from claude_runner.views.owners_policies import OwnersPolicies, owners_policies, set_owners_policies
from claude_runner.views.pauses import ExplanationView, HoldList, explanation_view, hold_list, read_until
from claude_runner.views.spending import By, Spending, spending

_FROM = (
    "Runs that ended from then on, ISO 8601 on the owner's clock; 30 days before `to` where it is left out."
)


class PolicyTools(ToolGroup):
    """Pauses, the owner's rules and budgets, and why something did not run."""

    @tool("Pause a job", repeatable=True)
    async def pause_job(self, job_id: str, until: str | None = None, reason: str | None = None) -> PausedJob:
        """Pause a job until resume_job or an instant: slots are skipped, what waits does not begin, what runs goes on.

        Args:
            job_id: The id that create_job and list_jobs tell.
            until: When it goes on by itself: ISO 8601, on the job's clock where it has no offset.
            reason: Why, for whoever asks later.
        """
        job = await self.app.jobs.get(job_id)
        end = read_until(until, ZoneInfo(job.timezone))
        return paused_job(await self.app.pause_job(job_id, end, reason), self.app.clock.now())

    @tool("Resume a job", repeatable=True)
    async def resume_job(self, job_id: str) -> PausedJob:
        """End a job's pause, whoever or whatever paused it; its failures in a row count from 0 again.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        return paused_job(await self.app.resume_job(job_id), self.app.clock.now())

    @tool("Pause everything", repeatable=True)
    async def pause_all(self, until: str | None = None, reason: str | None = None) -> HoldList:
        """Pause all jobs and webhooks: nothing starts but what somebody starts by hand; runs that go on go on.

        Args:
            until: When all goes on by itself: ISO 8601, on the owner's clock where it has no offset.
            reason: Why, for whoever asks later.
        """
        await self.app.pausing.pause_all(read_until(until, await owners_zone(self.app)), reason)
        return await hold_list(self.app)

    @tool("Resume everything", repeatable=True)
    async def resume_all(self) -> HoldList:
        """End pause_all; what was skipped meanwhile is not caught up. Answers what still holds runs back."""
        await self.app.pausing.resume_all()
        return await hold_list(self.app)

    @tool("Tell why a job did not run", reads=True)
    async def why_didnt_it_run(self, job_id: str, around: str | None = None) -> ExplanationView:
        """Tell in words why a job did not run, or that it did, with what became of its slots near that time.

        Args:
            job_id: The id that create_job and list_jobs tell.
            around: Which time is meant: ISO 8601, on the job's clock where it has no offset; left out: the last slot
                that did not run.
        """
        return await explanation_view(self.app, job_id, around)

    @tool("Show usage", reads=True)
    async def get_usage(
        self,
        from_: Annotated[str | None, Field(alias="from", description=_FROM)] = None,
        to: str | None = None,
        by: By = By.JOB,
    ) -> Spending:
        """Tell what runs came to: how many, how many failed, tokens and cost, by job, model, webhook or day.

        Args:
            from_: Since when, as its own description says.
            to: Until then; now where it is left out.
            by: What is told apart; the dearest come first, days in their order.
        """
        return await spending(self.app, from_, to, by)

    @tool("Show policies and budgets", reads=True)
    async def get_policies(self) -> OwnersPolicies:
        """Show the rules of jobs that decide nothing themselves, the budgets, and what models cost."""
        return await owners_policies(self.app)

    @tool("Set policies and budgets", destroys=True, repeatable=True)
    async def set_policies(
        self, defaults: AnObject = None, budgets: AnObject = None, prices: AnObject = None
    ) -> OwnersPolicies:
        """Change the owner's rules, budgets and prices: what is named changes, null takes it away, the rest stays.

        Args:
            defaults: Rules of jobs that decide nothing themselves, as policy of create_job; not starts_at, ends_at,
                blackouts and heartbeat_url, which are a job's own.
            budgets: In US dollars, null for no bound: day_usd and month_usd for everything; run_usd, job_day_usd and
                webhook_day_usd for each run, job and webhook.
            prices: Of models whose price is not known: {"model": {"input": 3, "output": 15}}, US dollars per million
                tokens.
        """
        wished = given(defaults=defaults, budgets=budgets, prices=prices)
        return await set_owners_policies(self.app, wished)
