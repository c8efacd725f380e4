"""One sentence for arguments that do not fit a tool, in place of the library's report of several lines."""

import logging
from collections.abc import Mapping
from typing import Any

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import ToolResult
from mcp_types import CallToolRequestParams
from pydantic import ValidationError as PydanticValidationError

from claude_runner.views.fitting import SHOWN, fitting, joined, shown


class PlainRefusals(Middleware):
    """Words what is wrong with a call's arguments."""

    def __init__(self, mcp: FastMCP[Any]) -> None:
        self._mcp = mcp

    async def on_call_tool(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self,
        context: MiddlewareContext[CallToolRequestParams],
        call_next: CallNext[CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Call the tool; raises `ToolError` with one sentence where its arguments do not fit."""
        try:
            return await call_next(context)
        except ValidationError as error:
            if not isinstance(error.__cause__, PydanticValidationError):
                raise
            tool = await self._mcp.get_tool(context.message.name)
            schema = {} if tool is None else tool.parameters
            sentence = _sentence(context.message, error.__cause__, schema)
            raise ToolError(sentence, log_level=logging.INFO) from error


def _sentence(call: CallToolRequestParams, error: PydanticValidationError, schema: Mapping[str, Any]) -> str:
    details = error.errors(include_url=False, include_context=False)
    properties = schema.get("properties", {})
    missing = [str(detail["loc"][0]) for detail in details if detail["type"] == "missing_argument"]
    if missing:
        return f"{call.name} needs {joined(missing, 'and')}, which {'is' if len(missing) == 1 else 'are'} missing"
    name = str(details[0]["loc"][0])
    if name not in properties:
        known = f"it takes {', '.join(properties)}" if properties else "it takes none"
        return f"{call.name} has no parameter {name[:SHOWN]!r}; {known}"
    fits = joined(fitting(properties[name], schema), "or")
    if properties[name].get("writeOnly"):  # a secret
        return f"{name} must be {fits}"
    return f"{name} is {shown((call.arguments or {}).get(name))}; it must be {fits}"
