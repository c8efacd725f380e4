"""What is told of one server of any kind."""

from dataclasses import dataclass, fields
from typing import Any

from claude_runner.app import App
from claude_runner.servers import Server
from claude_runner.views.instants import iso
from claude_runner.views.servers import ServerSummary, ToolView, server_summaries, tool_views


@dataclass(frozen=True, slots=True)
class ServerDetail(ServerSummary):
    """A server of any kind with its variables and what of its tools is known."""

    env_vars: list[dict[str, Any]]
    tools_listed: list[ToolView] | None
    per_run: bool
    dependencies: list[str]
    command: list[str] | None
    url: str | None
    created_at: str | None


async def server_detail(app: App, server: Server) -> ServerDetail:
    """Return a server of any kind."""
    summary = (await server_summaries(app, [server]))[0]
    known = await app.servers.known_tools([server])
    return ServerDetail(
        **{field.name: getattr(summary, field.name) for field in fields(ServerSummary)},
        env_vars=[variable.as_entry() for variable in server.variables],
        tools_listed=tool_views(server, known[server.name]) if server.name in known else None,
        per_run=server.per_run,
        dependencies=list(server.dependencies),
        command=None if server.command is None else list(server.command),
        url=server.url,
        created_at=iso(server.created_at),
    )
