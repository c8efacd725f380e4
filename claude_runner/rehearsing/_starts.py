"""Starts of tool servers, each made once whoever asks, with the time that it took."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from claude_runner.config import Clock
from claude_runner.errors import RunnerError, ServerFailedError
from claude_runner.pool import Json, Pool
from claude_runner.servers import Server

START_SECONDS: Final = 30.0  # for all of them together; each has the pool's own limit besides


@dataclass(frozen=True, slots=True)
class Start:
    """How a server's start went: what it lists, or why it failed; no seconds where it was not tried."""

    seconds: float | None
    was_up: bool
    tools: Sequence[Json] = ()
    error: RunnerError | None = None


class Starts:
    """Has servers list their tools, as the pool does."""

    def __init__(self, pool: Pool, run_id: str, clock: Clock) -> None:
        self.made: dict[str, Start] = {}
        self._pool = pool
        self._run_id = run_id
        self._clock = clock
        self._end = asyncio.get_running_loop().time() + START_SECONDS

    async def tools(self, server: Server, run_id: str = "") -> Sequence[Json]:  # noqa: ARG002 - always of the one run
        """Return what a server lists, starting it where it is not up.

        Raises:
            RunnerError: It does not start, or did not before.
        """
        if server.name not in self.made:
            self.made[server.name] = await self._start(server)
        start = self.made[server.name]
        if start.error is not None:
            raise start.error
        return start.tools

    async def _start(self, server: Server) -> Start:
        was_up = not server.per_run and self._pool.is_up(server)
        begun = self._clock.elapsed()
        tools: Sequence[Json] = ()
        failed: RunnerError | None = None
        try:
            async with asyncio.timeout_at(self._end):
                tools = await self._pool.tools(server, self._run_id)
        except RunnerError as error:
            failed = error
        except TimeoutError:
            failed = ServerFailedError(f"{server.name} was not up within {START_SECONDS:.0f} seconds")
        return Start(self._clock.elapsed() - begun, was_up, tools, failed)
