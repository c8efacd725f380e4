import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from claude_runner import runs
from claude_runner.agent import Stop
from claude_runner.app import App
from claude_runner.config import Settings
from claude_runner.dispatcher import CANCELLED, Dispatcher, Execute
from claude_runner.errors import ConflictError, NotFoundError
from claude_runner.gate import Gate
from claude_runner.hub import Topic
from claude_runner.runs import Ending, Run, RunFilter, State
from tests.parts import Parts, locked, logged, open_parts
from tests.support import MORNING, PATIENCE, ended

DONE = Ending(State.FINISHED, output="done")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


def dispatcher_of(parts: Parts, execute: Execute, *, most: int = 2, grace: float = 0.05) -> Dispatcher:
    settings = Settings(parts.path.parent, max_concurrent_runs=most, shutdown_grace_seconds=grace)
    return Dispatcher(
        parts.runs,
        parts.hub,
        parts.clock,
        settings,
        "here",
        execute,
        Gate(parts.database, parts.clock, settings),
    )


@asynccontextmanager
async def at_work(dispatcher: Dispatcher) -> AsyncIterator[None]:
    async with dispatcher.open(), dispatcher.claiming():
        yield


class Executions:
    """Executes runs as it is told to, and counts.

    Attributes:
        most: How many were executed at a time.
        most_starting: How many of them had not started.
    """

    def __init__(self, parts: Parts) -> None:
        self.most = self.most_starting = self._now = self._starting = 0
        self._parts = parts

    async def __call__(self, run: Run, _stop: Stop, start_is_over: Callable[[], None]) -> None:
        self._now += 1
        self._starting += 1
        self.most = max(self.most, self._now)
        self.most_starting = max(self.most_starting, self._starting)
        await self._let_others_try()
        self._starting -= 1
        start_is_over()
        start_is_over()  # a second time does no harm
        await self._let_others_try()
        self._now -= 1
        await finish(self._parts, run, DONE)

    async def _let_others_try(self) -> None:
        for _ in range(3):
            await self._parts.sql("SELECT 1")


async def finish(parts: Parts, run: Run, ending: Ending) -> None:
    assert await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))
    parts.hub.publish(Topic.RUNS, run.id)


def until_stopped(parts: Parts) -> Execute:
    """Executes until it is told to stop."""

    async def execute(run: Run, stop: Stop, start_is_over: Callable[[], None]) -> None:
        start_is_over()
        await stop.requested.wait()
        assert stop.cause is not None
        await finish(parts, run, Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason))

    return execute


async def all_ended(parts: Parts, count: int) -> None:
    await seen(parts, lambda: ended_are(parts, count))


async def ended_are(parts: Parts, count: int) -> bool:
    return (await parts.runs.list(RunFilter(state=State.FINISHED), 1)).total == count


async def seen(parts: Parts, condition: Callable[[], Awaitable[bool]]) -> None:
    with parts.hub.subscribe(*Topic) as changes:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await changes.changed.wait()
                changes.take()


def is_in(parts: Parts, run_id: str, state: State) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await parts.runs.get(run_id)).state is state

    return look


# Places and the start gate


