"""Endpoints about runs: searching, reading, starting and ending them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError, InvalidError
from claude_runner.grants import read_tools
from claude_runner.permissions import read_commands
from claude_runner.rehearsing import Rehearsal
from claude_runner.runs import NewRun, Trigger
from claude_runner.views.decisions import chosen_profile
from claude_runner.views.exports import CSV, runs_as_csv, runs_as_json
from claude_runner.views.run_rows import RunFound, RunsFound, run_found, runs_found
from claude_runner.views.runs import EventView, RunView, event_view, run_view
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._searching import RunSearch
from claude_runner.web.api._types import Commands, Cursor, Flag, Limit, Minutes, Model, Profile, Tools

Place = Annotated[int, Field(ge=0, le=2**53)]


class _Optional(TypedDict, total=False):
    tools: Tools
    profile: Profile
    commands: Commands
    model: Model


class Prompt(_Optional):
    """A prompt that is to be rehearsed."""

    prompt: Annotated[str, Field(description="What Claude is to do.")]


class _Limits(TypedDict, total=False):
    timeout_minutes: Minutes
    rehearsal: Annotated[
        Flag, Field(description="Whether the embedded stand-in model answers, which costs nothing.")
    ]


class QuickRun(Prompt, _Limits):
    """A prompt that is to be run at once."""


@dataclass(frozen=True, slots=True)
class PageOfRuns(RunSearch):
    """Which runs, and which page of them."""

    limit: Limit = 50
    cursor: Cursor = None


@dataclass(frozen=True, slots=True)
class Pieces:
    """How much of a run is shown."""

    output_offset: Annotated[Place, Field(description="At which character of the output to begin.")] = 0
    output_limit: Annotated[
        int, Field(ge=1, le=2_000_000, description="How many characters of it at the most.")
    ] = 200_000
    events_after: Annotated[Place, Field(description="The events that come after this number.")] = 0
    events_limit: Annotated[int, Field(ge=0, le=1000, description="How many events at the most.")] = 0


@dataclass(frozen=True, slots=True)
class WhichEvents:
    """Which events of a run: the first, those after or before a number, or the last."""

    after: Annotated[Place | None, Field(description="Those that come after this number.")] = None
    before: Annotated[Place | None, Field(description="The last of those that come before this number.")] = (
        None
    )
    last: Annotated[bool, Field(description="The last of all.")] = False
    limit: Annotated[int, Field(ge=1, le=1000, description="How many at the most.")] = 200


@dataclass(frozen=True, slots=True)
class Events:
    """Some of a run's events, in order; `next_after` asks for those after them, `next_before` for those before them."""

    events: list[EventView]
    next_after: int | None
    next_before: int | None


@dataclass(frozen=True, slots=True)
class GoingOn:
    """The runs that are going on, then those that wait, each oldest first."""

    runs: list[RunFound]


class RunEndpoints(EndpointGroup):
    """Runs: what was done, what it cost, why it failed."""

    subject = "Runs"

    @endpoint("GET /api/runs")
    async def search_runs(self, query: PageOfRuns) -> RunsFound:
        """Search the runs, newest first, by state, reason, job, webhook, time, cost, and by their words."""
        hits = await self.app.runs.search(query.wanted(), query.limit, query.cursor)
        return runs_found(hits, self.app.clock.now())

    @endpoint("GET /api/running")
    async def list_going_on(self) -> GoingOn:
        """List the runs that are going on, and those that wait."""
        now = self.app.clock.now()
        return GoingOn([run_found(run, now) for run in await self.app.runs.going_on()])

    @endpoint("GET /api/runs.csv", media=CSV)
    async def export_runs_as_csv(self, query: RunSearch) -> AsyncGenerator[bytes, None]:
        """Give all runs that a search finds, newest first, as CSV (RFC 4180).

        Longer texts are cut. What a spreadsheet would take for a formula begins with an apostrophe.
        """
        return runs_as_csv(self.app.runs.export(query.wanted()), self.app.clock.now())

    @endpoint("GET /api/runs.json", answers=list[RunFound])
    async def export_runs_as_json(self, query: RunSearch) -> AsyncGenerator[bytes, None]:
        """Give all runs that a search finds, newest first, as one list; longer texts are cut."""
        return runs_as_json(self.app.runs.export(query.wanted()), self.app.clock.now())

    @endpoint("POST /api/runs", status=202, location="/api/runs/{id}")
    async def run_prompt(self, body: QuickRun) -> RunView:
        """Run a prompt at once; the answer is the run that waits to start."""
        new = self._new(body, body.get("timeout_minutes", 30), rehearsal=body.get("rehearsal", False))
        return await run_view(self.app, (await self.app.run_prompt(new)).id)

    @endpoint("POST /api/rehearsals", ConflictError)
    async def rehearse_prompt(self, body: Prompt) -> Rehearsal:
        """Try a prompt without spending a token: would it run, with which tools, how large is its first request."""
        return await self.app.rehearsals.of_prompt(self._new(body, rehearsal=True))

    @endpoint("GET /api/runs/{run_id}")
    async def get_run(self, run_id: str, query: Pieces) -> RunView:
        """Show a run; while it runs, its output is what has been said up to now."""
        return await run_view(
            self.app,
            run_id,
            output_offset=query.output_offset,
            output_limit=query.output_limit,
            events_after=query.events_after,
            events_limit=query.events_limit,
        )

    @endpoint("GET /api/runs/{run_id}/events")
    async def list_events(self, run_id: str, query: WhichEvents) -> Events:
        """List what happened in a run, step by step."""
        await self.app.runs.get(run_id)
        if sum((query.after is not None, query.before is not None, query.last)) > 1:
            raise InvalidError("give one of after, before and last", field="after")
        if query.last or query.before is not None:
            events = (
                await self.app.runs.events_tail(run_id, query.limit)
                if query.before is None
                else await self.app.runs.events_before(run_id, query.before, query.limit)
            )
            next_after = None
        else:
            page = await self.app.runs.events(run_id, query.after or 0, query.limit)
            events, next_after = page.events, page.next_after
        first = events[0].seq if events else 1
        return Events([event_view(event) for event in events], next_after, first if first > 1 else None)

    @endpoint("POST /api/runs/{run_id}/stop", ConflictError)
    async def stop_run(self, run_id: str) -> RunView:
        """Stop a run that is going on, or cancel one that waits; one that has ended stays as it is."""
        await self.app.dispatcher.cancel(run_id)
        return await run_view(self.app, run_id)

    @endpoint("POST /api/runs/{run_id}/again", ConflictError, status=202, location="/api/runs/{id}")
    async def run_again(self, run_id: str) -> RunView:
        """Run the same once more, with the same rights and limits; the answer is the new run."""
        return await run_view(self.app, (await self.app.run_again(run_id)).id)

    @staticmethod
    def _new(body: Prompt, minutes: int = 30, *, rehearsal: bool) -> NewRun:
        return NewRun(
            prompt=body["prompt"],
            trigger=Trigger.QUICK,
            tools=read_tools(body.get("tools")),
            timeout_minutes=minutes,
            model=body.get("model") or None,
            rehearsal=rehearsal,
            profile=chosen_profile(body.get("profile")),
            commands=read_commands(body.get("commands")),
        )
