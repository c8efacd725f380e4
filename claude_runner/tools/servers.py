"""Tools that make tool servers and change them, and take into use what was made or added."""

from typing import Annotated, Any

from pydantic import Field

from claude_runner.servers import Kind
from claude_runner.tools._confirmation import Question
from claude_runner.tools._servers import ServerGroup, mark_of
from claude_runner.tools._toolbox import tool
from claude_runner.views.deletions import ServerDeleted
from claude_runner.views.fitting import joined
from claude_runner.views.servers import (
    MadeView,
    ServerList,
    ServerSummary,
    ServerView,
    made_view,
    server_list,
    server_view,
)

Version = Annotated[int, Field(ge=1, le=999_999, strict=True)]
Variables = list[str | dict[str, Any]] | None


class ServerTools(ServerGroup):
    """Tool servers that are made here."""

    @tool("Create a tool server")
    async def create_mcp_server(
        self, name: str, code: str, description: str = "", env_vars: Variables = None
    ) -> MadeView:
        """Create a tool server from Python code: its tools can be used by jobs, and called at once.

        Write one file that makes a FastMCP server and marks functions as tools:

            import os
            import httpx
            from fastmcp import FastMCP
            from fastmcp.exceptions import ToolError

            mcp = FastMCP("weather")

            @mcp.tool
            def get_weather(city: str) -> str:
                \"\"\"Tell the weather in a city.\"\"\"
                key = os.environ.get("WEATHER_API_KEY")
                if not key:
                    raise ToolError("WEATHER_API_KEY is not set")
                ...

        The code may import the standard library, fastmcp, httpx, requests, bs4 (beautifulsoup4), boto3 and playwright.
        Other packages it declares (PEP 723: a block of comments, `# /// script`, `# dependencies = ["…"]`, `# ///`) and
        gets where the owner has allowed that by the setting install_dependencies.

        It runs as a process of its own, with a small environment. Keys it reads with os.environ.get("NAME"), inside the
        tools: each name found so becomes a credential that set_server_credential sets. Never write a key into the code.
        Files go to the folder DATA_DIR, a global Path that needs no import; other files it may not be able to write or
        see. It needs no mcp.run(); what it prints is in get_mcp_server_log. Give every tool type hints and a docstring,
        raise ToolError with a sentence where it fails, and set time-outs on requests. An answer may have 4 MiB.

        The code is started before it is kept; code that does not run is refused with the line and the reason, and
        nothing is kept. Tell the user missing_credentials and next_step of the answer.

        Args:
            name: Small letters, digits and hyphens, beginning with a letter, at most 40, such as `weather`.
            code: The Python file, at most 512 KiB.
            description: What the server is for, in a sentence.
            env_vars: More about variables that the code reads, or ones that were not found in it: names, or objects
                with `name`, `description`, `required`, `sensitive`.
        """
        return await made_view(self.app, await self.app.workshop.create(name, code, description, env_vars))

    @tool("List own tool servers", reads=True)
    async def list_dynamic_mcp_servers(self) -> ServerList:
        """List the tool servers that were made here: what each is for, whether it is ready, and its tools."""
        return await server_list(self.app, Kind.DYNAMIC)

    @tool("Show a tool server", reads=True)
    async def get_dynamic_mcp_server(self, name: str, version: Version | None = None) -> ServerView:
        """Show a tool server that was made here whole: its code, its tools, the variables it reads, its versions.

        Args:
            name: The server's name.
            version: Show the code of this version; the current one where it is left out.
        """
        return await server_view(self.app, name, version)

    async def _changing(
        self,
        name: str,
        code: str | None = None,
        description: str | None = None,
        env_vars: Variables = None,
        version: Version | None = None,
    ) -> Question | None:
        server = await self.app.servers.get(name)
        given = {"its code": code, "its description": description, "its variables": env_vars}
        parts = [part for part, value in given.items() if value is not None]
        if version is not None:
            parts.append(f"its code, back to that of version {version}")
        if server.kind is not Kind.DYNAMIC or not parts or (code is not None and version is not None):
            return None
        current = (await self.app.servers.versions(name))[-1].number
        kept = (
            ""
            if code is None and version is None
            else f" The code that it has now is kept as version {current}."
        )
        return Question(
            f"Change the tool server {name}: {joined(parts, 'and')}?{kept}",
            f"{mark_of(server)} {current}",
            "nothing was changed",
        )

    @tool("Change a tool server", destroys=True, repeatable=True, asks=_changing)
    async def update_mcp_server(
        self,
        name: str,
        code: str | None = None,
        description: str | None = None,
        env_vars: Variables = None,
        version: Version | None = None,
    ) -> MadeView:
        """Change a tool server that was made here, or go back to one of its versions.

        Every earlier code is kept as a version. New code is started before it replaces the old; where it does not run,
        the call is refused and the server stays as it was. Calls that are going on end with the old code.

        Args:
            name: The server's name.
            code: The whole new Python file, as in create_mcp_server.
            description: What the server is for.
            env_vars: As in create_mcp_server.
            version: Go back to the code of this version, in place of `code`; get_dynamic_mcp_server lists them.
        """
        made = await self.app.workshop.change(
            name, code=code, description=description, given=env_vars, version=version
        )
        return await made_view(self.app, made)

    async def _deletion(self, name: str) -> Question | None:
        server = await self.app.servers.find(name)
        if server is None or server.kind is not Kind.DYNAMIC:
            return None
        own = "what is left of it" if server.folder is None else "its code in all versions, its files"
        return Question(f"Delete the tool server {name} with {own} and its credentials?", mark_of(server))

    @tool("Delete a tool server", destroys=True, asks=_deletion)
    async def delete_mcp_server(self, name: str) -> ServerDeleted:
        """Delete a tool server that was made here, with its code, all versions, its files and its credentials.

        Calls that are going on are ended.

        Args:
            name: The server's name.
        """
        await self.app.workshop.remove(name)
        return ServerDeleted(deleted=True, name=name)

    @tool("Enable a tool server", repeatable=True)
    async def enable_mcp_server(self, name: str) -> ServerSummary:
        """Take a tool server into use that was made here, or an external one: jobs and calls can use it.

        Args:
            name: The server's name.
        """
        return await self._enable(name, Kind.DYNAMIC, Kind.EXTERNAL, enabled=True)

    @tool("Disable a tool server", repeatable=True)
    async def disable_mcp_server(self, name: str) -> ServerSummary:
        """Take a tool server out of use that was made here, or an external one; jobs that name its tools fail.

        Args:
            name: The server's name.
        """
        return await self._enable(name, Kind.DYNAMIC, Kind.EXTERNAL, enabled=False)
