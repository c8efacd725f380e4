"""The tool that calls a tool of a server at once."""

from typing import Annotated, Any

from pydantic import Field

from claude_runner.invocation import Outcome
from claude_runner.tools._toolbox import ToolGroup, tool

Seconds = Annotated[int, Field(ge=1, le=240, strict=True)]


class InvocationTools(ToolGroup):
    """Calls without a job."""

    @tool("Call a server's tool now", destroys=True, acts_outside=True)
    async def invoke_internal_mcp_tool(
        self, tool: str, payload: dict[str, Any] | None = None, timeout_seconds: Seconds = 60
    ) -> Outcome:
        """Call a tool of an enabled server at once, without a job or a model, and answer what it answered.

        The call is kept in the log of tool calls. Where the tool itself says that it failed, is_error is true.

        Args:
            tool: The tool's name, such as `mcp__weather__get_weather`.
            payload: Its arguments by name, as the tool's schema says.
            timeout_seconds: After how many seconds it is given up, and its server ended; 1 to 240.
        """
        return await self.app.invocations.invoke(tool, payload or {}, timeout_seconds)
