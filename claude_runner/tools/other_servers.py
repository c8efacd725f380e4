"""Tools about tool servers that others made: those that come with the program, and external ones."""

from typing import Annotated, Any, Final

from pydantic import Field

from claude_runner.servers import ExternalDraft, Kind
from claude_runner.tools._confirmation import Question
from claude_runner.tools._servers import ServerGroup, mark_of
from claude_runner.tools._toolbox import tool
from claude_runner.views.deletions import ServerDeleted
from claude_runner.views.servers import ServerList, ServerLog, ServerSummary, server_list, server_summaries

LOG_LINES: Final = 100

Lines = Annotated[int, Field(ge=1, le=2000, strict=True)]


class FixedServerTools(ServerGroup):
    """Tool servers that come with the program."""

    @tool("List built-in tool servers", reads=True)
    async def list_fixed_mcp_servers(self) -> ServerList:
        """List the tool servers that come with the program, such as email and playwright, and whether each is ready."""
        return await server_list(self.app, Kind.FIXED)

    @tool("Enable a built-in tool server", repeatable=True)
    async def enable_fixed_server(self, name: str) -> ServerSummary:
        """Take a tool server into use that comes with the program, such as playwright.

        Args:
            name: The server's name.
        """
        return await self._enable(name, Kind.FIXED, enabled=True)

    @tool("Disable a built-in tool server", repeatable=True)
    async def disable_fixed_server(self, name: str) -> ServerSummary:
        """Take a tool server out of use that comes with the program; jobs that name its tools fail.

        Args:
            name: The server's name.
        """
        return await self._enable(name, Kind.FIXED, enabled=False)


class ExternalServerTools(ServerGroup):
    """Tool servers of somebody else's, and what any server said."""

    @tool("Add an external tool server")
    async def add_external_server(
        self,
        name: str,
        command: str | None = None,
        args: list[str] | None = None,
        url: str | None = None,
        headers: dict[str, str] | None = None,
        env_vars: list[str | dict[str, Any]] | dict[str, str] | None = None,
        description: str = "",
    ) -> ServerSummary:
        """Add somebody else's MCP server: a command that speaks MCP over stdio, or a URL (Streamable HTTP).

        Give command (with args), or url (with headers), not both. A command runs on this machine as the server's user:
        add only what the user asked for. Values of headers and of env_vars are sealed as credentials and never shown;
        `${NAME}` in a header stands for the credential NAME.

        Args:
            name: Small letters, digits and hyphens, beginning with a letter, such as `azure-devops`.
            command: The program, such as `npx`.
            args: Its arguments, a list of texts.
            url: Where the server is reached, http or https.
            headers: HTTP headers by name, such as `{"Authorization": "Bearer …"}`.
            env_vars: The variables that the command needs: names, objects as in create_mcp_server, or values by name.
            description: What the server is for, in a sentence.
        """
        draft = ExternalDraft(
            name=name,
            command=command,
            args=tuple(args or ()),
            url=url,
            headers=headers or {},
            env_vars=env_vars or (),
            description=description,
        )
        return (await server_summaries(self.app, [await self.app.workshop.add_external(draft)]))[0]

    @tool("List external tool servers", reads=True)
    async def list_external_servers(self) -> ServerList:
        """List the external MCP servers that were added, and whether each is ready."""
        return await server_list(self.app, Kind.EXTERNAL)

    async def _leaving(self, name: str) -> Question | None:
        server = await self.app.servers.get(name)
        if server.kind is not Kind.EXTERNAL:
            return None
        return Question(
            f"Remove the external tool server {name} with its files here and its credentials?",
            mark_of(server),
        )

    @tool("Remove an external tool server", destroys=True, asks=_leaving)
    async def remove_external_server(self, name: str) -> ServerDeleted:
        """Remove an external MCP server with its credentials; the program or service itself is not touched.

        Args:
            name: The server's name.
        """
        await self.app.workshop.remove_external(name)
        return ServerDeleted(deleted=True, name=name)

    @tool("Show a tool server's log", reads=True)
    async def get_mcp_server_log(self, name: str, lines: Lines = LOG_LINES) -> ServerLog:
        """Show what a tool server wrote to standard error lately: why it did not start, or what it printed.

        Args:
            name: The server's name.
            lines: How many lines at the most, 1 to 2,000.
        """
        server = await self.app.servers.get(name)
        return ServerLog(server.name, await self.app.pool.said(server.name, lines))
