"""What runs can reach here and now: which servers there are, and what a list of tools comes to with them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_runner.config import Settings
from claude_runner.credentials import Credentials
from claude_runner.db import Database
from claude_runner.errors import RunnerError, ServerFailedError
from claude_runner.grants import Grant, KnownServer, resolve, split_name
from claude_runner.permissions import Profile
from claude_runner.pool import InProcess, Json, Wanted
from claude_runner.servers import RUNNER, Server, Servers, ToolInfo
from claude_runner.settings import allowed_tools, rights


class Lister(Protocol):
    """Has servers list their tools: the pool, or whoever asks it."""

    async def tools(self, server: Server, run_id: str = "") -> Sequence[Json]:
        """Return what a server lists, starting it where it is not up; raises `ServerFailedError`."""
        ...


@dataclass(frozen=True, slots=True)
class Reach:
    """Tells what may be granted, and what a run needs for what it was granted.

    Attributes:
        pool: Tells what a server offers that was never started.
        inside: The server that is part of this program.
        sandbox_problem: Tells why shell commands can't be confined here, or `None`.
    """

    database: Database
    settings: Settings
    servers: Servers
    credentials: Credentials
    pool: Lister
    inside: InProcess
    sandbox_problem: Callable[[], str | None]

    async def grant(
        self,
        tools: Sequence[str],
        profile: Profile | None = None,
        commands: Sequence[str] = (),
        *,
        start: bool = True,
    ) -> Grant:
        """Return what a list of tools grants here and now, under a profile or, where none is named, the owner's.

        A server that is named and was never started is started, to learn what it offers, unless nothing is to start.

        Raises:
            InvalidError: A tool or the profile named is one that may not or can't be granted.
        """
        allowed, owned = await self.database.read(lambda c: (allowed_tools(c), rights(c)))
        problem = await asyncio.to_thread(self.sandbox_problem)
        granted = owned.granted(profile, self.settings.environment)
        named = frozenset(server for server, _ in filter(None, map(split_name, tools)))
        servers = await self._known(named if tools else None, start=start)
        return resolve(tools, allowed, problem, profile=granted, commands=commands, servers=servers)

    async def wanted(self, grant: Grant) -> list[Wanted]:
        """Return the servers that runs with this grant need.

        Raises:
            ServerFailedError: Some can't be had, or lack credentials; the sentence says which and why.
        """
        needed: list[Wanted] = []
        lacking: list[str] = []
        for each in grant.servers:
            tools = None if each.tools is None else frozenset(each.tools)
            if each.name == RUNNER:
                needed.append(Wanted(None, tools))
                continue
            server = await self.servers.get(each.name)
            missing = server.missing(await self.credentials.of(server.name))
            if missing:
                lacking.append(
                    f"{server.name} lacks {', '.join(missing)}; set_server_credential sets what a server needs"
                )
            needed.append(Wanted(server, tools))
        lacking += [each.why for each in grant.unavailable]
        if lacking:
            raise ServerFailedError("; ".join(lacking))
        return needed

    async def _known(self, named: frozenset[str] | None, *, start: bool) -> list[KnownServer]:
        """Return what is known of the servers, thoroughly of those that are named, `None` for all, and enabled."""
        runner = KnownServer(RUNNER, tools=tuple(tool.name for tool in self.inside.tools))
        servers = await self.servers.list()
        looked_at = [it for it in servers if it.enabled and (named is None or it.name in named)]
        others = [KnownServer(it.name, it.enabled) for it in servers if it not in looked_at]
        tools = await self.servers.known_tools(looked_at)
        start = start and named is not None
        looks = (self._look_at(it, tools.get(it.name), start=start) for it in looked_at)
        return [runner, *await asyncio.gather(*looks), *others]

    async def _look_at(self, server: Server, known: Sequence[ToolInfo] | None, *, start: bool) -> KnownServer:
        problem = server.problem
        tools = None if known is None else tuple(tool.name for tool in known)
        missing: tuple[str, ...] = ()
        try:
            missing = server.missing(await self.credentials.of(server.name))
            if tools is None and start and problem is None:
                tools = tuple(str(tool["name"]) for tool in await self.pool.tools(server))
        except RunnerError as error:
            problem = str(error)
        return KnownServer(server.name, tools=tools, missing=missing, problem=problem)
