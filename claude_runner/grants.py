"""What a job's list of tools means: which tools its runs get, and what there is to say about the list.

An empty list is the owner's `allowed_tools`; a list grants just what it names. A tool that can't be granted
is refused where the job asks for it by name, and left out with a warning where it only comes by default: an
unattended run must never find out by itself what it lacks.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from claude_runner.errors import InvalidError

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

_SERVER_TOOL = re.compile(r"(?P<server>[a-z][a-z0-9-]{0,39})[:.](?P<tool>[A-Za-z0-9_-]{1,100})", re.ASCII)
_MCP_TOOL = re.compile(r"mcp__(?P<server>[a-z][a-z0-9-]{0,39})__(?P<tool>[A-Za-z0-9_*-]{1,100})", re.ASCII)
_PRINTABLE = re.compile(r"[\x21-\x7e]{1,150}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grant:
    """The tools a run gets.

    Attributes:
        tools: The list as the job keeps it, each name in its full form; empty where the defaults apply.
        built_ins: Claude Code's own tools among them, or by default.
        warnings: A sentence for whatever was changed, left out or not found.
    """

    tools: tuple[str, ...]
    built_ins: tuple[str, ...]
    warnings: tuple[str, ...]


def read_tools(value: Sequence[str] | str | None) -> tuple[str, ...]:
    """Read a list of tools: a list, a text that holds one as JSON, or nothing.

    Raises:
        InvalidError: It is neither, or an entry is no tool's name.
    """
    if value is None or value == "":
        return ()
    items: object = value
    if isinstance(value, str):
        try:
            items = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidError(
                f'tools is a text that is not JSON ({error}); give a list such as ["Read", "WebSearch"]',
                field="tools",
            ) from error
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise InvalidError('tools must be a list of names, such as ["Read", "WebSearch"]', field="tools")
    if len(items) > MAX_TOOLS:
        raise InvalidError(f"tools has {len(items)} entries; at most {MAX_TOOLS} can be kept", field="tools")
    for item in items:
        if not _PRINTABLE.fullmatch(item):
            raise InvalidError(f"{item[:60]!r} is not the name of a tool", field="tools")
    return tuple(dict.fromkeys(items))


def resolve(tools: Sequence[str], allowed: Sequence[str], sandbox_problem: str | None) -> Grant:
    """Decide what a list of tools grants.

    Args:
        tools: Names as `read_tools` gives them; empty for the defaults.
        allowed: The built-in tools the owner allows.
        sandbox_problem: Why shell commands can't be confined on this machine, or `None` where they can.

    Raises:
        InvalidError: A tool named is one that may not or can't be granted.
    """
    if not tools:
        return _by_default(allowed, sandbox_problem)
    warnings: list[str] = []
    names = tuple(dict.fromkeys(_full_name(tool, warnings) for tool in tools))
    for name in names:
        _refuse_what_cannot_be(name, allowed, sandbox_problem)
    warnings.extend(_unknown(names))
    return Grant(names, tuple(name for name in names if name in BUILT_INS), tuple(warnings))


def _by_default(allowed: Sequence[str], sandbox_problem: str | None) -> Grant:
    granted = tuple(name for name in allowed if name in BUILT_INS)
    if "Bash" in granted and sandbox_problem is not None:
        granted = tuple(name for name in granted if name != "Bash")
        return Grant((), granted, (f"runs without Bash: {sandbox_problem}",))
    return Grant((), granted, ())


def _full_name(tool: str, warnings: list[str]) -> str:
    """Return the name in its full form, with a warning where that is not what was written."""
    name = tool
    if match := _SERVER_TOOL.fullmatch(tool):
        name = f"mcp__{match['server']}__{match['tool']}"
    elif tool not in BUILT_INS:
        name = next((known for known in BUILT_INS if known.lower() == tool.lower()), tool)
    if name != tool:
        warnings.append(f"Normalized '{tool}' to '{name}'")
    return name


def _refuse_what_cannot_be(name: str, allowed: Sequence[str], sandbox_problem: str | None) -> None:
    if "(" in name:
        raise InvalidError(
            f"'{name}' is a permission rule; tools takes names alone, such as '{name.partition('(')[0]}'",
            field="tools",
        )
    if name in BUILT_INS and name not in allowed:
        raise InvalidError(
            f"'{name}' is not among the allowed tools ({', '.join(allowed) or 'none'}); "
            "the setting allowed_tools decides which there are",
            field="tools",
        )
    if name == "Bash" and sandbox_problem is not None:
        raise InvalidError(f"Bash can't be granted: {sandbox_problem}", field="tools")


def _unknown(names: Iterable[str]) -> list[str]:
    return [
        f"'{name}' is not a tool of any server here; runs go without it"
        if _MCP_TOOL.fullmatch(name)
        else f"'{name}' is not a known tool; runs go without it"
        for name in names
        if name not in BUILT_INS
    ]
