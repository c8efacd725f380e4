"""Endpoints about tool servers: what there are, their code, their tools, their logs."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError, ServerFailedError
from claude_runner.grants import tool_name
from claude_runner.invocation import Outcome
from claude_runner.pool import infos
from claude_runner.rehearsing import tool_tokens
from claude_runner.servers import ExternalDraft, Kind
from claude_runner.views.deletions import ServerDeleted
from claude_runner.views.server_details import ServerDetail, server_detail
from claude_runner.views.servers import (
    MadeView,
    ServerList,
    ServerLog,
    ServerSummary,
    ToolView,
    VersionView,
    made_view,
    server_list,
    server_summaries,
    tool_views,
)
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._types import Variables

Version = Annotated[int | None, Field(ge=1, le=999_999, description="Of this version, else the current one.")]
About = Annotated[str, Field(description="What it is for, in a sentence.")]
Name = Annotated[str, Field(description="Small letters, digits and hyphens, such as `weather`.")]
Code = Annotated[str, Field(description="The Python file: it makes a FastMCP server with tools.")]


class _Optional(TypedDict, total=False):
    description: About
    env_vars: Variables


class NewServer(_Optional):
    """A server that is to be made of code."""

    name: Name
    code: Code


class ServerChanges(_Optional, total=False):
    """What is to be changed of a server; what is left out stays as it is."""

    code: Code
    version: Annotated[
        int, Field(ge=1, le=999_999, strict=True, description="Go back to the code of this version.")
    ]


class _Reached(TypedDict, total=False):
    command: Annotated[str | None, Field(description="The program, such as `npx`.")]
    args: Annotated[list[str], Field(description="Its arguments.")]
    url: Annotated[str | None, Field(description="Where the server is reached, in place of a command.")]
    headers: Annotated[
        dict[str, str],
        Field(
            description="HTTP headers by name; their values are sealed.",
            json_schema_extra={"writeOnly": True},
        ),
    ]
    env_vars: Annotated[
        list[str | dict[str, Any]] | dict[str, str],
        Field(
            description="What the command needs: names, objects, or values by name, which are sealed.",
            json_schema_extra={"writeOnly": True},
        ),
    ]
    description: About


class NewExternalServer(_Reached):
    """Somebody else's server that is to be added."""

    name: Name


class _Payload(TypedDict, total=False):
    payload: Annotated[dict[str, Any], Field(description="Its arguments by name, as its schema says.")]
    timeout_seconds: Annotated[int, Field(ge=1, le=240, strict=True, description="How long it may take.")]


class Call(_Payload):
    """A tool that is to be called."""

    tool: Annotated[str, Field(description="The tool's name, as the server lists it or in full.")]


@dataclass(frozen=True, slots=True)
class OfKind:
    """Which servers."""

    kind: Annotated[Kind | None, Field(description="Of this kind.")] = None


@dataclass(frozen=True, slots=True)
class OfVersion:
    """Which code."""

    version: Version = None


@dataclass(frozen=True, slots=True)
class Lines:
    """How much of a log."""

    lines: Annotated[int, Field(ge=1, le=2000, description="How many lines at the most.")] = 200


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a server's code, oldest first."""

    server: str
    versions: list[VersionView]


@dataclass(frozen=True, slots=True)
class CodeOf:
    """A server's code."""

    server: str
    version: int | None
    code: str


@dataclass(frozen=True, slots=True)
class ToolList:
    """A server's tools, and about how many tokens it takes to tell a model of them."""

    server: str
    tools: list[ToolView]
    total: int
    estimated_tokens: int


