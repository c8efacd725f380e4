"""Tools that make tool servers and change them, and take into use what was made or added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field

from claude_runner.errors import ConflictError
from claude_runner.grants import tool_name
from claude_runner.servers import Kind, Server, ToolInfo
from claude_runner.tools._confirmation import Question
from claude_runner.tools._servers import (
    ServerDeleted,
    ServerGroup,
    ServerList,
    ServerSummary,
    mark_of,
    status_of,
)
from claude_runner.tools._texts import iso, joined
from claude_runner.tools._toolbox import tool
from claude_runner.workshop import Made

_LISTS: Final = {Kind.FIXED: "mcp_servers", Kind.EXTERNAL: "servers"}

Version = Annotated[int, Field(ge=1, le=999_999, strict=True)]
Variables = list[str | dict[str, Any]] | None


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
        return await self._made(await self.app.workshop.create(name, code, description, env_vars))

    @tool("List own tool servers", reads=True)
    async def list_dynamic_mcp_servers(self) -> ServerList:
        """List the tool servers that were made here: what each is for, whether it is ready, and its tools."""
        return await self._list(Kind.DYNAMIC)

    @tool("Show a tool server", reads=True)
    async def get_dynamic_mcp_server(self, name: str, version: Version | None = None) -> ServerView:
        """Show a tool server that was made here whole: its code, its tools, the variables it reads, its versions.

        Args:
            name: The server's name.
            version: Show the code of this version; the current one where it is left out.
        """
        server = await self.app.servers.get(name)
        if server.kind is not Kind.DYNAMIC:
            raise ConflictError(
                f"{name} is one of the {server.kind} servers; list_{server.kind}_{_LISTS[server.kind]} shows it",
                field="name",
            )
        code = await self.app.servers.code(name, version)
        versions = await self.app.servers.versions(name)
        known = await self.app.servers.known_tools([server])
        missing = server.missing((await self.app.credentials.everything()).get(name, {}))
        return ServerView(
            name=server.name,
            kind=server.kind,
            description=server.description,
            enabled=server.enabled,
            status=status_of(server, missing),
            missing_credentials=list(missing),
            env_vars=[variable.as_entry() for variable in server.variables],
            tools=_tools(server, known[name]) if name in known else None,
            per_run=server.per_run,
            dependencies=list(server.dependencies),
            versions=[VersionView(it.number, it.created_at.isoformat(), it.current) for it in versions],
            code=code,
            problem=server.problem,
            created_at=iso(server.created_at),
            updated_at=iso(server.updated_at),
        )

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
        return await self._made(made)

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

    async def _made(self, made: Made) -> MadeView:
        server = made.server
        versions = await self.app.servers.versions(server.name)
        return MadeView(
            name=server.name,
            enabled=server.enabled,
            status=status_of(server, made.missing),
            missing_credentials=list(made.missing),
            env_vars=[variable.as_entry() for variable in server.variables],
            tools=_tools(server, made.tools),
            version=versions[-1].number,
            start_seconds=round(made.start_seconds, 3),
            next_step=_next_step(made),
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


def _tools(server: Server, tools: Sequence[ToolInfo]) -> list[ToolView]:
    return [ToolView(tool_name(server.name, it.name), it.description, dict(it.input_schema)) for it in tools]
