"""What is told of jobs together with what came of their runs."""

from dataclasses import dataclass, fields
from typing import Any

from claude_runner.app import App
from claude_runner.jobs import JobPage, JobRow, Outcome
from claude_runner.views.jobs import JobSummary, JobView, job_summary, job_view


@dataclass(frozen=True, slots=True)
class JobWithRuns(JobView):
    """A job whole, with what came of its runs.

    `recent` is what became of its last 20 runs and slots, oldest first; `cost_usd` the sum of the `priced_runs`, whose
    price is known; `seconds` how long all of them took together; `running_run_id` a run that is going on.
    """

    runs: int
    failed_runs: int
    priced_runs: int
    cost_usd: float
    seconds: float
    recent: list[Outcome]
    running_run_id: str | None


@dataclass(frozen=True, slots=True)
class JobListed(JobSummary):
    """A job as a list shows it, with what came of its runs, told as of a job whole."""

    runs: int
    failed_runs: int
    priced_runs: int
    cost_usd: float
    seconds: float
    recent: list[Outcome]
    running_run_id: str | None
    updated_at: str


@dataclass(frozen=True, slots=True)
class PageOfJobs:
    """Some jobs; `total` is how many there are. `unreadable` were edited by hand so that they can't be read."""

    jobs: list[JobListed]
    total: int
    unreadable: list[str]


async def page_of_jobs(app: App, page: JobPage) -> PageOfJobs:
    """Return a page of jobs."""
    default = (await app.stored.rights()).default
    listed = [
        JobListed(
            **_fields_of(job_summary(row.job, row.job.profile or default, app.clock.now())),
            **_sums(row),
            updated_at=row.job.updated_at.isoformat(),
        )
        for row in page.rows
    ]
    return PageOfJobs(listed, page.total, list(page.unreadable))


async def job_with_runs(app: App, row: JobRow) -> JobWithRuns:
    """Return a job whole."""
    return JobWithRuns(**_fields_of(await job_view(app, row.job)), **_sums(row))


def _sums(row: JobRow) -> dict[str, Any]:
    return {
        "runs": row.runs,
        "failed_runs": row.failed,
        "priced_runs": row.priced,
        "cost_usd": row.cost_usd,
        "seconds": round(row.seconds, 3),
        "recent": list(row.recent),
        "running_run_id": row.running,
    }


def _fields_of(view: JobView | JobSummary) -> dict[str, Any]:
    return {field.name: getattr(view, field.name) for field in fields(view)}
