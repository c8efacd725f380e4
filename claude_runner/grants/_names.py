"""Names of tools: which there are, in which forms they are written, and the full one."""

import re
from collections.abc import Sequence
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.text_lists import read_list

BUILT_INS: Final = (
    "Bash",
    "Edit",
    "Glob",
    "Grep",
    "NotebookEdit",
    "Read",
    "TodoWrite",
    "WebFetch",
    "WebSearch",
    "Write",
)
MAX_TOOLS: Final = 200

_SERVER_TOOL = re.compile(r"(?P<server>[a-z][a-z0-9-]{0,39})[:.](?P<tool>[A-Za-z0-9_-]{1,100}|\*)", re.ASCII)
_MCP_SERVER = re.compile(r"mcp__(?P<server>[a-z][a-z0-9-]{0,39})", re.ASCII)
_MCP_TOOL = re.compile(r"mcp__(?P<server>[a-z][a-z0-9-]{0,39})__(?P<tool>[A-Za-z0-9_*-]{1,100})", re.ASCII)
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)  # what Claude Code turns into _ in a tool's name
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,150}", re.ASCII)


def read_tools(value: Sequence[str] | str | None) -> tuple[str, ...]:
    """Read a list of tools: a list, a text that holds one as JSON, or nothing.

    Raises:
        InvalidError: It is neither, or an entry is no tool's name.
    """
    items = read_list(value, "tools", MAX_TOOLS, '["Read", "WebSearch"]')
    for item in items:
        if not _PRINTABLE.fullmatch(item):
            raise InvalidError(f"{item[:60]!r} is not the name of a tool", field="tools")
    return tuple(dict.fromkeys(items))


def plain(tool: str) -> str:
    """Return a server's tool by the name that Claude Code gives it."""
    return _FOREIGN.sub("_", tool)


def tool_name(server: str, tool: str) -> str:
    """Return the name under which a run finds a server's tool; `*` stands for all of its tools."""
    return f"mcp__{server}__{tool if tool == '*' else plain(tool)}"


def split_name(name: str) -> tuple[str, str] | None:
    """Return server and tool of a name in any of its forms, `*` for all of its tools; `None` where it is none."""
    if match := _MCP_TOOL.fullmatch(name) or _SERVER_TOOL.fullmatch(name):
        return match["server"], match["tool"]
    if match := _MCP_SERVER.fullmatch(name):
        return match["server"], "*"
    return None


def full_name(tool: str, warnings: list[str]) -> str:
    """Return the name in its full form, with a warning where that is not what was written."""
    name = tool
    if match := _SERVER_TOOL.fullmatch(tool):
        name = tool_name(match["server"], match["tool"])
    elif match := _MCP_SERVER.fullmatch(tool):
        name = tool_name(match["server"], "*")
    elif tool not in BUILT_INS:
        name = next((known for known in BUILT_INS if known.lower() == tool.lower()), tool)
    if name != tool:
        warnings.append(f"Normalized '{tool}' to '{name}'")
    return name


def server_tool(name: str) -> tuple[str, str] | None:
    """Return server and tool of a name in its full form; `None` where it is no server's."""
    match = _MCP_TOOL.fullmatch(name)
    return None if match is None else (match["server"], match["tool"])
