"""What is told of runs."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from claude_runner.app import App
from claude_runner.permissions import Profile
from claude_runner.runs import ReportStatus, Run, RunPage, State, StoredEvent, Trigger, head
from claude_runner.views.instants import iso


@dataclass(frozen=True, slots=True)
class ReportView:
    """What a run says itself about its task."""

    status: ReportStatus
    summary: str


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as a list shows it: the beginning of its output alone."""

    id: str
    job_id: str | None
    webhook_id: str | None
    trigger: Trigger
    state: State
    reason: str | None
    error: str | None
    output: str | None
    report: ReportView | None
    parent_run_id: str | None
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
    profile: Profile | None
    denials: int


@dataclass(frozen=True, slots=True)
class RunList:
    """Some runs, newest first."""

    runs: list[RunSummary]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened in a run."""

    seq: int
    kind: str
    at: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as callers see it, with a page of its output and one of its events.

    `waits_for` is said while it is pending; `retries` counts the attempts after failures, `attempt` all of them.
    """

    id: str
    job_id: str | None
    webhook_id: str | None
    trigger: Trigger
    state: State
    reason: str | None
    error: str | None
    waits_for: str | None
    output: str | None
    report: ReportView | None
    output_length: int
    next_output_offset: int | None
    prompt: str
    tools: list[str]
    tool_warnings: list[str]
    parent_run_id: str | None
    depth: int
    not_before: str | None
    scheduled_for: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    duration_seconds: float | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    total_tokens: int
    cost_usd: float | None
    model: str | None
    session_id: str | None
    rehearsal: bool
    profile: Profile | None
    commands: list[str]
    denials: int
    attempt: int
    retries: int
    max_cost_usd: float | None
    events: list[EventView]
    events_total: int
    next_events_after: int | None


def run_list(app: App, page: RunPage) -> RunList:
    """Return a page of runs as a list shows them."""
    return RunList([_summary(app, run) for run in page.runs], page.total, page.next_cursor)


async def run_view(
    app: App,
    run_id: str,
    *,
    output_offset: int = 0,
    output_limit: int = 20_000,
    events_after: int = 0,
    events_limit: int = 50,
) -> RunView:
    """Return a run as callers see it; while it runs, its output is what has been said up to now.

    Args:
        app: Whose run it is.
        run_id: Its id.
        output_offset: At which character of the output to begin.
        output_limit: How many characters of it at the most.
        events_after: Show the events that come after this number.
        events_limit: How many events at the most.

    Raises:
        NotFoundError: There is none with this id.
    """
    run = await app.runs.get(run_id)
    events = await app.runs.events(run_id, events_after, events_limit)
    output = run.output
    if output is None and run.state is State.RUNNING:
        output = await app.runs.text_so_far(run_id)
    length = len(output or "")
    return RunView(
        id=run.id,
        job_id=run.job_id,
        webhook_id=run.webhook_id,
        trigger=run.trigger,
        state=run.state,
        reason=run.reason,
        error=run.error,
        waits_for=(await app.waits_for(run)).get(run.id),
        output=None if output is None else output[output_offset : output_offset + output_limit],
        report=_report(run),
        output_length=length,
        next_output_offset=output_offset + output_limit if output_offset + output_limit < length else None,
        prompt=run.prompt,
        tools=list(run.tools),
        tool_warnings=list(run.warnings),
        parent_run_id=run.parent_run_id,
        depth=run.depth,
        not_before=iso(run.not_before),
        scheduled_for=iso(run.scheduled_for),
        created_at=run.created_at.isoformat(),
        started_at=iso(run.started_at),
        finished_at=iso(run.finished_at),
        duration_seconds=_duration(run, app.clock.now()),
        input_tokens=run.tokens.input,
        output_tokens=run.tokens.output,
        cache_read_tokens=run.tokens.cache_read,
        cache_write_tokens=run.tokens.cache_write,
        total_tokens=run.total_tokens,
        cost_usd=run.cost_usd,
        model=run.model,
        session_id=run.session_id,
        rehearsal=run.rehearsal,
        profile=run.profile,
        commands=list(run.commands),
        denials=run.denials,
        attempt=run.attempt,
        retries=run.retries,
        max_cost_usd=run.max_cost_usd,
        events=[event_view(event) for event in events.events],
        events_total=events.total,
        next_events_after=events.next_after,
    )


def event_view(event: StoredEvent) -> EventView:
    """Return an event as callers see it."""
    return EventView(event.seq, event.kind, event.at.isoformat(), dict(event.body))


def _summary(app: App, run: Run) -> RunSummary:
    return RunSummary(
        id=run.id,
        job_id=run.job_id,
        webhook_id=run.webhook_id,
        trigger=run.trigger,
        state=run.state,
        reason=run.reason,
        error=run.error,
        output=None if run.output is None else head(run.output),
        report=_report(run),
        parent_run_id=run.parent_run_id,
        depth=run.depth,
        not_before=iso(run.not_before),
        scheduled_for=iso(run.scheduled_for),
        created_at=run.created_at.isoformat(),
        started_at=iso(run.started_at),
        finished_at=iso(run.finished_at),
        duration_seconds=_duration(run, app.clock.now()),
        total_tokens=run.total_tokens,
        cost_usd=run.cost_usd,
        model=run.model,
        rehearsal=run.rehearsal,
        profile=run.profile,
        denials=run.denials,
    )


def _report(run: Run) -> ReportView | None:
    return None if run.report is None else ReportView(run.report.status, run.report.summary)


def _duration(run: Run, now: datetime) -> float | None:
    if run.started_at is None:
        return None
    return round(((run.finished_at or now) - run.started_at).total_seconds(), 3)
