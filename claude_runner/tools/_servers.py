"""What the tools about tool servers share: how one is told from what it may be later, and taken into use."""

from claude_runner.errors import ConflictError
from claude_runner.servers import Kind, Server
from claude_runner.tools._toolbox import ToolGroup
from claude_runner.views.instants import iso
from claude_runner.views.servers import ServerSummary, server_summaries


class ServerGroup(ToolGroup):
    """Tools about one kind of tool servers, or two."""

    async def _enable(self, name: str, *kinds: Kind, enabled: bool) -> ServerSummary:
        server = await self.app.servers.get(name)
        if server.kind not in kinds:
            verb = "enable" if enabled else "disable"
            other = f"{verb}_fixed_server" if server.kind is Kind.FIXED else f"{verb}_mcp_server"
            raise ConflictError(f"{name} is a {server.kind} server; use {other}", field="name")
        changed = await self.app.servers.enable(name, enabled, self.app.clock.now())
        return (await server_summaries(self.app, [changed]))[0]


def mark_of(server: Server) -> str:
    """Return what changes whenever the server does."""
    return f"{server.name} {server.kind} {iso(server.updated_at)} {server.fingerprint}"
