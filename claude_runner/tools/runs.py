"""Tools that look at runs and end them."""

from typing import Annotated

from pydantic import Field

from claude_runner.runs import RunFilter, State, Trigger
from claude_runner.tools._toolbox import ToolGroup, tool
from claude_runner.views.instants import read_instant
from claude_runner.views.runs import RunList, RunView, run_list, run_view

RunLimit = Annotated[int, Field(ge=1, le=200, strict=True)]
EventLimit = Annotated[int, Field(ge=0, le=1000, strict=True)]
OutputLimit = Annotated[int, Field(ge=1, le=200_000, strict=True)]
Place = Annotated[int, Field(ge=0, le=2**53, strict=True)]


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
        return run_list(self.app, page)

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
        return await run_view(
            self.app,
            run_id,
            output_offset=output_offset,
            output_limit=output_limit,
            events_after=events_after,
            events_limit=events_limit,
        )

    @tool("Stop a run", destroys=True, repeatable=True)
    async def kill_run(self, run_id: str) -> RunView:
        """Stop a run that is going on, with every process it started, or cancel one that still waits.

        What it said and cost up to then is kept. A run that has ended already stays as it is.

        Args:
            run_id: The id that trigger_job and list_runs tell.
        """
        await self.app.dispatcher.cancel(run_id)
        return await run_view(self.app, run_id)