class ServerEndpoints(EndpointGroup):
    """Tool servers."""

    subject = "Servers"

    @endpoint("GET /api/servers")
    async def list_servers(self, query: OfKind) -> ServerList:
        """List the tool servers: built-in, made here, and external ones."""
        return await server_list(self.app, query.kind)

    @endpoint("POST /api/servers", ConflictError, status=201, location="/api/servers/{name}")
    async def create_server(self, body: NewServer) -> MadeView:
        """Make a tool server of Python code. It is started first; code that does not run is not kept."""
        made = await self.app.workshop.create(
            body["name"], body["code"], body.get("description", ""), body.get("env_vars")
        )
        return await made_view(self.app, made)

    @endpoint("POST /api/external-servers", ConflictError, status=201, location="/api/servers/{name}")
    async def add_external_server(self, body: NewExternalServer) -> ServerSummary:
        """Add somebody else's MCP server: a command that speaks MCP over stdio, or a URL."""
        draft = ExternalDraft(
            name=body["name"],
            command=body.get("command"),
            args=tuple(body.get("args", ())),
            url=body.get("url"),
            headers=body.get("headers", {}),
            env_vars=body.get("env_vars", ()),
            description=body.get("description", ""),
        )
        return (await server_summaries(self.app, [await self.app.workshop.add_external(draft)]))[0]

    @endpoint("GET /api/servers/{name}")
    async def get_server(self, name: str) -> ServerDetail:
        """Show a server of any kind, with its variables and, as far as they are known, its tools."""
        return await server_detail(self.app, await self.app.servers.get(name))

    @endpoint("PATCH /api/servers/{name}", ConflictError)
    async def change_server(self, name: str, body: ServerChanges) -> MadeView:
        """Change a server that was made here, or go back to one of its versions.

        New code is started before it replaces the old; where it does not run, the server stays as it was.
        """
        made = await self.app.workshop.change(
            name,
            code=body.get("code"),
            description=body.get("description"),
            given=body.get("env_vars"),
            version=body.get("version"),
        )
        return await made_view(self.app, made)

    @endpoint("DELETE /api/servers/{name}", ConflictError)
    async def delete_server(self, name: str) -> ServerDeleted:
        """Delete a server that was made here, or remove an external one, with its credentials."""
        server = await self.app.servers.find(name)
        if server is not None and server.kind is Kind.EXTERNAL:
            await self.app.workshop.remove_external(name)
        else:
            await self.app.workshop.remove(name)
        return ServerDeleted(deleted=True, name=name)

    @endpoint("POST /api/servers/{name}/enable", ConflictError)
    async def enable_server(self, name: str) -> ServerSummary:
        """Take a server into use."""
        return await self._enabled(name, enabled=True)

    @endpoint("POST /api/servers/{name}/disable", ConflictError)
    async def disable_server(self, name: str) -> ServerSummary:
        """Take a server out of use; jobs that name its tools fail."""
        return await self._enabled(name, enabled=False)

    @endpoint("GET /api/servers/{name}/versions", ConflictError)
    async def list_versions(self, name: str) -> Versions:
        """List the versions of the code of a server that was made here."""
        versions = await self.app.servers.versions(name)
        return Versions(
            name, [VersionView(it.number, it.created_at.isoformat(), it.current) for it in versions]
        )

    @endpoint("GET /api/servers/{name}/code", ConflictError)
    async def get_code(self, name: str, query: OfVersion) -> CodeOf:
        """Show a server's code."""
        return CodeOf(name, query.version, await self.app.servers.code(name, query.version))

    @endpoint("GET /api/servers/{name}/log")
    async def get_log(self, name: str, query: Lines) -> ServerLog:
        """Show what a server wrote to standard error lately."""
        server = await self.app.servers.get(name)
        return ServerLog(server.name, await self.app.pool.said(server.name, query.lines))

    @endpoint("POST /api/servers/{name}/tools", ConflictError, ServerFailedError)
    async def list_tools(self, name: str) -> ToolList:
        """List a server's tools; it is started where it is not up."""
        server = await self.app.servers.get(name)
        if not server.enabled:
            raise ConflictError(f"the server '{name}' is disabled; enable it first", field="name")
        tools = tool_views(server, infos(await self.app.pool.tools(server)))
        tokens = sum(tool_tokens(tool.name, tool.description, tool.input_schema) for tool in tools)
        return ToolList(name, tools, len(tools), tokens)

    @endpoint("POST /api/servers/{name}/call", ConflictError, ServerFailedError)
    async def call_tool(self, name: str, body: Call) -> Outcome:
        """Call a server's tool at once; the call is kept in the log of tool calls.

        Where the tool itself says that it failed, `is_error` is true.
        """
        server, tool = await self.app.servers.get(name), body["tool"]
        full = tool if tool.startswith(tool_name(server.name, "")) else tool_name(server.name, tool)
        return await self.app.invocations.invoke(
            full, body.get("payload", {}), body.get("timeout_seconds", 60)
        )

    async def _enabled(self, name: str, *, enabled: bool) -> ServerSummary:
        changed = await self.app.servers.enable(name, enabled, self.app.clock.now())
        return (await server_summaries(self.app, [changed]))[0]
