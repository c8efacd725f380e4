"""What is told of tool servers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.app import App
from claude_runner.errors import ConflictError
from claude_runner.grants import tool_name
from claude_runner.processes import confinement_problem
from claude_runner.servers import Kind, Server, ToolInfo
from claude_runner.views.instants import iso
from claude_runner.workshop import Made

_LISTS: Final = {Kind.FIXED: "mcp_servers", Kind.EXTERNAL: "servers"}


@dataclass(frozen=True, slots=True)
class ServerSummary:
    """A server as a list shows it; `tools` are known once it has been started."""

    name: str
    kind: Kind
    description: str
    enabled: bool
    status: str
    missing_credentials: list[str]
    tools: list[str] | None
    problem: str | None
    updated_at: str | None


@dataclass(frozen=True, slots=True)
class ServerList:
    """Servers of one kind; `unconfined` is why their processes are not confined on this machine, where they are not."""

    servers: list[ServerSummary]
    total: int
    unconfined: str | None


@dataclass(frozen=True, slots=True)
class ToolView:
    """A tool of a server, by the name under which a job's `tools` has it."""

    name: str
    description: str
    input_schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a server's code."""

    version: int
    created_at: str
    current: bool


@dataclass(frozen=True, slots=True)
class ServerView:
    """A dynamic server whole."""

    name: str
    kind: Kind
    description: str
    enabled: bool
    status: str
    missing_credentials: list[str]
    env_vars: list[dict[str, Any]]
    tools: list[ToolView] | None
    per_run: bool
    dependencies: list[str]
    versions: list[VersionView]
    code: str
    problem: str | None
    created_at: str | None
    updated_at: str | None


@dataclass(frozen=True, slots=True)
class MadeView:
    """A server that was made or changed; `next_step` is what is left to do before it can be used."""

    name: str
    enabled: bool
    status: str
    missing_credentials: list[str]
    env_vars: list[dict[str, Any]]
    tools: list[ToolView]
    version: int
    start_seconds: float
    next_step: str


@dataclass(frozen=True, slots=True)
class ServerLog:
    """What a server wrote to standard error, oldest line first."""

    server: str
    lines: list[str]


async def server_list(app: App, kind: Kind | None = None) -> ServerList:
    """Return the servers, of one kind or all."""
    servers = await server_summaries(app, await app.servers.list(kind))
    return ServerList(servers, len(servers), await asyncio.to_thread(confinement_problem))


async def server_summaries(app: App, servers: Sequence[Server]) -> list[ServerSummary]:
    """Return servers as a list shows them."""
    known = await app.servers.known_tools(servers)
    values = await app.credentials.everything() if any(server.variables for server in servers) else {}
    return [
        _summary(server, server.missing(values.get(server.name, {})), known.get(server.name))
        for server in servers
    ]


async def server_view(app: App, name: str, version: int | None = None) -> ServerView:
    """Return a dynamic server whole, with the code of a version, or the current one.

    Raises:
        InvalidError: No server can have this name.
        NotFoundError: There is no such server, or no such version.
        ConflictError: It is one of another kind.
    """
    server = await app.servers.get(name)
    if server.kind is not Kind.DYNAMIC:
        raise ConflictError(
            f"{name} is one of the {server.kind} servers; list_{server.kind}_{_LISTS[server.kind]} shows it",
            field="name",
        )
    code = await app.servers.code(name, version)
    versions = await app.servers.versions(name)
    known = await app.servers.known_tools([server])
    missing = server.missing((await app.credentials.everything()).get(name, {}))
    return ServerView(
        name=server.name,
        kind=server.kind,
        description=server.description,
        enabled=server.enabled,
        status=_status(server, missing),
        missing_credentials=list(missing),
        env_vars=[variable.as_entry() for variable in server.variables],
        tools=tool_views(server, known[name]) if name in known else None,
        per_run=server.per_run,
        dependencies=list(server.dependencies),
        versions=[VersionView(it.number, it.created_at.isoformat(), it.current) for it in versions],
        code=code,
        problem=server.problem,
        created_at=iso(server.created_at),
        updated_at=iso(server.updated_at),
    )


async def made_view(app: App, made: Made) -> MadeView:
    """Return a server that was made or changed."""
    server = made.server
    versions = await app.servers.versions(server.name)
    return MadeView(
        name=server.name,
        enabled=server.enabled,
        status=_status(server, made.missing),
        missing_credentials=list(made.missing),
        env_vars=[variable.as_entry() for variable in server.variables],
        tools=tool_views(server, made.tools),
        version=versions[-1].number,
        start_seconds=round(made.start_seconds, 3),
        next_step=_next_step(made),
    )


def tool_views(server: Server, tools: Sequence[ToolInfo]) -> list[ToolView]:
    """Return tools by the names under which jobs have them."""
    return [ToolView(tool_name(server.name, it.name), it.description, dict(it.input_schema)) for it in tools]


def _status(server: Server, missing: Sequence[str]) -> str:
    """Return how a server stands, in a word or two."""
    if server.problem is not None:
        return "broken"
    if not server.enabled:
        return "disabled"
    return "needs configuration" if missing else "ready"


def _summary(server: Server, missing: Sequence[str], tools: Sequence[ToolInfo] | None) -> ServerSummary:
    return ServerSummary(
        name=server.name,
        kind=server.kind,
        description=server.description,
        enabled=server.enabled,
        status=_status(server, missing),
        missing_credentials=list(missing),
        tools=None if tools is None else [tool_name(server.name, it.name) for it in tools],
        problem=server.problem,
        updated_at=iso(server.updated_at),
    )


def _next_step(made: Made) -> str:
    name = made.server.name
    if made.missing:
        calls = ", ".join(f"set_server_credential('{name}', '{key}', …)" for key in made.missing)
        return f"Ask the user for {', '.join(made.missing)} and call {calls}; then {name} is ready."
    if not made.server.enabled:
        return f"It is disabled; enable_mcp_server('{name}') takes it into use."
    first = tool_name(name, made.tools[0].name)
    return f"It is ready: name {first} in a job's tools, or call it now with invoke_internal_mcp_tool."
