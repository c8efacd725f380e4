"""Tools that look at runs and end them."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from claude_runner.permissions import Profile
from claude_runner.runs import EventPage, ReportStatus, Run, RunFilter, State, StoredEvent, Trigger, head
from claude_runner.tools._texts import iso, read_instant
from claude_runner.tools._toolbox import ToolGroup, tool

RunLimit = Annotated[int, Field(ge=1, le=200, strict=True)]
EventLimit = Annotated[int, Field(ge=0, le=1000, strict=True)]
OutputLimit = Annotated[int, Field(ge=1, le=200_000, strict=True)]
Place = Annotated[int, Field(ge=0, le=2**53, strict=True)]


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
    """A run as callers see it, with a page of its output and one of its events."""

    id: str
    job_id: str | None
    webhook_id: str | None
    trigger: Trigger
    state: State
    reason: str | None
    error: str | None
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
    events: list[EventView]
    events_total: int
    next_events_after: int | None


class RunTools(ToolGroup):
    """Runs: what was done, what it cost, why it failed."""

    @tool("List runs", reads=True)
    async def list_runs(
        self,
        job_id: str | None = None,
        state: State | None = None,
        trigger: Trigger | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: RunLimit = 20,
        cursor: str | None = None,
        webhook_id: str | None = None,
    ) -> RunList:
        """List runs, newest first, with state, duration, tokens, cost and error; outputs are cut to their beginning.

        report is what the run says itself about its task; where a run scheduled another, that one's parent_run_id
        tells which. A pending run with a not_before waits for that time; kill_run cancels it. denials counts the
        calls of tools that its permissions did not let it make.

        Args:
            job_id: Only runs of this job.
            state: Only runs in this state.
            trigger: Only runs that were started this way.
            since: Only runs made at or after this instant, in ISO 8601 with an offset.
            until: Only runs made before this instant.
            limit: How many at the most, 1 to 200.
            cursor: The next_cursor of the page before, for the one after it, with the same filters.
            webhook_id: Only runs that this webhook started.
        """
        wanted = RunFilter(
            job_id, state, trigger, read_instant(since, "since"), read_instant(until, "until"), webhook_id
        )
        page = await self.app.runs.list(wanted, limit, cursor)
        return RunList([self._summary(run) for run in page.runs], page.total, page.next_cursor)

    @tool("Show a run", reads=True)
    async def get_run(
        self,
        run_id: str,
        output_offset: Place = 0,
        output_limit: OutputLimit = 20_000,
        events_after: Place = 0,
        events_limit: EventLimit = 50,
    ) -> RunView:
        """Show one run: its state, output, error, tokens, cost, and what happened in it step by step.

        While it runs, output is what Claude has said up to now. A long output or many events come in pages. profile
        is what it may do without asking, denials how many calls of tools were denied; list_tool_calls shows each.

        Args:
            run_id: The id that trigger_job and list_runs tell.
            output_offset: At which character of the output to begin; next_output_offset tells the next.
            output_limit: How many characters of it at the most, 1 to 200,000.
            events_after: Show the events that come after this number; next_events_after tells the next.
            events_limit: How many events at the most, 0 to 1,000.
        """
        run = await self.app.runs.get(run_id)
        events = await self.app.runs.events(run_id, events_after, events_limit)
        output = run.output
        if output is None and run.state is State.RUNNING:
            output = await self.app.runs.text_so_far(run_id)
        return self._view(run, output, output_offset, output_limit, events)

    @tool("Stop a run", destroys=True, repeatable=True)
    async def kill_run(self, run_id: str) -> RunView:
        """Stop a run that is going on, with every process it started, or cancel one that still waits.

        What it said and cost up to then is kept. A run that has ended already stays as it is.

        Args:
            run_id: The id that trigger_job and list_runs tell.
        """
        await self.app.dispatcher.cancel(run_id)
        return await self.get_run(run_id)

    def _duration(self, run: Run) -> float | None:
        if run.started_at is None:
            return None
        end = run.finished_at or self.app.clock.now()
        return round((end - run.started_at).total_seconds(), 3)

    def _summary(self, run: Run) -> RunSummary:
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
            duration_seconds=self._duration(run),
            total_tokens=run.total_tokens,
            cost_usd=run.cost_usd,
            model=run.model,
            rehearsal=run.rehearsal,
            profile=run.profile,
            denials=run.denials,
        )

    def _view(self, run: Run, output: str | None, offset: int, limit: int, events: EventPage) -> RunView:
        length = len(output or "")
        return RunView(
            id=run.id,
            job_id=run.job_id,
            webhook_id=run.webhook_id,
            trigger=run.trigger,
            state=run.state,
            reason=run.reason,
            error=run.error,
            output=None if output is None else output[offset : offset + limit],
            report=_report(run),
            output_length=length,
            next_output_offset=offset + limit if offset + limit < length else None,
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
            duration_seconds=self._duration(run),
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
            events=[_event(event) for event in events.events],
            events_total=events.total,
            next_events_after=events.next_after,
        )


def _report(run: Run) -> ReportView | None:
    return None if run.report is None else ReportView(run.report.status, run.report.summary)


def _event(event: StoredEvent) -> EventView:
    return EventView(event.seq, event.kind, event.at.isoformat(), dict(event.body))
