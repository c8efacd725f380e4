"""Tools that create and look after jobs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from claude_runner.errors import InvalidError
from claude_runner.grants import read_tools
from claude_runner.jobs import DEFAULT_TIMEOUT_MINUTES, Job, JobDraft
from claude_runner.permissions import Profile, read_commands
from claude_runner.runs import RunFilter, State, head
from claude_runner.schedule import local_timezone
from claude_runner.tools._confirmation import Question
from claude_runner.tools._texts import counted, iso
from claude_runner.tools._toolbox import ToolGroup, tool

NEXT_RUNS: Final = 5

Minutes = Annotated[int, Field(ge=1, le=1440, strict=True)]
Tools = list[str] | str | None
Commands = list[str] | str | None


class ChosenProfile(StrEnum):
    """A permission profile, or the owner's default."""

    CONTAINED = "contained"
    RULES = "rules"
    FULL = "full"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as callers see it."""

    id: str
    name: str
    schedule: str
    cron: str
    timezone: str
    enabled: bool
    next_run_at: str | None
    next_runs: list[str]
    prompt: str
    tools: list[str]
    profile: Profile
    profile_is_default: bool
    commands: list[str]
    timeout_minutes: int
    model: str | None
    last_executed_at: str | None
    last_error: str | None
    note: str | None
    created_at: str
    updated_at: str
    tool_warnings: list[str]


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as a list shows it: the prompt's beginning alone."""

    id: str
    name: str
    schedule: str
    cron: str
    timezone: str
    enabled: bool
    next_run_at: str | None
    prompt: str
    tools: list[str]
    profile: Profile
    last_executed_at: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class JobList:
    """All jobs."""

    jobs: list[JobSummary]
    total: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    deleted: bool
    id: str


@dataclass(frozen=True, slots=True)
class Triggered:
    """A run that was started."""

    run_id: str
    state: State
    job_id: str


class JobTools(ToolGroup):
    """Jobs and their schedules."""

    @tool("List jobs", reads=True)
    async def list_jobs(self) -> JobList:
        """List all scheduled jobs, oldest first: when each runs next and how its last run went.

        Prompts are cut to their beginning; get_job shows one whole.
        """
        jobs = await self.app.jobs.list()
        default = (await self.app.stored.rights()).default
        return JobList([_summary(job, job.profile or default) for job in jobs], len(jobs))

    @tool("Show a job", reads=True)
    async def get_job(self, job_id: str) -> JobView:
        """Show one job whole: its prompt, its schedule in words, its next five runs in its own time zone.

        Args:
            job_id: The id that create_job and list_jobs tell.
        """
        return await self.view(await self.app.jobs.get(job_id))

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
    ) -> JobView:
        """Create a job: a prompt that Claude carries out unattended, on a schedule.

        Nobody is there to answer when it runs, so the prompt must say all that is needed: what to look at, what to
        do with the result, what to do when something is missing. Files it writes stay in a folder of the job's
        own and are there at its next run. Tell the user next_runs and tool_warnings of the answer.

        Args:
            name: What the job is called.
            cron: When it runs: five fields as in cron (minute, hour, day of month, month, day of week), such as
                `0 9 * * 1-5` for weekdays at nine or `*/30 * * * *` for every half hour; or six with the second
                first; or @hourly, @daily, @weekly, @monthly, @yearly.
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
        """
        chosen, begin = chosen_profile(profile), read_commands(commands)
        grant = await self.app.reach.grant(read_tools(tools), chosen, begin)
        draft = JobDraft(
            name=name,
            cron=cron,
            prompt=prompt,
            timezone=local_timezone() if timezone is None else timezone,
            tools=grant.tools,
            timeout_minutes=timeout_minutes,
            model=model,
            enabled=enabled,
            profile=chosen,
            commands=begin,
        )
        return await self._shown(await self.app.jobs.add(draft, self.app.clock.now()), grant.warnings)

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
        """
        given: dict[str, Any] = {
            "name": name,
            "cron": cron,
            "prompt": prompt,
            "timezone": timezone,
            "timeout_minutes": timeout_minutes,
            "enabled": enabled,
        }
        changes = {field: value for field, value in given.items() if value is not None}
        if model is not None:
            changes["model"] = model or None
        if profile is not None:
            changes["profile"] = chosen_profile(profile)
        if commands is not None:
            changes["commands"] = read_commands(commands)
        if tools is not None:
            changes["tools"] = read_tools(tools)
        if not changes.keys() & {"tools", "profile", "commands"}:
            return await self.view(await self.app.jobs.change(job_id, changes, self.app.clock.now()))
        old = await self.app.jobs.get(job_id)
        wanted = [changes.get(name, getattr(old, name)) for name in ("tools", "profile", "commands")]
        grant = await self.app.reach.grant(*wanted)
        job = await self.app.jobs.change(job_id, changes | {"tools": grant.tools}, self.app.clock.now())
        return await self._shown(job, grant.warnings)

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

    async def view(self, job: Job) -> JobView:
        """Return a job as callers see it."""
        return await self._shown(job, await self._warnings(job))

    async def _warnings(self, job: Job) -> tuple[str, ...]:
        """Return what there is to say about the job's tools today; what was right once may not be now."""
        try:
            return (await self.app.reach.grant(job.tools, job.profile, job.commands)).warnings
        except InvalidError as error:
            return (str(error),)

    async def _shown(self, job: Job, warnings: tuple[str, ...]) -> JobView:
        fires = job.next_fires(self.app.clock.now(), NEXT_RUNS)
        return JobView(
            id=job.id,
            name=job.name,
            schedule=_in_words(job),
            cron=job.cron,
            timezone=job.timezone,
            enabled=job.enabled,
            next_run_at=iso(job.next_run_at),
            next_runs=[fire.isoformat(timespec="seconds") for fire in fires],
            prompt=job.prompt,
            tools=list(job.tools),
            profile=job.profile or (await self.app.stored.rights()).default,
            profile_is_default=job.profile is None,
            commands=list(job.commands),
            timeout_minutes=job.timeout_minutes,
            model=job.model,
            last_executed_at=iso(job.last_executed_at),
            last_error=job.last_error,
            note=job.note,
            created_at=job.created_at.isoformat(),
            updated_at=job.updated_at.isoformat(),
            tool_warnings=list(warnings),
        )


def chosen_profile(chosen: ChosenProfile) -> Profile | None:
    """Return the profile that was chosen, `None` for the owner's default."""
    return None if chosen is ChosenProfile.DEFAULT else Profile(chosen)


def _summary(job: Job, profile: Profile) -> JobSummary:
    return JobSummary(
        id=job.id,
        name=job.name,
        schedule=_in_words(job),
        cron=job.cron,
        timezone=job.timezone,
        enabled=job.enabled,
        next_run_at=iso(job.next_run_at),
        prompt=head(job.prompt),
        tools=list(job.tools),
        profile=profile,
        last_executed_at=iso(job.last_executed_at),
        last_error=job.last_error,
    )


def _in_words(job: Job) -> str:
    """Return the schedule in words, or what is wrong with one that was edited by hand."""
    try:
        return job.schedule.describe()
    except InvalidError as error:
        return str(error)
