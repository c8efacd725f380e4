"""One run, from claimed to ended: its tools, its folder, its deadline, and the one write that ends it."""

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeVar

from claude_runner import inside, jobs, runs, telling, webhooks
from claude_runner.agent import Agent, Endpoint, Order, Stop, StopCause
from claude_runner.attempts import conclude, ended_by, rules_of
from claude_runner.budgets import Purse, Reached, Scope, Watch, settle
from claude_runner.config import Clock, Settings
from claude_runner.db import Database
from claude_runner.errors import RunnerError, UnavailableError, unusable
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import Job, OnCrash
from claude_runner.orders import granted, make_folder, order_of
from claude_runner.pool import Door
from claude_runner.reach import Reach
from claude_runner.recorder import Recorder, Waiting
from claude_runner.redaction import Redactor
from claude_runner.runs import Ending, Granted, Run, Runs, State, ToolCall, Transcripts
from claude_runner.settings import default_model, prices

T = TypeVar("T")

GIVEN_UP: Final = StopCause(State.ERROR, "given_up", "this attempt was given up by the server")


class Patience(NamedTuple):
    """How long an agent may be silent, in seconds, and what it means when it was for longer."""

    seconds: float
    cause: StopCause


# A tool may take as long as it likes within the run's time: the CLI bounds each by itself. A model that answers is
# heard all the time; the CLI gives up a request that stalls after 300 s, and one without an answer after 120 s.
SILENT: Final = {
    Waiting.FOR_START: Patience(
        90,
        StopCause(State.ERROR, "start_timeout", "Claude Code did not start within 90 seconds and was ended"),
    ),
    Waiting.FOR_MODEL: Patience(
        360, StopCause(State.ERROR, "silent", "nothing was heard of it for 6 minutes, so it was ended")
    ),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Runner:
    """Executes claimed runs.

    Attributes:
        reach: Tells what a run may reach.
        door: Lets it in there.
        rehearsal: Tells where the embedded stand-in model listens.
        purse: Tells when a run has cost too much.
        redactor: Replaces secrets in whatever is written about a run.
    """

    database: Database
    hub: Hub
    runs: Runs
    agent: Agent
    clock: Clock
    settings: Settings
    reach: Reach
    door: Door
    rehearsal: Callable[[], Awaitable[Endpoint]]
    purse: Purse
    redactor: Redactor = field(default_factory=Redactor)

    async def execute(self, run: Run, stop: Stop, start_is_over: Callable[[], None]) -> None:
        """Execute the attempt and end its row, whatever happens."""
        watch: Watch | None = None

        def spent(cost_usd: float | None) -> None:
            if watch is None:
                return
            if cost_usd is None and (unkept := watch.unkept(recorder.model)) is not None:
                recorder.warn(unkept)
            if (reached := watch.spent(cost_usd)) is not None:
                stop.request(StopCause(State.ERROR, "budget", f"it was stopped: {reached.sentence}"))

        recorder = Recorder(
            run, self.runs, self.clock, start_is_over, lambda: stop.request(GIVEN_UP), self.redactor, spent
        )
        try:
            watch = await self.purse.watch(run)
            ending = await self._carry_out(run, recorder, stop, watch)
        except RunnerError as error:
            ending = _failed(error)
        except Exception:
            error_id = secrets.token_hex(4)
            log.exception("run %s: unexpected error %s", run.id, error_id)
            ending = Ending(
                State.ERROR,
                reason="internal_error",
                error=f"the server made a mistake; its log tells more under {error_id}",
            )
        try:
            await self._end(run, recorder.redacted(ending), recorder, watch)
        finally:
            if watch is not None:
                watch.close()

    async def _carry_out(self, run: Run, recorder: Recorder, stop: Stop, watch: Watch) -> Ending:
        if (reached := watch.reached()) is not None:
            cost = 0.0 if run.attempt <= 1 else None  # nothing was asked; what earlier attempts cost stands
            refusal = f"it was not started: {reached.sentence}"
            return Ending(State.ERROR, reason="budget", error=refusal, cost_usd=cost)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(recorder.serve())
            tasks.create_task(self._watch(run, recorder, ended, stop))
            try:
                return await self._work(run, recorder, stop)
            except RunnerError as error:
                return _failed(error)
            except OSError as error:  # the files the agent needs for itself
                return _failed(unusable(error, self.settings.state))
            finally:
                ended.set()
                recorder.close()

    async def _work(self, run: Run, recorder: Recorder, stop: Stop) -> Ending:
        async with AsyncExitStack() as stack:
            order = await _unless_stopped(stop, self._order(run, recorder, stack))
            if isinstance(order, Order):
                return await self.agent.execute(order, recorder, stop)
            if order is not None:
                return order
        cause = stop.cause or GIVEN_UP
        return Ending(cause.state, reason=cause.reason, error=cause.error)

    async def _order(self, run: Run, recorder: Recorder, stack: AsyncExitStack) -> Order | Ending:
        """Return what the agent is to do, or how the run ends where that is already clear.

        Args:
            run: The attempt.
            recorder: Is told what was granted.
            stack: Keeps open what the run reaches its servers by.
        """
        if refused := await self.database.read(lambda c: inside.refused(c, run)):
            return refused
        job = (
            None if run.job_id is None else await self.database.read(lambda c: jobs.find(c, run.job_id or ""))
        )
        if job is not None and job.policy.heartbeat_url is not None:
            await self._tell_of_start(run, job)
        webhook = await self._webhook_of(run)
        grant = await granted(self.reach, run)
        recorder.granted = Granted(grant.profile, grant.warnings)
        folder = await make_folder(run, self.settings)
        wanted = await self.reach.wanted(grant)
        mcp_config = await stack.enter_async_context(self.door.lend(run, wanted)) if wanted else None
        endpoint = await self.rehearsal() if run.rehearsal else None
        asked = run if run.model or run.rehearsal else replace(run, model=await self._default_model())
        interrupted, keeps = await self.database.read(lambda c: _gone_before(c, run, job))
        return order_of(
            asked,
            job,
            grant,
            folder,
            wanted,
            mcp_config,
            endpoint,
            self.clock.now(),
            webhook,
            interrupted,
            Transcripts(self.database, self.clock) if keeps else None,
            await self.database.read(prices),
        )

    async def _tell_of_start(self, run: Run, job: Job) -> None:
        now = self.clock.now()
        try:
            await self.database.write(lambda c: telling.on_start(c, run, job, now), durable=False)
        except UnavailableError as error:  # which is no reason not to begin
            log.warning("run %s: its heartbeat can't be written down: %s", run.id, error)
        self.hub.publish(Topic.OUTBOX, job.id)

    async def _default_model(self) -> str | None:
        """Return the model of a run that names none, `None` for Claude Code's own default."""
        return await self.database.read(default_model)

    async def _webhook_of(self, run: Run) -> str | None:
        """Return the name of the webhook that started the run; that of one that is gone is its id."""
        webhook_id = run.webhook_id
        if webhook_id is None:
            return None
        return await self.database.read(lambda c: webhooks.title(c, webhook_id)) or webhook_id

    async def _watch(self, run: Run, recorder: Recorder, ended: asyncio.Event, stop: Stop) -> None:
        """Stop a run that takes too long as a whole, does not start, or has gone silent."""
        minutes = "1 minute" if run.timeout_minutes == 1 else f"{run.timeout_minutes} minutes"
        total = StopCause(State.ERROR, "timeout", f"it was not done within {minutes} and was ended")
        end = self.clock.elapsed() + run.timeout_minutes * 60
        while not ended.is_set():
            silence = recorder.silence
            deadline, cause = end, total
            if silence.waiting in SILENT and silence.since + SILENT[silence.waiting].seconds < end:
                deadline = silence.since + SILENT[silence.waiting].seconds
                cause = SILENT[silence.waiting].cause
            left = deadline - self.clock.elapsed()
            if left <= 0:
                stop.request(cause)
                return
            await self.clock.pause(ended, left)

    async def _end(self, run: Run, ending: Ending, recorder: Recorder, watch: Watch | None) -> None:
        """End the attempt's row with all that was heard, and try again for as long as the database can't be written.

        An end that was given up would leave its job with a run that goes on for ever. Who executes it may cancel.
        """
        now = self.clock.now()
        (events, tokens), calls = recorder.rest(), recorder.closed_calls()

        def write(c: sqlite3.Connection) -> bool:
            if recorder.granted is not None:
                runs.grant(c, run, recorder.granted)
            runs.close_calls(c, run, calls)
            runs.append(c, run.id, run.attempt, events)
            cost = recorder.cost_usd if ending.tokens is None and ending.cost_usd is None else ending.cost_usd
            ended = conclude(c, run, replace(ending, tokens=ending.tokens or tokens, cost_usd=cost), now)
            if ended and ending.reason == "budget":
                settle(c, run, _met(run, ending, watch), now)
            return ended

        while True:
            try:
                if not await ended_by(self.database, write, run, ending, now):
                    log.warning("run %s: attempt %d was ended by someone else", run.id, run.attempt)
                break
            except UnavailableError as error:
                log.warning("run %s: its end can't be written yet: %s", run.id, error)
                await self.clock.pause(asyncio.Event(), 1)
        self.hub.publish(Topic.RUNS, run.id)
        log.info("run %s: %s", run.id, f"{ending.state} ({ending.reason})" if ending.reason else ending.state)


def _met(run: Run, ending: Ending, watch: Watch | None) -> Reached:
    """Return the budget that ended a run: one of ours, else that of Claude Code or of a chain of runs."""
    if watch is not None and watch.met is not None:
        return watch.met
    return Reached(Scope.RUN, ending.error or "", None, run.max_cost_usd or 0.0)


def _gone_before(c: sqlite3.Connection, run: Run, job: Job | None) -> tuple[list[ToolCall], bool]:
    """Read which calls of a run that goes on have an unknown outcome, and whether its session is to be kept."""
    interrupted = runs.abandoned(c, run.id) if run.resumes else []
    return interrupted, rules_of(c, job).on_crash is OnCrash.RESUME


async def _unless_stopped(stop: Stop, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what comes of the work, or `None` once the run is to stop: the work is given up then."""
    working = asyncio.create_task(work)
    requested = asyncio.create_task(stop.requested.wait())
    try:
        await asyncio.wait({working, requested}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        requested.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    return None if working.cancelled() else working.result()


def _failed(error: RunnerError) -> Ending:
    return Ending(State.ERROR, reason=error.code, error=str(error))
