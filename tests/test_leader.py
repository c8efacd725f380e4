"""Several servers on one home: one leads, the others are heard, and none is missed when it goes."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft
from claude_runner.leader import Workers
from claude_runner.runs import NewRun, RunFilter, State, Trigger
from tests.soak import soak
from tests.support import PATIENCE, FakeAgent, FakeClock, ended, running, until

ROOT = Path(__file__).parent.parent
Another = Callable[[FakeAgent], AbstractAsyncContextManager[App]]


@pytest.fixture
def waiting() -> FakeAgent:
    return FakeAgent(FakeAgent.wait_for_stop)


@pytest.fixture
def another(tmp_path: Path, clock: FakeClock) -> Another:
    """Opens one more server on the same home."""

    @asynccontextmanager
    async def opened(agent: FakeAgent) -> AsyncIterator[App]:
        settings = Settings(home=tmp_path, shutdown_grace_seconds=0.05)
        async with open_app(settings, agent=agent, clock=clock) as app:
            yield app

    return opened


async def leads(app: App) -> None:
    async with asyncio.timeout(PATIENCE):
        while not app.leadership.leading:  # noqa: ASYNC110 - leading is nobody's event
            await asyncio.sleep(0.01)


async def follows(app: App) -> None:
    async with asyncio.timeout(PATIENCE):
        while not app.leadership.following:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_one_of_several_leads(another: Another) -> None:
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(another(FakeAgent())) for _ in range(5)]
        await leads(apps[0])
        for app in apps[1:]:
            await follows(app)
        assert [app.leadership.leading for app in apps] == [True, False, False, False, False]


async def test_what_is_said_to_one_is_done_by_the_leader(another: Another) -> None:
    doing, idle = FakeAgent(), FakeAgent()
    async with another(doing) as leader, another(idle) as follower:
        await leads(leader)
        await follows(follower)
        run_id = await follower.runs.add(NewRun("hi", Trigger.QUICK), follower.clock.now())
        assert (await ended(follower, run_id)).output == "done"
    assert [order.run_id for order in doing.orders] == [run_id]
    assert not idle.orders


async def test_a_job_made_through_one_is_fired_by_the_leader(another: Another, clock: FakeClock) -> None:
    async with another(FakeAgent()) as leader, another(FakeAgent()) as follower:
        await leads(leader)
        await follows(follower)
        await follower.jobs.add(JobDraft("brief", "0 9 * * *", "hi", "UTC"), clock.now())
        clock.move(timedelta(seconds=30))  # nine o'clock

        async def fired() -> bool:
            return (await follower.runs.list(RunFilter(state=State.FINISHED), 10)).total == 1

        await until(fired, follower, Topic.RUNS)


async def test_a_run_is_cancelled_through_a_server_that_does_not_execute_it(
    another: Another, waiting: FakeAgent
) -> None:
    async with another(waiting) as leader, another(FakeAgent()) as follower:
        await leads(leader)
        await follows(follower)
        run_id = await leader.runs.add(NewRun("hi", Trigger.QUICK), leader.clock.now())
        await running(leader, run_id, said="half a sen")
        cancelled = await follower.dispatcher.cancel(run_id)
        assert (cancelled.state, cancelled.output) == (State.CANCELLED, "half a sen")


async def test_when_the_leader_ends_another_leads_and_nothing_pending_is_lost(
    another: Another, waiting: FakeAgent
) -> None:
    doing = FakeAgent()
    async with AsyncExitStack() as first:
        leader = await first.enter_async_context(another(waiting))
        await leads(leader)
        async with another(doing) as follower:
            await follows(follower)
            going_on = [
                await leader.runs.add(NewRun("hi", Trigger.QUICK), leader.clock.now()) for _ in range(2)
            ]
            for run_id in going_on:
                await running(leader, run_id)
            pending = await leader.runs.add(NewRun("hi", Trigger.QUICK), leader.clock.now())
            await first.aclose()
            assert (await ended(follower, pending)).output == "done"
            assert [order.run_id for order in doing.orders] == [pending]
            for run_id in going_on:
                stopped = await ended(follower, run_id)
                assert (stopped.state, stopped.reason) == (State.ERROR, "server_stopped")


async def test_runs_of_a_server_that_died_are_ended_and_not_run_again(
    tmp_path: Path, another: Another
) -> None:
    async with another(FakeAgent()) as app:
        run_id = await app.runs.add(NewRun("hi", Trigger.QUICK), app.clock.now() + timedelta(days=1))
        await ended(app, run_id)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        connection.execute(
            "UPDATE runs SET state = 'running', worker = 'a-dead-one', finished_at = NULL, output = NULL"
        )
    agent = FakeAgent()
    async with another(agent) as app:
        lost = await ended(app, run_id)
    assert (lost.state, lost.reason, lost.output) == (State.ERROR, "server_stopped", "done")
    assert agent.swept == [run_id]
    assert not agent.orders


def test_a_worker_is_dead_once_its_lock_is_free(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from claude_runner.leader import Workers\n"
        "async def main():\n"
        f"    async with Workers(pathlib.Path({str(tmp_path)!r})).enrolled() as name:\n"
        "        print(name, flush=True)\n"
        "        sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    workers = Workers(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().decode().strip()
        assert workers.dead([name, "never-was"]) == ["never-was"]
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        assert workers.dead([name]) == [name]


async def test_five_servers_run_each_slot_once_while_leaders_are_ended_and_killed(tmp_path: Path) -> None:
    account = await soak(tmp_path, kills=3, servers=5, kill_every=3)
    assert account.handovers == 3
    assert (account.lost, account.doubled) == ((), ())
    assert account.slots >= 10


async def test_neither_a_deep_home_nor_a_deep_temporary_folder_keeps_a_process_from_leading(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("h" * 100)
    deep = tmp_path / ("t" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    async with open_app(Settings(home=home), agent=FakeAgent(), clock=clock) as app:
        assert app.leadership.problem is None
