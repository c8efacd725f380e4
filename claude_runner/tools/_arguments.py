"""One sentence for arguments that do not fit a tool, in place of the library's report of several lines."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError, ValidationError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import ToolResult
from mcp_types import CallToolRequestParams
from pydantic import ValidationError as PydanticValidationError

from claude_runner.tools._texts import joined

SHOWN: Final = 60  # characters of a value that a sentence repeats

_WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list of texts",
}


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
    fitting = joined(_fitting(properties[name], schema), "or")
    if properties[name].get("writeOnly"):  # a secret
        return f"{name} must be {fitting}"
    value = json.dumps((call.arguments or {}).get(name))
    shown = value if len(value) <= SHOWN else value[:SHOWN] + "…"
    return f"{name} is {shown}; it must be {fitting}"


def _fitting(part: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return in words what a part of a JSON schema takes; `null` is only ever another way to leave it out."""
    if "$ref" in part:
        return _fitting(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in part:
        return [words for choice in part["anyOf"] for words in _fitting(choice, schema)]
    if "enum" in part:
        return list(part["enum"])
    if part["type"] == "null":
        return []
    low, high = part.get("minimum"), part.get("maximum")
    bounds = "" if low is None else f" from {low} to {high}"
    return [_WORDS[part["type"]] + bounds]