async def test_so_many_runs_go_on_at_once_as_may(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    executions = Executions(parts)
    for _ in range(9):
        await parts.pending()
    async with at_work(dispatcher_of(parts, executions, most=3)):
        await all_ended(parts, 9)
    assert executions.most == 3


@pytest.mark.parametrize(("cores", "at_once"), [(2, 2), (None, 1)])
async def test_so_many_runs_start_at_once_as_there_are_cores(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, cores: int | None, at_once: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    executions = Executions(parts)
    for _ in range(8):
        await parts.pending()
    async with at_work(dispatcher_of(parts, executions, most=8)):
        await all_ended(parts, 8)
    assert executions.most_starting == at_once


async def test_the_start_gate_opens_before_the_run_has_ended(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    first, second = await parts.pending(), await parts.pending()
    async with at_work(dispatcher_of(parts, until_stopped(parts))):
        await seen(parts, is_in(parts, first, State.RUNNING))
        await seen(parts, is_in(parts, second, State.RUNNING))


async def test_a_new_run_starts_at_once_without_the_clock(app: App) -> None:
    run = await ended(app, await app.runs.add(runs.NewRun("go", runs.Trigger.QUICK), app.clock.now()))
    assert (run.state, run.output, run.finished_at) == (State.FINISHED, "done", MORNING)


async def test_runs_that_were_pending_before_are_executed(parts: Parts) -> None:
    await parts.pending()
    async with at_work(dispatcher_of(parts, Executions(parts))):
        await all_ended(parts, 1)


async def test_a_run_that_must_wait_starts_at_its_time(parts: Parts) -> None:
    await parts.pending()
    await parts.sql("UPDATE runs SET not_before = '2026-11-23T09:00:00.000+00:00'")
    async with at_work(dispatcher_of(parts, Executions(parts))):
        parts.clock.move(30)
        await all_ended(parts, 1)


async def test_a_run_whose_time_was_written_by_hand_as_none_holds_up_nobody(parts: Parts) -> None:
    await parts.pending()
    await parts.sql("UPDATE runs SET not_before = 'tomorrow'")
    async with at_work(dispatcher_of(parts, Executions(parts))):
        await parts.pending()
        await all_ended(parts, 1)


async def test_an_execution_that_breaks_frees_its_place(parts: Parts) -> None:
    async def execute(run: Run, stop: Stop, start_is_over: Callable[[], None]) -> None:
        if run.id == bad:
            raise RuntimeError("broken")
        await Executions(parts)(run, stop, start_is_over)

    bad = await parts.pending()
    with logged("claude_runner.dispatcher") as log:
        async with at_work(dispatcher_of(parts, execute, most=1)):
            assert "broken" in await log.line(f"run {bad}: could not be executed")
            await parts.pending()
            await all_ended(parts, 1)


async def test_a_database_that_refuses_is_logged_and_asked_again_in_a_second(parts: Parts) -> None:
    await parts.pending()
    with logged("claude_runner.dispatcher") as log, ExitStack() as lock:
        lock.enter_context(locked(parts.path))
        async with at_work(dispatcher_of(parts, Executions(parts))):
            await log.line("could not look for pending runs; trying again in a second")
            parts.clock.move(1)
            await log.line("could not look for pending runs", count=2)
            lock.close()
            parts.clock.move(1)
            await all_ended(parts, 1)


# Cancelling


async def test_a_pending_run_is_cancelled(parts: Parts) -> None:
    run_id = await parts.pending()
    cancelled = await dispatcher_of(parts, Executions(parts)).cancel(run_id)
    assert (cancelled.state, cancelled.reason, cancelled.error) == (
        State.CANCELLED, "cancelled", "cancelled by request",
    )  # fmt: skip


async def test_a_running_run_is_cancelled(parts: Parts) -> None:
    run_id = await parts.pending()
    dispatcher = dispatcher_of(parts, until_stopped(parts))
    async with at_work(dispatcher):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
        assert (await dispatcher.cancel(run_id)).state is State.CANCELLED


async def test_a_run_just_claimed_is_cancelled(parts: Parts) -> None:
    run_id = await parts.pending()
    dispatcher = dispatcher_of(parts, until_stopped(parts))
    async with at_work(dispatcher):  # which is claiming it at this very moment
        assert (await dispatcher.cancel(run_id)).state is State.CANCELLED


async def test_a_second_cancel_does_no_harm(parts: Parts) -> None:
    run_id = await parts.pending()
    dispatcher = dispatcher_of(parts, until_stopped(parts))
    async with at_work(dispatcher):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
        both = await asyncio.gather(dispatcher.cancel(run_id), dispatcher.cancel(run_id))
        assert both[0] == both[1] == await dispatcher.cancel(run_id)


async def test_cancelling_what_has_ended_changes_nothing(parts: Parts) -> None:
    run_id = await parts.pending()
    dispatcher = dispatcher_of(parts, Executions(parts))
    async with at_work(dispatcher):
        await all_ended(parts, 1)
        assert (await dispatcher.cancel(run_id)).state is State.FINISHED


async def test_cancelling_an_unknown_run_is_not_found(parts: Parts) -> None:
    with pytest.raises(NotFoundError, match="there is no run 'x'"):
        await dispatcher_of(parts, Executions(parts)).cancel("x")


async def test_whoever_executes_a_run_hears_that_it_is_to_end(parts: Parts) -> None:
    run_id = await parts.pending()
    asking = dispatcher_of(parts, Executions(parts))
    async with at_work(dispatcher_of(parts, until_stopped(parts))):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
        assert (await asking.cancel(run_id)).state is State.CANCELLED


async def test_a_run_of_a_worker_that_does_not_answer_is_a_conflict(parts: Parts) -> None:
    run = await parts.claimed()
    dispatcher = dispatcher_of(parts, Executions(parts))
    with parts.hub.subscribe(Topic.CANCEL) as asked:
        cancelling = asyncio.create_task(dispatcher.cancel(run.id))
        async with asyncio.timeout(PATIENCE):
            await asked.changed.wait()
    parts.clock.move(10)
    with pytest.raises(ConflictError, match=f"run {run.id} is executed by another server process"):
        await cancelling


# Stopping


async def test_a_run_that_ends_within_the_grace_is_finished(parts: Parts) -> None:
    go_on = asyncio.Event()

    async def execute(run: Run, _stop: Stop, start_is_over: Callable[[], None]) -> None:
        start_is_over()
        await go_on.wait()
        await finish(parts, run, DONE)

    run_id = await parts.pending()
    async with at_work(dispatcher_of(parts, execute, grace=PATIENCE)):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
        asyncio.get_running_loop().call_later(0.02, go_on.set)
    assert (await parts.runs.get(run_id)).state is State.FINISHED


async def test_a_run_that_outlasts_the_grace_is_ended_as_server_stopped(parts: Parts) -> None:
    run_id = await parts.pending()
    async with at_work(dispatcher_of(parts, until_stopped(parts))):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
    run = await parts.runs.get(run_id)
    assert (run.state, run.reason) == (State.ERROR, "server_stopped")
    assert run.error == "the server was stopped while this run was going on"


async def test_a_run_stays_pending_once_no_more_are_claimed(parts: Parts) -> None:
    async with dispatcher_of(parts, Executions(parts)).claiming():
        pass
    run_id = await parts.pending()
    assert (await parts.runs.get(run_id)).state is State.PENDING


async def test_a_run_that_waits_while_the_server_stops_stays_pending(parts: Parts) -> None:
    first = await parts.pending()
    parts.clock.move(1)
    second = await parts.pending()
    async with at_work(dispatcher_of(parts, until_stopped(parts), most=1)):
        await seen(parts, is_in(parts, first, State.RUNNING))
    assert (await parts.runs.get(second)).state is State.PENDING


async def test_an_error_in_the_server_leaves_its_runs_wound_down_and_is_raised_as_it_is(parts: Parts) -> None:
    run_id = await parts.pending()

    async def serve_and_break() -> None:
        async with at_work(dispatcher_of(parts, until_stopped(parts))):
            await seen(parts, is_in(parts, run_id, State.RUNNING))
            raise KeyError

    with pytest.raises(KeyError):
        await serve_and_break()
    assert (await parts.runs.get(run_id)).reason == "server_stopped"


async def test_a_cancel_stands_though_the_server_stops(parts: Parts) -> None:
    holding = asyncio.Event()

    async def execute(run: Run, stop: Stop, start_is_over: Callable[[], None]) -> None:
        start_is_over()
        await stop.requested.wait()
        await holding.wait()
        assert stop.cause is CANCELLED
        await finish(parts, run, Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason))

    run_id = await parts.pending()
    dispatcher = dispatcher_of(parts, execute)
    async with at_work(dispatcher):
        await seen(parts, is_in(parts, run_id, State.RUNNING))
        cancelling = asyncio.create_task(dispatcher.cancel(run_id))
        asyncio.get_running_loop().call_later(0.1, holding.set)  # later than the grace
    assert (await cancelling).state is State.CANCELLED
