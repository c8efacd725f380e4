"""Which tools a job may use, as boxes to tick: the built-in ones, and each server's, all of them or one by one."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from claude_runner.app import App
from claude_runner.grants import BUILT_INS, tool_name
from claude_runner.servers import RUNNER, ToolInfo
from claude_runner.web.dashboard._visible import visible

HINT: Final = 160  # characters of what a tool is


class Box(NamedTuple):
    """A tool, or all tools of a server.

    Attributes:
        value: The name that lists of tools have for it.
        label: What stands beside the box.
        hint: What it is.
    """

    value: str
    label: str
    hint: str = ""


class Group(NamedTuple):
    """Boxes that belong together.

    Attributes:
        name: The server's, or "Built in".
        whole: The box that stands for all of them; `None` for the built-in ones.
        boxes: One for each tool that is known; a server that was never started has none yet.
        hint: What the server is.
    """

    name: str
    whole: Box | None
    boxes: Sequence[Box]
    hint: str


async def tool_groups(app: App, chosen: Sequence[str]) -> list[Group]:
    """Return all that may be ticked, and whatever was chosen that is not among it, so that nothing gets lost."""
    allowed = await app.stored.allowed_tools()
    built_ins = [Box(name, name) for name in allowed if name in BUILT_INS]
    groups = [
        Group("Built in", None, built_ins, "Built into Claude Code; the settings say which are allowed.")
    ]
    servers = await app.servers.enabled()
    known = await app.servers.known_tools(servers)
    groups += [_of_server(server.name, server.description, known.get(server.name, ())) for server in servers]
    own = [ToolInfo(tool.name, tool.description, {}) for tool in app.reach.inside.tools]
    groups.append(_of_server(RUNNER, "Notes, a report, follow-ups: every run has these.", own))
    boxes = {box.value for group in groups for box in (*group.boxes, *filter(None, [group.whole]))}
    if others := [Box(name, name) for name in chosen if name not in boxes]:
        hint = "Chosen earlier; no longer allowed, or of a server that is disabled or gone."
        groups.append(Group("Others", None, others, hint))
    return groups


def _of_server(name: str, hint: str, tools: Sequence[ToolInfo]) -> Group:
    boxes = [
        Box(
            tool_name(name, tool.name),
            visible(tool.name),
            visible(" ".join(tool.description[: 4 * HINT].split()))[:HINT],
        )
        for tool in tools
    ]
    return Group(name, Box(tool_name(name, "*"), "All its tools"), boxes, visible(hint))
