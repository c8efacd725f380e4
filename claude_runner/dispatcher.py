"""The seam between "a run is pending" and "somebody executes it": here, this process does.

Pending rows are the queue. A run is claimed once a place is free (`max_concurrent_runs`) and the start gate is open:
a start costs more than half a second of a core, so that as many runs start at a time as there are cores, and the
others wait as `pending`.
"""

import asyncio
import logging
import os
import platform
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, NamedTuple

from claude_runner.agent import Stop, StopCause
from claude_runner.config import Clock, Settings
from claude_runner.errors import ConflictError
from claude_runner.hub import Hub, Topic
from claude_runner.runs import Run, Runs, State

CANCELLED: Final = StopCause(State.CANCELLED, "cancelled", "cancelled by request")
SERVER_STOPPED: Final = StopCause(
    State.ERROR, "server_stopped", "the server was stopped while this run was going on; it was not run again"
)
LONGEST_SLEEP: Final = timedelta(seconds=60)
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=1)

Execute = Callable[[Run, Stop, Callable[[], None]], Awaitable[None]]

log = logging.getLogger(__name__)


class _Execution(NamedTuple):
    stop: Stop
    task: asyncio.Task[None]


class Dispatcher:
    """Executes pending runs in this process."""

    def __init__(self, runs: Runs, hub: Hub, clock: Clock, settings: Settings, execute: Execute) -> None:
        """Make a dispatcher that is not running yet.

        Args:
            runs: Where the pending runs are.
            hub: Tells of new ones.
            clock: The time.
            settings: The server's.
            execute: Executes a claimed run to its end; calls its last argument once the start is over.
        """
        self._runs = runs
        self._hub = hub
        self._clock = clock
        self._settings = settings
        self._execute = execute
        self._worker = f"{platform.node()}:{os.getpid()}"
        self._executions: dict[str, _Execution] = {}
        self._starting = 0
        self._starts_at_a_time = os.cpu_count() or 1
        self._stopping = False
        self._wake = asyncio.Event()

    @property
    def executing(self) -> frozenset[str]:
        """Return the ids of the runs that this process executes."""
        return frozenset(self._executions)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Execute pending runs while the context is open.

        On leaving, no further run is claimed; those going on get the settings' grace, then they are stopped. No
        process of theirs is left afterwards.
        """
        with self._hub.subscribe(Topic.RUNS, wake=self._wake):
            # No TaskGroup: it would cancel runs that must be wound down, and wrap what the caller's body raises.
            claiming = asyncio.create_task(self._claim(), name="dispatcher")
            try:
                yield
            finally:
                self._stopping = True
                self._wake.set()
                await asyncio.wait({claiming})
                await self._wind_down()

    async def cancel(self, run_id: str) -> Run:
        """End a run, wherever it stands, and return it as it is then; a run that has ended stays as it is.

        Raises:
            NotFoundError: There is no such run.
            ConflictError: Another server process executes it.
        """
        if not await self._runs.cancel_pending(run_id, CANCELLED.error, self._clock.now()):
            execution = self._executions.get(run_id)
            if execution is not None:
                execution.stop.request(CANCELLED)
                await asyncio.wait({execution.task})
        run = await self._runs.get(run_id)
        if not run.state.is_final:
            raise ConflictError(f"run {run_id} is executed by another server process; stop it there")
        return run

    async def _claim(self) -> None:
        """Start pending runs as places and the start gate allow, until told to stop.

        It is never cancelled: a claim under way would leave a run that nobody executes.
        """
        while not self._stopping:
            self._wake.clear()
            wake_at = self._clock.now() + LONGEST_SLEEP
            try:
                while self._may_start() and (run := await self._next()) is not None:
                    self._start(run)
            except Exception:
                log.exception("could not look for pending runs; trying again in a second")
                wake_at = self._clock.now() + PAUSE_AFTER_FAILURE
            await self._clock.wait(self._wake, wake_at)

    def _may_start(self) -> bool:
        return (
            not self._stopping
            and len(self._executions) < self._settings.max_concurrent_runs
            and self._starting < self._starts_at_a_time
        )

    async def _next(self) -> Run | None:
        return await self._runs.claim(self._worker, str(uuid.uuid4()), self._clock.now())

    def _start(self, run: Run) -> None:
        stop = Stop()
        self._starting += 1
        task = asyncio.create_task(self._drive(run, stop), name=f"run {run.id}")
        self._executions[run.id] = _Execution(stop, task)

    async def _drive(self, run: Run, stop: Stop) -> None:
        """Execute a run and free its place, and the start gate as soon as it has started."""
        starting = True

        def start_is_over() -> None:
            nonlocal starting
            if starting:
                starting = False
                self._starting -= 1
                self._wake.set()

        try:
            await self._execute(run, stop, start_is_over)
        except Exception:
            log.exception("run %s: could not be executed", run.id)
        finally:
            start_is_over()
            del self._executions[run.id]
            self._wake.set()

    async def _wind_down(self) -> None:
        tasks = {execution.task for execution in self._executions.values()}
        if not tasks:
            return
        log.info("waiting up to %g s for %d runs", self._settings.shutdown_grace_seconds, len(tasks))
        await asyncio.wait(tasks, timeout=self._settings.shutdown_grace_seconds)
        for execution in self._executions.values():
            execution.stop.request(SERVER_STOPPED)
        await asyncio.wait(tasks)
