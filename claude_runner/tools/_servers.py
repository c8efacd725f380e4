"""What the tools about tool servers share: how a server is shown, listed, and taken into use."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from claude_runner.errors import ConflictError
from claude_runner.grants import tool_name
from claude_runner.processes import confinement_problem
from claude_runner.servers import Kind, Server, ToolInfo
from claude_runner.tools._texts import iso
from claude_runner.tools._toolbox import ToolGroup


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
class ServerDeleted:
    """The server that was deleted."""

    deleted: bool
    name: str


class ServerGroup(ToolGroup):
    """Tools about one kind of tool servers, or two."""

    async def _list(self, kind: Kind) -> ServerList:
        servers = await self._summaries(await self.app.servers.list(kind))
        return ServerList(servers, len(servers), await asyncio.to_thread(confinement_problem))

    async def _enable(self, name: str, *kinds: Kind, enabled: bool) -> ServerSummary:
        server = await self.app.servers.get(name)
        if server.kind not in kinds:
            verb = "enable" if enabled else "disable"
            other = f"{verb}_fixed_server" if server.kind is Kind.FIXED else f"{verb}_mcp_server"
            raise ConflictError(f"{name} is a {server.kind} server; use {other}", field="name")
        changed = await self.app.servers.enable(name, enabled, self.app.clock.now())
        return (await self._summaries([changed]))[0]

    async def _summaries(self, servers: Sequence[Server]) -> list[ServerSummary]:
        known = await self.app.servers.known_tools(servers)
        values = (
            await self.app.credentials.everything() if any(server.variables for server in servers) else {}
        )
        return [
            _summary(server, server.missing(values.get(server.name, {})), known.get(server.name))
            for server in servers
        ]


def mark_of(server: Server) -> str:
    """Return what changes whenever the server does."""
    return f"{server.name} {server.kind} {iso(server.updated_at)} {server.fingerprint}"


def status_of(server: Server, missing: Sequence[str]) -> str:
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
        status=status_of(server, missing),
        missing_credentials=list(missing),
        tools=None if tools is None else [tool_name(server.name, it.name) for it in tools],
        problem=server.problem,
        updated_at=iso(server.updated_at),
    )
