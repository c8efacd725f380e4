"""One rehearsal: it goes the way of a run, and on past what would have stopped that."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Final

from claude_runner.agent import Agent, Endpoint, Order, Stop, StopCause, account
from claude_runner.config import Clock
from claude_runner.errors import RunnerError, unusable
from claude_runner.grants import Grant, ServerGrant, plain, split_name, tool_name
from claude_runner.jobs import Job
from claude_runner.orders import (
    FolderUnavailableError,
    ProfileRefusedError,
    ToolRefusedError,
    folder_of,
    granted,
    instructions_for,
    make_folder,
    order_of,
)
from claude_runner.permissions import Profile
from claude_runner.pool import Door, Pool, Wanted
from claude_runner.reach import Reach
from claude_runner.rehearsal import FirstRequest, open_listener
from claude_runner.rehearsing._deaf import Deaf
from claude_runner.rehearsing._records import Problem, ServerState
from claude_runner.rehearsing._starts import Start, Starts
from claude_runner.runs import Run, State
from claude_runner.servers import RUNNER

ASK_SECONDS: Final = 25.0
LATE: Final = StopCause(
    State.ERROR,
    "start_timeout",
    f"Claude Code asked nothing within {ASK_SECONDS:.0f} seconds and was ended",
)


class Trial:
    """What was found out.

    Attributes:
        run: The run that it would be.
        folder: Where that works.
        problems: What it would have failed for, in the order in which it would have come to it.
        refused: Why, for each tool that may not or can't be granted.
        grant: What was granted, tools that are refused left out.
        servers: How each server is that a run would need.
        instructions: What the model is told besides the prompt.
        request: The first request, if it came to that.
        usd: What that costs at the list price, where this is known.
    """

    grant: Grant

    def __init__(
        self, run: Run, job: Job | None, reach: Reach, pool: Pool, door: Door, agent: Agent, clock: Clock
    ) -> None:
        self.run = run
        self.job = job
        self.now = clock.now()
        self.folder = folder_of(run, reach.settings)
        self.instructions = instructions_for(job, self.folder, self.now)
        self.problems: list[Problem] = []
        self.refused: dict[str, str] = {}
        self.servers: list[ServerState] = []
        self.request: FirstRequest | None = None
        self.usd: float | None = None
        self._wanted: list[Wanted] = []
        self._starts = Starts(pool, run.id, clock)
        self._reach = replace(reach, pool=self._starts)
        self._pool = pool
        self._door = door
        self._agent = agent

    async def carry_out(self) -> None:
        """Find out; on leaving, nothing is left of it but servers that the pool shares."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._pool.end_of_run, self.run.id)
            self.grant = await self._grant()
            made = await self._make_folder(stack)
            await self._see_what_servers_need()
            await self._start_servers()
            if made:
                await self._ask()

    async def _grant(self) -> Grant:
        try:
            return await self._granted(self.run)
        except ProfileRefusedError as error:
            self._note(error)
            return await self._granted(replace(self.run, profile=Profile.CONTAINED))

    async def _granted(self, run: Run) -> Grant:
        """Return what a run is granted, without the tools that are refused; each of those is noted."""
        with suppress(ToolRefusedError):  # the first of them; here follow all
            return await granted(self._reach, run)
        left = [tool for tool in run.tools if not await self._is_refused(tool, run)]
        if left:
            return await granted(self._reach, replace(run, tools=tuple(left)))
        defaults = await granted(self._reach, replace(run, tools=()))
        return Grant((), (), (), defaults.profile)

    async def _is_refused(self, tool: str, run: Run) -> bool:
        if split_name(tool) is not None:  # a server's tool never is
            return False
        try:
            await granted(self._reach, replace(run, tools=(tool,)))
        except ToolRefusedError as error:
            self.refused[tool] = str(error)
            self._note(error)
            return True
        return False

    async def _make_folder(self, stack: AsyncExitStack) -> bool:
        try:
            await make_folder(self.run, self._reach.settings)
        except FolderUnavailableError as error:
            self._note(error)
            return False
        if self.job is None:  # a folder that no other run will use
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, self.folder, ignore_errors=True)
        return True

    async def _see_what_servers_need(self) -> None:
        """Note what a run would have failed for before a server was started: credentials, and servers that are not."""
        for each in self.grant.servers:
            with self._noted():
                await self._reach.wanted(replace(self.grant, servers=(each,), unavailable=()))
        for lost in self.grant.unavailable:
            with self._noted():
                await self._reach.wanted(replace(self.grant, servers=(), unavailable=(lost,)))
            self.servers.append(self._state(lost.name, [], self.problems[-1].error))

    async def _start_servers(self) -> None:
        starts = await asyncio.gather(*map(self._start, self.grant.servers))
        for each, (wanted, names, error) in zip(self.grant.servers, starts, strict=True):
            if error is not None:
                self._note(error)
            if wanted is not None:
                self._wanted.append(wanted)
            self.servers.append(self._state(each.name, names, None if error is None else str(error)))

    async def _start(self, each: ServerGrant) -> tuple[Wanted | None, list[str], RunnerError | None]:
        """Return what can be lent of a server, the full names of its tools, and why it is not all that is wanted."""
        wanted = Wanted(None, None if each.tools is None else frozenset(each.tools))
        try:
            if each.name != RUNNER:
                wanted = replace(wanted, server=await self._reach.servers.get(each.name))
            listed = await self._listed(wanted)
        except RunnerError as error:
            return None, [], error
        had = [tool for tool in listed if wanted.grants(tool)]
        names = [tool_name(each.name, tool) for tool in had]
        try:
            await self._door.check(wanted, self.run.id)
        except RunnerError as error:
            return (replace(wanted, tools=frozenset(map(plain, had))) if had else None), names, error
        return wanted, names, None

    async def _listed(self, wanted: Wanted) -> list[str]:
        if wanted.server is None:
            return [tool.name for tool in self._reach.inside.tools]
        return [str(tool["name"]) for tool in await self._starts.tools(wanted.server)]

    def _state(self, name: str, tools: list[str], problem: str | None) -> ServerState:
        start = self._starts.made.get(name, Start(0.0 if name == RUNNER else None, was_up=name == RUNNER))
        return ServerState(name, start.was_up, start.seconds, tools, problem)

    async def _ask(self) -> None:
        """Have Claude Code ask what it would ask first."""
        with self._noted():
            async with open_listener() as model, AsyncExitStack() as stack:
                run, wanted = self.run, self._wanted
                config = await stack.enter_async_context(self._door.lend(run, wanted)) if wanted else None
                endpoint = Endpoint(model.base_url, model.api_key)
                order = order_of(run, self.job, self.grant, self.folder, wanted, config, endpoint, self.now)
                await self._execute(replace(order, kept=False))
                self.request = model.request

    async def _execute(self, order: Order) -> None:
        stop = Stop()
        late = asyncio.get_running_loop().call_later(ASK_SECONDS, stop.request, LATE)
        try:
            ending = await self._agent.execute(order, Deaf(), stop)
        finally:
            late.cancel()
        if ending.state is State.FINISHED:
            _, self.usd = account(ending.model_usage or {})
        else:
            self.problems.append(Problem(ending.reason or str(ending.state), ending.error or ""))

    def _note(self, error: RunnerError) -> None:
        self.problems.append(Problem(error.code, str(error)))

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note what a run would fail for, and go on."""
        try:
            yield
        except RunnerError as error:
            self._note(error)
        except OSError as error:  # the files the agent needs for itself
            self._note(unusable(error, self._reach.settings.state))
