"""Tools that create and look after jobs."""

from typing import Annotated

from pydantic import Field

from claude_runner.jobs import DEFAULT_TIMEOUT_MINUTES, JobDraft
from claude_runner.runs import RunFilter
from claude_runner.tools._confirmation import Question
from claude_runner.tools._policy import AnObject, NewPolicy
from claude_runner.tools._texts import counted
from claude_runner.tools._toolbox import ToolGroup, given, tool
from claude_runner.views.decisions import ChosenProfile, decided, owners_zone
from claude_runner.views.deletions import Deleted
from claude_runner.views.jobs import JobList, JobView, Triggered, job_list, job_view

Minutes = Annotated[int, Field(ge=1, le=1440, strict=True)]
Tools = list[str] | str | None
Commands = list[str] | str | None


class JobTools(ToolGroup):
    """Jobs and their schedules."""

    @tool("List jobs", reads=True)
    async def list_jobs(self) -> JobList:
        """List all scheduled jobs, oldest first: when each runs next and how its last run went.

        Prompts are cut to their beginning; get_job shows one whole.
        """
        return await job_list(self.app)

    @tool("Show a job", reads=True)
    async def get_job(self, job_id: str) -> JobView:
        """Show one job whole: its prompt, its schedule in words, its next five runs in its own time zone.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        return await job_view(self.app, await self.app.jobs.get(job_id))

    @tool("Create a job")
    async def create_job(
        self,
        name: str,
        cron: str,
        prompt: str,
        tools: Tools = None,
        timezone: str | None = None,
        timeout_minutes: Minutes = DEFAULT_TIMEOUT_MINUTES,
        model: str | None = None,
        enabled: bool = True,  # noqa: FBT001, FBT002 - a tool's parameters are passed by name
        profile: ChosenProfile = ChosenProfile.DEFAULT,
        commands: Commands = None,
        policy: NewPolicy = None,
    ) -> JobView:
        """Create a job: a prompt that Claude carries out unattended, on a schedule.

        Nobody is there to answer when it runs, so the prompt must say all that is needed: what to look at, what to
        do with the result, what to do when something is missing. Files it writes stay in a folder of the job's
        own and are there at its next run. Tell the user next_runs and tool_warnings of the answer.

        Args:
            name: What the job is called.
            cron: When it runs: five fields as in cron (minute, hour, day of month, month, day of week), such as
                `0 9 * * 1-5` for weekdays at nine or `*/30 * * * *` for every half hour; or six with the second
                first; or @hourly, @daily, @weekly, @monthly, @yearly; or `every 90 minutes`; or once, such as
                `at 2026-12-01 09:00`.
            prompt: What Claude is to do, at most a million characters.
            tools: What it may use: names such as `Read`, `WebSearch`, `mcp__email__send_email` or `mcp__email__*`. Left
                out or empty: the owner's allowed tools and those of every enabled MCP server. A list grants just what
                it names.
            timezone: IANA name of the zone the cron is read in, such as `Europe/Berlin`; the server's own where it is
                left out.
            timeout_minutes: After how many minutes a run is ended, 1 to 1440.
            model: A model's name or alias, such as `sonnet`; Claude Code's default where it is left out.
            enabled: Whether it is scheduled; a disabled job can still be triggered.
            profile: What it may do without asking, as nobody is there to be asked; whatever else it tries is denied.
                `contained` works in its own folder, with shell commands in a sandbox that has no network; `rules`
                works in its own folder and runs just the shell commands that commands names, outside of a sandbox;
                `full` may do whatever the server's user may, and only where the owner has set sandbox_mode to false;
                `default` is the owner's choice, `contained` as a rule.
            commands: For `rules`: how the shell commands begin that it may run, such as `git status` or `npm test`.
                What an interpreter such as `python3` is given can't be limited: name it only where all is trusted.
            policy: Only what the user wants other than usual; get_policies shows the defaults for the rest.
        """
        new = await decided(
            self.app,
            {
                "name": name,
                "cron": cron,
                "prompt": prompt,
                "timezone": (await owners_zone(self.app)).key if timezone is None else timezone,
                "tools": tools,
                "timeout_minutes": timeout_minutes,
                "model": model,
                "enabled": enabled,
                "profile": profile,
                "commands": commands,
                "policy": policy,
            },
        )
        job = await self.app.jobs.add(JobDraft(**new.values), self.app.clock.now())
        return await job_view(self.app, job, new.warnings)

    @tool("Change a job", destroys=True, repeatable=True)
    async def update_job(
        self,
        job_id: str,
        name: str | None = None,
        cron: str | None = None,
        prompt: str | None = None,
        tools: Tools = None,
        timezone: str | None = None,
        timeout_minutes: Minutes | None = None,
        model: str | None = None,
        enabled: bool | None = None,  # noqa: FBT001 - a tool's parameters are passed by name
        profile: ChosenProfile | None = None,
        commands: Commands = None,
        policy: AnObject = None,
    ) -> JobView:
        """Change some of a job; what is left out stays as it is. A run that is going on is not touched.

        Args:
            job_id: The id that create_job and list_jobs tell.
            name: What the job is called.
            cron: When it runs, as in create_job.
            prompt: What Claude is to do.
            tools: What it may use, as in create_job; an empty list goes back to the owner's allowed tools.
            timezone: IANA name of the zone the cron is read in.
            timeout_minutes: After how many minutes a run is ended, 1 to 1440.
            model: A model's name or alias; an empty text goes back to Claude Code's default.
            enabled: Whether it is scheduled.
            profile: What it may do without asking, as in create_job; `default` goes back to the owner's choice.
            commands: How the shell commands begin that `rules` lets it run, as in create_job; an empty list is none.
            policy: The rules that are to change, as in create_job; null sets one back to the owner's default.
        """
        wanted = given(
            name=name,
            cron=cron,
            prompt=prompt,
            tools=tools,
            timezone=timezone,
            timeout_minutes=timeout_minutes,
            model=model,
            enabled=enabled,
            profile=profile,
            commands=commands,
            policy=policy,
        )
        changes = await decided(self.app, wanted, await self.app.jobs.get(job_id))
        job = await self.app.jobs.change(job_id, changes.values, self.app.clock.now())
        return await job_view(self.app, job, changes.warnings)

    async def _deletion(self, job_id: str) -> Question:
        job = await self.app.jobs.get(job_id)
        runs = (await self.app.runs.list(RunFilter(job_id=job.id), 1)).total
        gone = f" with its {counted(runs, 'run')} and their outputs" if runs else ", which has never run"
        return Question(f'Delete the job "{job.name}"{gone}?', f"{job.id} {job.updated_at.isoformat()}")

    @tool("Delete a job", destroys=True, asks=_deletion)
    async def delete_job(self, job_id: str) -> Deleted:
        """Delete a job with all its runs and their outputs; runs that are going on are ended first.

        Files in the job's folder stay. To only stop it from running, use update_job with enabled=false.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        await self.app.remove_job(job_id)
        return Deleted(deleted=True, id=job_id)

    @tool("Run a job now", acts_outside=True)
    async def trigger_job(self, job_id: str) -> Triggered:
        """Run a job right now, besides its schedule, and answer at once; get_run tells how the run goes.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        run = await self.app.trigger(job_id)
        return Triggered(run.id, run.state, job_id)
