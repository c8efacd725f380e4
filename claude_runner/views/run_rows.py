"""What is told of runs that were looked for: their beginnings, and the names of what they belong to."""

from dataclasses import dataclass
from datetime import datetime

from claude_runner.runs import ReportStatus, RunHits, RunRow, State, Trigger
from claude_runner.views.instants import iso


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the text in which a search found something; `hit` where it is what was looked for."""

    text: str
    hit: bool


@dataclass(frozen=True, slots=True)
class RunFound:
    """A run as a search shows it: the beginnings of its texts."""

    id: str
    job_id: str | None
    job_name: str | None
    webhook_id: str | None
    webhook_name: str | None
    trigger: Trigger
    state: State
    reason: str | None
    error: str | None
    prompt: str
    output: str | None
    snippet: list[Piece] | None
    report_status: ReportStatus | None
    report_summary: str | None
    depth: int
    not_before: str | None
    scheduled_for: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_seconds: float | None
    total_tokens: int
    cost_usd: float | None
    model: str | None
    rehearsal: bool
    denials: int


@dataclass(frozen=True, slots=True)
class RunsFound:
    """Some of the runs looked for, newest first.

    A page looks at so many runs and no more: it may hold fewer than were asked for, even none, and have a
    `next_cursor` to go on with; then `looked_until` is how far back it looked.
    """

    runs: list[RunFound]
    next_cursor: str | None
    looked_until: str | None


def runs_found(hits: RunHits, now: datetime) -> RunsFound:
    """Return a page of a search."""
    return RunsFound([run_found(run, now) for run in hits.runs], hits.next_cursor, iso(hits.looked_until))


def run_found(run: RunRow, now: datetime) -> RunFound:
    """Return a run as a search shows it."""
    seconds = run.seconds(now)
    return RunFound(
        id=run.id,
        job_id=run.job_id,
        job_name=run.job_name,
        webhook_id=run.webhook_id,
        webhook_name=run.webhook_name,
        trigger=run.trigger,
        state=run.state,
        reason=run.reason,
        error=run.error,
        prompt=run.prompt,
        output=run.output,
        snippet=None if run.snippet is None else [Piece(text, hit) for text, hit in run.snippet],
        report_status=None if run.report is None else run.report.status,
        report_summary=None if run.report is None else run.report.summary,
        depth=run.depth,
        not_before=iso(run.not_before),
        scheduled_for=iso(run.scheduled_for),
        created_at=run.created_at.isoformat(),
        started_at=iso(run.started_at),
        finished_at=iso(run.finished_at),
        duration_seconds=None if seconds is None else round(seconds, 3),
        total_tokens=run.total_tokens,
        cost_usd=run.cost_usd,
        model=run.model,
        rehearsal=run.rehearsal,
        denials=run.denials,
    )
