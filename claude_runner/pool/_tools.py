"""What servers list and answer, checked once for its form: whoever it is passed on to may rely on it."""

from typing import Any, Final

from claude_runner.errors import ServerFailedError
from claude_runner.pool._session import Json, RemoteError, too_deep
from claude_runner.servers import ToolInfo

MAX_TOOLS: Final = 500


def listed(tools: object) -> list[Json]:
    """Return a page of tools as a server lists them.

    Raises:
        RemoteError: They are none (MCP, Tool); a client that is handed one such tool drops all of them.
    """
    from mcp_types import ListToolsResult  # noqa: PLC0415 - a program without servers does without
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    try:
        ListToolsResult.model_validate({"tools": tools}, by_alias=True, by_name=False)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise RemoteError(f"its list of tools can't be read: {place}: {wrong['msg']}") from error
    _check_depth(tools)
    found: list[dict[str, Any]] = list(tools) if isinstance(tools, list) else []
    for tool in found:
        kind = tool["inputSchema"].get("type", "object")
        if kind != "object":
            raise RemoteError(
                f"its list of tools can't be read: the arguments of {tool['name']!r} are no object"
            )
    return [tool | {"inputSchema": {"type": "object", **tool["inputSchema"]}} for tool in found]


def answered(result: Json) -> Json:
    """Return the result of a call (MCP, CallToolResult).

    Raises:
        ServerFailedError: It is none.
    """
    content = result.get("content", [])
    structured = result.get("structuredContent")
    if (
        not isinstance(content, list)
        or not all(isinstance(block, dict) and isinstance(block.get("type"), str) for block in content)
        or not isinstance(structured, dict | None)
    ):
        raise ServerFailedError("its answer can't be read: it is no result of a tool")
    _check_depth(result)
    return {**result, "content": content}


def _check_depth(said: object) -> None:
    """Refuse what nests more than the libraries can write that pass it on, within what they wrap around it."""
    from pydantic_core import to_json  # noqa: PLC0415 - as above

    try:
        to_json([[[[[[[[said]]]]]]]])
    except ValueError as error:
        raise too_deep() from error


def infos(tools: tuple[Json, ...]) -> tuple[ToolInfo, ...]:
    """Return what is kept of tools as a server lists them."""
    return tuple(
        ToolInfo(str(tool["name"]), str(tool.get("description") or ""), tool["inputSchema"]) for tool in tools
    )
