"""Tools that look at the calls of tools."""

from typing import Annotated

from pydantic import Field

from claude_runner.tools._toolbox import ToolGroup, tool
from claude_runner.views.calls import CallList, call_list

CallLimit = Annotated[int, Field(ge=1, le=200, strict=True)]


class CallTools(ToolGroup):
    """Calls of tools: what was really done."""

    @tool("List calls of tools", reads=True)
    async def list_tool_calls(
        self,
        run_id: str | None = None,
        server: str | None = None,
        limit: CallLimit = 50,
        cursor: str | None = None,
    ) -> CallList:
        """List the calls of tools that runs and invoke_internal_mcp_tool made, newest first, with what came of each.

        verdict is `ok`, `error` where the tool failed, `denied` where the run's permissions did not let it make the
        call, `abandoned` where the run ended meanwhile, and `open` while the call goes on. A run's call is written down
        before it is made. Long arguments and results are cut; get_run shows more of them among a run's events.

        Args:
            run_id: Only calls of this run.
            server: Only calls of this MCP server's tools, such as `email`.
            limit: How many at the most, 1 to 200.
            cursor: The next_cursor of the page before, for the one after it, with the same filters.
        """
        await self.app.invocations.settled()
        page = await self.app.runs.calls(run_id, server, limit, cursor)
        return call_list(page)
