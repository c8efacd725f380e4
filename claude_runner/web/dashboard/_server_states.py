"""How a server stands, as its card and its page say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from claude_runner.app import App
from claude_runner.errors import InvalidError, UnavailableError
from claude_runner.grants import tool_name
from claude_runner.rehearsing import tool_tokens
from claude_runner.servers import Kind, Server, ToolInfo, check_name
from claude_runner.views.fitting import joined

NEW: Final = "new"  # the last part of the path of the page where servers are made


class State(StrEnum):
    """How a server stands; its value is the word for it."""

    READY = "ready"
    LACKING = "needs configuration"
    FAILING = "failing"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class ToolCost:
    """A tool as a server lists it, and about how many tokens it takes of each request that offers it."""

    info: ToolInfo
    full_name: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A server and how it stands.

    Attributes:
        words: A sentence about it.
        reason: Why it can't be started, or was not when it was last tried.
        missing: The credentials that it requires and has not got.
        tools: What it listed when it was last started as it is now; `None` where that is not known.
        is_up: Whether a call would find it started.
        used_at: When one of its tools was last called.
        has_page: Whether there can be a page of its name.
    """

    server: Server
    state: State
    words: str
    reason: str | None
    missing: tuple[str, ...]
    tools: tuple[ToolCost, ...] | None
    is_up: bool
    used_at: datetime | None
    has_page: bool

    @property
    def tokens(self) -> int:
        """Return about how many tokens its tools take of each request that offers them all."""
        return sum(tool.tokens for tool in self.tools or ())

    @property
    def is_removable(self) -> bool:
        """Tell whether it can be deleted here."""
        return self.server.kind is not Kind.FIXED and self.has_page


class Standings(NamedTuple):
    """Servers, and why their credentials could not be read, if so."""

    of: list[Standing]
    problem: str | None


async def standings(app: App, servers: Sequence[Server]) -> Standings:
    """Return how servers stand; none is started for it."""
    known = await app.servers.known_tools(servers)
    used = await app.runs.last_called([server.name for server in servers])
    values: Mapping[str, Mapping[str, str]] = {}
    problem = None
    try:
        values = await app.credentials.everything()
    except UnavailableError as error:
        problem = str(error)
    found = []
    for server in servers:
        missing = server.missing(values.get(server.name, {}))
        trouble = app.pool.trouble(server)
        reason = server.problem or (trouble and trouble.removeprefix(f"{server.name}: "))
        state, words = _state(server, missing, reason)
        tools = known.get(server.name)
        found.append(
            Standing(
                server,
                state,
                words,
                reason,
                missing,
                None if tools is None else tuple(_cost(server, tool) for tool in tools),
                app.pool.is_up(server),
                used.get(server.name),
                _can_be_named(server.name),
            )
        )
    return Standings(found, problem)


def _state(server: Server, missing: Sequence[str], reason: str | None) -> tuple[State, str]:
    needs = f"It needs {joined(list(missing), 'and')}." if missing else ""
    if server.problem is not None:
        return State.FAILING, f"It can't be started: {reason}"
    if not server.enabled:
        return State.DISABLED, f"No run and no call can use it until it is enabled. {needs}".strip()
    failed = f"It did not start when it was last tried: {reason}" if reason else ""
    if missing:
        return State.LACKING, f"{needs} Runs of jobs that name its tools fail until then. {failed}".strip()
    if failed:
        return State.FAILING, failed
    return State.READY, "Jobs and calls can use it; it is started when it is first needed."


def _cost(server: Server, tool: ToolInfo) -> ToolCost:
    full = tool_name(server.name, tool.name)
    return ToolCost(tool, full, tool_tokens(full, tool.description, tool.input_schema))


def _can_be_named(name: str) -> bool:
    try:
        check_name(name)
    except InvalidError:
        return False
    return name != NEW
