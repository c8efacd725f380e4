"""Endpoints about calls of tools."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from claude_runner.runs import CallQuery, Origin, Verdict
from claude_runner.views.calls import CallView, call_view, whole_call_view
from claude_runner.views.instants import iso, read_instant
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._types import Cursor, Limit, Since, Until


@dataclass(frozen=True, slots=True)
class CallSearch:
    """Which calls, and which page of them."""

    run_id: Annotated[str | None, Field(description="Of this run.")] = None
    server: Annotated[str | None, Field(description="Of this server's tools.")] = None
    tool: Annotated[str | None, Field(description="Of this tool, by its full name.")] = None
    verdict: Annotated[Verdict | None, Field(description="With this verdict.")] = None
    origin: Annotated[Origin | None, Field(description="Made by a run, or directly, without one.")] = None
    since: Since = None
    until: Until = None
    limit: Limit = 50
    cursor: Cursor = None


@dataclass(frozen=True, slots=True)
class CallsFound:
    """Some of the calls looked for, newest first; told as of runs that were looked for."""

    calls: list[CallView]
    next_cursor: str | None
    looked_until: str | None


class CallEndpoints(EndpointGroup):
    """Calls of tools: what was really done."""

    subject = "Tool calls"

    @endpoint("GET /api/tool-calls")
    async def search_tool_calls(self, query: CallSearch) -> CallsFound:
        """Search the calls of tools, of runs and others, newest first, with what came of each."""
        await self.app.invocations.settled()
        wanted = CallQuery(
            run_id=query.run_id,
            server=query.server,
            tool=query.tool,
            verdict=query.verdict,
            origin=query.origin,
            since=read_instant(query.since, "since"),
            until=read_instant(query.until, "until"),
        )
        hits = await self.app.runs.call_log(wanted, query.limit, query.cursor)
        return CallsFound([call_view(call) for call in hits.calls], hits.next_cursor, iso(hits.looked_until))

    @endpoint("GET /api/tool-calls/{call_id}")
    async def get_tool_call(self, call_id: str) -> CallView:
        """Show a call with all that is kept of its arguments and its result."""
        return whole_call_view(await self.app.runs.call(call_id))
