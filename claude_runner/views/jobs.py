"""What is told of jobs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.jobs import Job
from claude_runner.permissions import Profile
from claude_runner.runs import State, head
from claude_runner.views.instants import iso
from claude_runner.views.pauses import PauseView, pause_view
from claude_runner.views.policies import decided_view, owners_policy, policy_view

NEXT_RUNS: Final = 5


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as callers see it.

    Of its `policy`, `own` are the rules that it decided itself; the others are the owner's. `failures_in_a_row` are
    those of its own doing; `paused` is null where it is not.
    """

    id: str
    name: str
    schedule: str
    cron: str
    timezone: str
    enabled: bool
    paused: PauseView | None
    next_run_at: str | None
    next_runs: list[str]
    prompt: str
    tools: list[str]
    profile: Profile
    profile_is_default: bool
    commands: list[str]
    timeout_minutes: int
    model: str | None
    policy: dict[str, Any]
    failures_in_a_row: int
    last_executed_at: str | None
    last_error: str | None
    note: str | None
    created_at: str
    updated_at: str
    tool_warnings: list[str]


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as a list shows it: the prompt's beginning alone, and of the policy what the job decided itself."""

    id: str
    name: str
    schedule: str
    cron: str
    timezone: str
    enabled: bool
    paused: PauseView | None
    next_run_at: str | None
    prompt: str
    tools: list[str]
    profile: Profile
    policy: dict[str, Any]
    failures_in_a_row: int
    last_executed_at: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class JobList:
    """All jobs."""

    jobs: list[JobSummary]
    total: int


@dataclass(frozen=True, slots=True)
class Triggered:
    """A run that was started."""

    run_id: str
    state: State
    job_id: str


@dataclass(frozen=True, slots=True)
class PausedJob:
    """A job that was paused or resumed; `paused` is null where it is not."""

    job_id: str
    name: str
    enabled: bool
    paused: PauseView | None
    next_run_at: str | None


def paused_job(job: Job, now: datetime) -> PausedJob:
    """Return how a job is after a pause of it began or ended."""
    return PausedJob(job.id, job.name, job.enabled, pause_view(job.pause, now), iso(job.next_run_at))


async def job_list(app: App) -> JobList:
    """Return all jobs, oldest first."""
    jobs = await app.jobs.list()
    default = (await app.stored.rights()).default
    now = app.clock.now()
    return JobList([job_summary(job, job.profile or default, now) for job in jobs], len(jobs))


async def job_view(app: App, job: Job, warnings: tuple[str, ...] | None = None) -> JobView:
    """Return a job as callers see it.

    Args:
        app: Whose job it is.
        job: The job.
        warnings: What there is to say about its tools; looked up where it is `None`, since what was right once may
            not be today.
    """
    now = app.clock.now()
    fires = job.next_fires(now, NEXT_RUNS)
    return JobView(
        id=job.id,
        name=job.name,
        schedule=in_words(job),
        cron=job.cron,
        timezone=job.timezone,
        enabled=job.enabled,
        paused=pause_view(job.pause, now),
        next_run_at=iso(job.next_run_at),
        next_runs=[fire.isoformat(timespec="seconds") for fire in fires],
        prompt=job.prompt,
        tools=list(job.tools),
        profile=job.profile or (await app.stored.rights()).default,
        profile_is_default=job.profile is None,
        commands=list(job.commands),
        timeout_minutes=job.timeout_minutes,
        model=job.model,
        policy=policy_view(job.policy, await owners_policy(app)),
        failures_in_a_row=job.failures,
        last_executed_at=iso(job.last_executed_at),
        last_error=job.last_error,
        note=job.note,
        created_at=job.created_at.isoformat(),
        updated_at=job.updated_at.isoformat(),
        tool_warnings=list(await _warnings(app, job) if warnings is None else warnings),
    )


def job_summary(job: Job, profile: Profile, now: datetime) -> JobSummary:
    """Return a job as a list shows it; `profile` is the one that its runs have."""
    return JobSummary(
        id=job.id,
        name=job.name,
        schedule=in_words(job),
        cron=job.cron,
        timezone=job.timezone,
        enabled=job.enabled,
        paused=pause_view(job.pause, now),
        next_run_at=iso(job.next_run_at),
        prompt=head(job.prompt),
        tools=list(job.tools),
        profile=profile,
        policy=decided_view(job.policy),
        failures_in_a_row=job.failures,
        last_executed_at=iso(job.last_executed_at),
        last_error=job.last_error,
    )


def in_words(job: Job) -> str:
    """Return the schedule in words, or what is wrong with one that was edited by hand."""
    try:
        return job.schedule.describe()
    except InvalidError as error:
        return str(error)


async def _warnings(app: App, job: Job) -> tuple[str, ...]:
    try:
        return (await app.reach.grant(job.tools, job.profile, job.commands, start=False)).warnings
    except InvalidError as error:
        return (str(error),)
