"""The seam between "a run is pending" and "somebody executes it": here, this process does.

Pending rows are the queue. A run is claimed once a place is free (`max_concurrent_runs`) and the start gate is open:
a start costs more than half a second of a core, so that as many runs start at a time as there are cores, and the
others wait as `pending`.
"""

import asyncio
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from claude_runner.agent import Stop, StopCause
from claude_runner.config import Clock, Settings
from claude_runner.errors import ConflictError, RunnerError
from claude_runner.gate import Gate
from claude_runner.hub import Hub, Subscription, Topic
from claude_runner.runs import Run, Runs, State

CANCELLED: Final = StopCause(State.CANCELLED, "cancelled", "cancelled by request")
SUPERSEDED: Final = StopCause(
    State.CANCELLED,
    "superseded",
    "the next slot of its job came, whose rules let the newer run take its place",
)
SERVER_STOPPED: Final = StopCause(
    State.ERROR, "server_stopped", "the server was stopped while this run was going on"
)
LONGEST_SLEEP: Final = timedelta(seconds=60)
PAUSE_AFTER_FAILURE_SECONDS: Final = 1
PATIENCE_SECONDS: Final = 10  # how long another process may take to end a run of its own
END_SECONDS: Final = 30  # how long a stopping server waits for a disk to take its runs' ends

Execute = Callable[[Run, Stop, Callable[[], None]], Awaitable[None]]

log = logging.getLogger(__name__)


class _Execution(NamedTuple):
    stop: Stop
    task: asyncio.Task[None]


class Dispatcher:
    """Executes pending runs in this process."""

    def __init__(
        self,
        runs: Runs,
        hub: Hub,
        clock: Clock,
        settings: Settings,
        worker: str,
        execute: Execute,
        gate: Gate,
    ) -> None:
        """Make a dispatcher that does nothing yet.

        Args:
            runs: Where the pending runs are.
            hub: Tells of new ones.
            clock: The time.
            settings: The server's.
            worker: This process's name among those that execute runs.
            execute: Executes a claimed run to its end; calls its last argument once the start is over.
            gate: Tells whether runs are held back.
        """
        self._runs = runs
        self._gate = gate
        self._hub = hub
        self._clock = clock
        self._settings = settings
        self._worker = worker
        self._execute = execute
        self._executions: dict[str, _Execution] = {}
        self._starting = 0
        self._starts_at_a_time = os.cpu_count() or 1
        self._may_claim = False
        self._claim_under_way = asyncio.Lock()
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take requests to cancel while the context is open.

        On leaving, the runs that are going on get the settings' grace, then they are stopped. No process of theirs
        is left afterwards.
        """
        with self._hub.subscribe(Topic.CANCEL) as wanted:
            heeding = asyncio.create_task(self._heed(wanted), name="cancel requests")
            try:
                yield
            finally:
                await self._wind_down()
                heeding.cancel()
                await asyncio.wait({heeding})

    @asynccontextmanager
    async def claiming(self) -> AsyncIterator[None]:
        """Claim and execute pending runs while the context is open; those going on at its end go on."""
        self._may_claim = True
        with self._hub.subscribe(Topic.RUNS, wake=self._wake) as changes:
            claiming = asyncio.create_task(self._claim(changes), name="dispatcher")
            try:
                yield
            finally:
                self._may_claim = False
                self._wake.set()
                await asyncio.wait({claiming})  # not cancelled: a run might be claimed and executed by nobody

    async def cancel(self, run_id: str) -> Run:
        """End a run, whichever process executes it, and return it as it is then; one that has ended stays as it is.

        Raises:
            NotFoundError: There is no such run.
            ConflictError: The process that executes it did not answer.
        """
        if not await self._runs.cancel_pending(run_id, CANCELLED.error, self._clock.now()):
            await self._stop(run_id, wait=True)
        run = await self._runs.get(run_id)
        return run if run.state.is_final else await self._ask_others(run_id)

    async def _stop(self, run_id: str, *, wait: bool) -> None:
        """Stop a run that this process executes, if it does."""
        async with self._claim_under_way:
            execution = self._executions.get(run_id)
        if execution is not None:
            run = await self._runs.get(run_id)
            execution.stop.request(SUPERSEDED if run.superseded else CANCELLED)
            if wait:
                await asyncio.wait({execution.task})

    async def _ask_others(self, run_id: str) -> Run:
        patience = self._clock.elapsed() + PATIENCE_SECONDS
        asked = 0
        with self._hub.subscribe(Topic.RUNS) as changes:
            while True:
                run = await self._runs.get(run_id)
                if run.state.is_final:
                    return run
                if run.state is State.PENDING:  # its attempt has failed meanwhile, and it waits for another
                    await self._runs.cancel_pending(run_id, CANCELLED.error, self._clock.now())
                    continue
                if run.attempt != asked:
                    asked = run.attempt
                    self._hub.publish(Topic.CANCEL, run_id)
                left = patience - self._clock.elapsed()
                if left <= 0:
                    raise ConflictError(
                        f"run {run_id} is executed by another server process, which does not answer"
                    )
                await self._clock.pause(changes.changed, left)
                changes.take()

    async def _heed(self, wanted: Subscription) -> None:
        """Stop the runs of this process that someone, here or in another process, wants cancelled."""
        while True:
            await wanted.changed.wait()
            for change in wanted.take():
                try:
                    await self._stop(change.key, wait=False)
                except (
                    RunnerError
                ) as error:  # whoever asked sees that it goes on; the others are still heeded
                    log.warning("run %s: could not be stopped: %s", change.key, error)

    async def _claim(self, changes: Subscription) -> None:
        """Start pending runs as places and the start gate allow."""
        is_open = False
        while self._may_claim:
            changes.take()  # which they are is of no matter; kept, they would pile up
            now = self._clock.now()  # a run whose time comes while others are claimed is not slept over
            try:
                if not is_open:
                    await self._gate.open()
                    is_open = True
                while self._may_start() and await self._claim_one():
                    pass
                await self._clock.wait(self._wake, await self._look_again_at(now))
            except Exception as error:
                log.exception(
                    "could not look for pending runs; trying again in a second: %s",
                    error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                    exc_info=not isinstance(error, RunnerError),
                )
                await self._clock.pause(self._wake, PAUSE_AFTER_FAILURE_SECONDS)

    async def _look_again_at(self, now: datetime) -> datetime:
        """Return when a run that waits for its time may start, but a minute from now at the latest.

        Where no place is free it is not asked for: the end of a run wakes as well.
        """
        horizon = now + LONGEST_SLEEP
        if not self._may_start():
            return horizon
        first, open_at = await self._runs.next_parked_until(now), await self._gate.opens_at(now)
        return min(first or horizon, open_at or horizon, horizon)

    async def _claim_one(self) -> bool:
        async with self._claim_under_way:
            run = await self._runs.claim(
                self._worker, str(uuid.uuid4()), self._clock.now(), self._gate.is_closed
            )
            if run is not None:
                self._start(run)
            return run is not None

    def _may_start(self) -> bool:
        return (
            self._may_claim
            and len(self._executions) < self._settings.max_concurrent_runs
            and self._starting < self._starts_at_a_time
        )

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
        _, left = await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in left:
            log.error("%s: its end could not be written; the next start ends it", task.get_name())
            task.cancel()
        if left:
            await asyncio.wait(left)
