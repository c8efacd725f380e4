"""Makes tool servers of code, and changes them: nothing is kept that did not start and list its tools."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import CancelScope

from claude_runner.config import Clock
from claude_runner.credentials import Credentials
from claude_runner.errors import InvalidError, ServerFailedError
from claude_runner.pool import Json, Pool, infos
from claude_runner.servers import (
    ExternalDraft,
    Findings,
    Server,
    Servers,
    ToolInfo,
    Variable,
    examine,
    merged,
)

Given = Sequence[str | Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Made:
    """A server as it was made or changed.

    Attributes:
        tools: What it listed when it was tried out.
        missing: The credentials that it requires and has not got.
        start_seconds: How long it took to start.
    """

    server: Server
    tools: tuple[ToolInfo, ...]
    missing: tuple[str, ...]
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Workshop:
    """Makes, changes and removes dynamic servers; adds and removes external ones."""

    servers: Servers
    pool: Pool
    credentials: Credentials
    clock: Clock

    async def create(self, name: str, code: str, description: str, given: Given | None = None) -> Made:
        """Make a server of code, enabled.

        Args:
            name: What it is called.
            code: A Python file that makes a FastMCP server, or one of the MCP SDK.
            description: What it does.
            given: Variables that the code reads, in addition to those found in it, or with more about them.

        Raises:
            InvalidError: The name, the code or a variable can't be used; the sentence names the line where it can.
            ConflictError: The name is taken, or another call is changing this server.
            UnavailableError: It can't be written.
        """
        async with self.servers.lock(name):
            await self.servers.check_free(name)
            findings = await asyncio.to_thread(examine, code)
            staged = await self.servers.stage(
                name, code, description, merged(findings.variables, given), self.clock.now()
            )
            async with self._discarded_on_failure(staged):
                tools, seconds = await self._try_out(name, staged)
                server = await self.servers.keep_new(name, staged, self.clock.now())
        return await self._made(server, tools, seconds)

    async def change(
        self,
        name: str,
        *,
        code: str | None = None,
        description: str | None = None,
        given: Given | None = None,
        version: int | None = None,
    ) -> Made:
        """Change a server; its earlier code is kept as a version, and what is not given stays as it was.

        A change that does not start leaves the server as it was.

        Args:
            name: Which.
            code: What it is from now on.
            description: What it does.
            given: As in `create`.
            version: Which of its versions it is to be again, in place of `code`.

        Raises:
            InvalidError: There is nothing to change, or a value can't be used.
            NotFoundError: There is no such server or version.
            ConflictError: It is not a dynamic one, or another call is changing it.
            UnavailableError: It can't be written.
        """
        if code is not None and version is not None:
            raise InvalidError("give code or version, not both", field="version")
        if code is None and description is None and given is None and version is None:
            raise InvalidError("there is nothing to change: give code, description, env_vars or version")
        async with self.servers.lock(name):
            old = await self.servers.get(name)
            await self.servers.versions(name)  # refuses what is not dynamic, or has gone
            if code is None:
                code = await self.servers.code(name, version)
            findings = await asyncio.to_thread(examine, code)
            variables = merged(findings.variables, _still_read(old, findings) if given is None else given)
            staged = await self.servers.stage(name, code, description, variables, self.clock.now())
            async with self._discarded_on_failure(staged):
                tools, seconds = await self._try_out(name, staged)
                server = await self.servers.keep_version(name, staged, self.clock.now())
        return await self._made(server, tools, seconds)

    async def remove(self, name: str) -> None:
        """Delete a dynamic server with its code, its files, its log and its credentials; calls going on are ended.

        Raises:
            NotFoundError: There is no such server.
            ConflictError: It is not a dynamic one, or another call is changing it.
            UnavailableError: Its files can't be deleted.
        """
        async with self.servers.lock(name):
            await self.servers.remove(name)
            await self.credentials.remove_all(name)
            await self.pool.forget(name)

    async def remove_external(self, name: str) -> None:
        """Remove an external server with its files, its log and its credentials; calls going on are ended.

        Raises:
            NotFoundError: There is no such server.
            ConflictError: It is not an external one, or another call is changing it.
            UnavailableError: Its files can't be deleted.
        """
        await self.servers.remove_external(name)
        await self.credentials.remove_all(name)
        await self.pool.forget(name)

    async def add_external(self, draft: ExternalDraft) -> Server:
        """Add an external server, enabled, and seal the secrets given with it.

        Raises:
            InvalidError: Something of it can't be used; nothing is kept.
            ConflictError: The name is taken, or another call is adding it.
            UnavailableError: It can't be written.
        """
        server, secrets = await self.servers.add_external(draft, self.clock.now())
        try:
            for key, value in secrets.items():
                await self.credentials.set(server.name, key, value, self.clock.now())
        except BaseException:
            with CancelScope(shield=True):
                await self.remove_external(server.name)
            raise
        return server

    @asynccontextmanager
    async def _discarded_on_failure(self, staged: Path) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            with CancelScope(shield=True):  # a client that leaves would cut this off as well
                await self.servers.discard(staged)
            raise

    async def _try_out(self, name: str, staged: Path) -> tuple[tuple[Json, ...], float]:
        """Start what is staged and have it list its tools; raises `InvalidError` where it can't."""
        server = await self.servers.staged(name, staged)
        try:
            tools, seconds = await self.pool.try_out(server)
        except ServerFailedError as error:
            raise InvalidError(
                f"nothing was kept, since the code does not run: {error}", field="code"
            ) from error
        if not tools:
            raise InvalidError(
                "nothing was kept, since the server has no tools; mark its functions with @mcp.tool",
                field="code",
            )
        return tools, seconds

    async def _made(self, server: Server, tools: tuple[Json, ...], seconds: float) -> Made:
        listed = infos(tools)
        await self.servers.remember_tools(server, listed, self.clock.now())
        missing = server.missing(await self.credentials.of(server.name))
        return Made(server, listed, missing, seconds)


def _still_read(old: Server, findings: Findings) -> list[dict[str, Any]]:
    """Return what is known of the variables that the code goes on reading, or never was found to read."""
    found = {variable.name for variable in findings.variables}
    return [variable.as_entry() for variable in old.variables if _stays(variable, found)]


def _stays(variable: Variable, found: set[str]) -> bool:
    return variable.name in found or bool(variable.description)
