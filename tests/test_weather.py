"""The clock jumps, the disk is full, a folder can't be written, somebody keeps the lock, the hub's socket is gone."""

import asyncio
import fcntl
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner import dispatcher, leader
from claude_runner.agent import ClaudeAgent, Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.background import background
from claude_runner.config import Settings, SystemClock
from claude_runner.db import open_database
from claude_runner.errors import UnavailableError
from claude_runner.hub import Hub
from claude_runner.jobs import JobDraft
from claude_runner.leader import Leadership
from claude_runner.runs import Ending, EventKind, NewRun, Run, RunFilter, Runs, State, Trigger
from claude_runner.tools import build_mcp
from tests.conftest import need
from tests.parts import locked, logged
from tests.support import PATIENCE, FakeAgent, FakeClock, content, ended, running, text
from tests.test_server import INITIALIZE, JOB, ROOT, ask, end, server

HOUR = timedelta(hours=1)
FULL = "the disk of jobs.db is full; free some space and try again"
LOCKED = (
    "jobs.db is locked by another program; end what holds it, such as a transaction left open in a sqlite3 shell,"
    " and try again"
)
NOBODY = 65534


class Led:
    """An agent that says what a test tells it to, until it is told to finish or to stop."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self._listener: asyncio.Future[Listener] = asyncio.get_running_loop().create_future()
        self._said = 0

    async def __call__(self, _order: Order, listener: Listener, stop: Stop) -> Ending:
        listener.started()
        if not self._listener.done():
            self._listener.set_result(listener)
        ways = [asyncio.ensure_future(event.wait()) for event in (self.finish, stop.requested)]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        if stop.cause is None:
            return Ending(State.FINISHED, output="done")
        return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)

    async def say(self, words: str) -> None:
        """Say something in the first run, once it has begun."""
        listener = await self._listener
        self._said += 1
        listener.heard()
        listener.happened(EventKind.TEXT, {"block": self._said, "text": words})


@pytest.fixture
async def led() -> Led:
    return Led()


@asynccontextmanager
async def at_home(
    home: Path, agent: FakeAgent | Led, clock: FakeClock | None = None
) -> AsyncIterator[tuple[App, Client[Any]]]:
    """The application in a home, and a client of its tools."""
    agent = FakeAgent(agent) if isinstance(agent, Led) else agent
    settings = Settings(home=home, shutdown_grace_seconds=0.05)
    async with open_app(settings, agent=agent, clock=clock) as app, Client(await build_mcp(app)) as client:
        yield app, client


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def meanwhile(clock: FakeClock, ending: Awaitable[Run]) -> Run:
    """Let time pass until a run has ended."""
    waiting = asyncio.ensure_future(ending)
    while not waiting.done():
        clock.move(0.1)
        await asyncio.wait({waiting}, timeout=0.01)
    return waiting.result()


async def starts(app: App, **changes: Any) -> str:
    """Start a run besides any schedule and wait until it is going on."""
    run_id = await app.runs.add(NewRun("go", Trigger.MANUAL, **changes), app.clock.now())
    return (await running(app, run_id)).id


async def fates(app: App) -> list[tuple[str, str, bool]]:
    def read(c: sqlite3.Connection) -> list[tuple[str, str, bool]]:
        rows = c.execute(
            "SELECT scheduled_for, fate, run_id IS NOT NULL FROM occurrences ORDER BY scheduled_for"
        )
        return [(slot, fate, bool(ran)) for slot, fate, ran in rows]

    return await app.database.read(read)


async def slots(app: App) -> list[datetime]:
    return [datetime.fromisoformat(slot) for slot, _, _ in await fates(app)]


async def said_in(app: App, run_id: str) -> list[str]:
    return [event.body["text"] for event in (await app.runs.events(run_id, 0, 1000)).events]


async def refused(client: Client[Any], tool: str, **arguments: Any) -> str:
    answer = await client.call_tool(tool, arguments, raise_on_error=False)
    assert answer.is_error
    return text(answer)


def whole(path: Path) -> None:
    """See that nothing in the database contradicts itself."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchone() is None


# The machine's clock


class AdjustedClock(SystemClock):
    """The machine's clock, whose time of day somebody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:  # type: ignore[explicit-override]  # typing.override is of 3.12
        return super().now() + self.ahead


async def test_a_time_of_day_that_jumps_forward_is_noticed_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("claude_runner.config._clock.LOOK_AGAIN_SECONDS", 0.1)
    clock = AdjustedClock()
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), clock.now() + HOUR))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    clock.ahead = 2 * HOUR
    begun = clock.elapsed()
    await waiting
    assert clock.elapsed() - begun < PATIENCE


async def test_a_time_of_day_that_is_set_back_is_waited_for_no_longer_than_it_looked_in_the_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("claude_runner.config._clock.LOOK_AGAIN_SECONDS", 0.05)
    clock = AdjustedClock()
    begun = clock.elapsed()
    waiting = asyncio.create_task(clock.wait(asyncio.Event(), clock.now() + timedelta(seconds=0.3)))
    await asyncio.sleep(0.1)
    clock.ahead = -HOUR
    await waiting
    assert 0.3 <= clock.elapsed() - begun < PATIENCE


async def test_a_change_is_heard_though_the_time_of_day_was_set_back() -> None:
    clock, event = AdjustedClock(), asyncio.Event()
    waiting = asyncio.create_task(clock.wait(event, clock.now() + HOUR))
    await asyncio.sleep(0.05)
    clock.ahead = -24 * HOUR
    event.set()
    async with asyncio.timeout(PATIENCE):
        await waiting


# A machine that was suspended


async def test_a_suspended_machine_catches_up_once_and_leaves_the_run_that_goes_on_alone(
    tmp_path: Path, led: Led, clock: FakeClock
) -> None:
    agent = FakeAgent(led)
    async with open_app(Settings(home=tmp_path), agent=agent, clock=clock) as app:
        job = await app.jobs.add(JobDraft("often", "*/5 * * * *", "go", "UTC"), clock.now())
        going_on = await starts(app, timeout_minutes=1)
        clock.jump(8 * HOUR + timedelta(minutes=3))

        async def fired() -> bool:
            return bool(await fates(app))

        await eventually(fired)
        missed, caught_up = await fates(app)
        assert (missed[1:], caught_up[1:]) == (("missed", False), ("caught_up", True))
        caught = (await app.runs.list(RunFilter(job_id=job.id), 10)).runs
        assert [run.trigger for run in caught] == [Trigger.CATCH_UP]
        assert (await app.runs.get(going_on)).state is State.RUNNING

        async def well() -> bool:
            return await app.checks() == {"database": "ok", "scheduler": "ok"}

        await eventually(well)
        led.finish.set()
        assert (await ended(app, going_on)).state is State.FINISHED
        assert (await ended(app, caught[0].id)).state is State.FINISHED
        assert len(agent.orders) == 2


async def test_a_machine_whose_clock_is_set_back_a_day_is_well_and_fires_what_comes(
    app: App, clock: FakeClock
) -> None:
    await app.jobs.add(JobDraft("often", "* * * * *", "go", "UTC"), clock.now())
    clock.jump(-24 * HOUR)
    await app.jobs.add(JobDraft("often too", "* * * * *", "go", "UTC"), clock.now())
    assert await app.checks() == {"database": "ok", "scheduler": "ok"}

    async def fired() -> bool:
        clock.move(10)
        return (await app.runs.list(RunFilter(state=State.FINISHED), 1)).total == 1

    await eventually(fired)


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        need("mounting a small file system takes root on Linux; run this test there")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if said := subprocess.run(mount, stderr=subprocess.PIPE, text=True, check=False).stderr:
        need(f"a small file system can't be mounted; allow it (docker run --cap-add SYS_ADMIN): {said}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is, and return what is to be deleted to have it back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 512):
            pass
    assert os.statvfs(disk).f_bavail == 0
    return filler


async def test_a_full_disk_loses_nothing_and_leaves_nothing_half_written(
    disk: Path, led: Led, clock: FakeClock
) -> None:
    async with at_home(disk, led, clock) as (app, client):
        job = content(await client.call_tool("create_job", JOB | {"cron": "* * * * *"}))
        run_id = await starts(app)
        await led.say("before")
        await running(app, run_id, said="before")
        filler = fill(disk)
        with logged() as log:
            made = 1
            while not (answer := await client.call_tool("create_job", JOB, raise_on_error=False)).is_error:
                made += 1  # in what was left of the last page
            assert text(answer) == FULL
            assert await refused(client, "trigger_job", job_id=job["id"]) == FULL
            assert await refused(client, "update_job", job_id=job["id"], prompt="y" * 9000) == FULL
            assert content(await client.call_tool("list_jobs"))["total"] == made
            await led.say("meanwhile " * 500)
            await log.line(f"run {run_id}: its events wait in memory: {FULL}")
            await led.say("still full")
            clock.move(30)
            await log.line(f"could not look for due jobs; it tries again in a second: {FULL}")
            led.finish.set()
            for count in range(1, 6):
                await log.line(f"run {run_id}: its end can't be written yet: {FULL}", count)
                clock.move(1)
            assert (await app.runs.get(run_id)).state is State.RUNNING
            assert not log.having("Traceback")
        filler.unlink()
        assert (await meanwhile(clock, ended(app, run_id))).state is State.FINISHED
        assert await said_in(app, run_id) == ["before", "meanwhile " * 500, "still full"]

        async def fired() -> bool:
            clock.move(0.1)
            return bool(await fates(app))

        await eventually(fired)
        [slot_run] = (await app.runs.list(RunFilter(job_id=job["id"]), 10)).runs
        assert (await meanwhile(clock, ended(app, slot_run.id))).state is State.FINISHED
        assert [fate[1:] for fate in await fates(app)] == [("ran", True)]
        assert content(await client.call_tool("update_job", {"job_id": job["id"], "prompt": "y" * 9000}))
        whole(disk / "jobs.db")


# A folder that can't be written


@pytest.fixture
def bound() -> tuple[str, ...]:
    """What a program is started with so that the modes of files bind it."""
    if os.geteuid() != 0:
        return ()
    nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # The second may read what its modes forbid, such as an interpreter in root's home, and write nothing.
    for prefix in (nobody, (*nobody, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")):
        with suppress(FileNotFoundError):
            command = [*prefix, sys.executable, "-c", "import sqlite3, claude_runner"]
            if subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return prefix
    need("another user can't run this Python; install util-linux, and Python where every user can read it")
    raise AssertionError


@pytest.fixture
def common() -> Iterator[Path]:
    """A home that every user can reach and write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def plain(home: Path) -> dict[str, str]:
    """Variables without those that have its coverage measured, in a file that another user can't write."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RUNNER_HOME": str(home), "MCP_TRANSPORT": "stdio"}


def unwritable_home(home: Path) -> Path:
    home.chmod(0o555)
    return home / "jobs.db"


def unwritable_state(home: Path) -> Path:
    state = home / ".claude-runner"
    state.mkdir(mode=0o555)
    return state / "workers"


@pytest.mark.parametrize("spoil", [unwritable_home, unwritable_state])
def test_a_folder_that_cannot_be_written_ends_the_server_with_one_sentence(
    common: Path, bound: tuple[str, ...], spoil: Callable[[Path], Path]
) -> None:
    at_fault = spoil(common)
    ran = subprocess.run(
        [*bound, sys.executable, str(ROOT / "server.py")],
        input=b"", capture_output=True, cwd="/", env=plain(common), timeout=PATIENCE, check=False,
    )  # fmt: skip
    err = ran.stderr.decode()
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert len(err.splitlines()) == 1
    assert f"cannot run: {at_fault} can't be used: " in err
    assert err.endswith("; check the path, the rights and the free space\n")


async def test_a_file_in_the_place_of_the_servers_own_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / ".claude-runner").write_text("not a folder")
    with pytest.raises(UnavailableError, match=r"\.claude-runner can't be used: File exists; check the path"):
        async with open_app(Settings(home=tmp_path), agent=FakeAgent()):
            pass


async def test_a_run_that_cannot_make_its_own_files_says_so(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path)
    agent = ClaudeAgent(settings, cli=Path("/bin/true"))
    async with open_app(settings, agent=agent, clock=clock) as app:
        (settings.state / "launcher").mkdir()  # where it keeps a program
        run = await ended(app, await app.runs.add(NewRun("go", Trigger.QUICK), clock.now()))
    assert (run.state, run.reason) == (State.ERROR, "unavailable")
    assert run.error is not None
    assert run.error.startswith(str(settings.state))
    assert run.error.endswith("can't be used: Is a directory; check the path, the rights and the free space")


async def test_a_playground_that_cannot_be_written_ends_the_run_with_a_sentence(
    common: Path, bound: tuple[str, ...]
) -> None:
    playground = common / "claude_playground"
    playground.mkdir(mode=0o555)
    program, *arguments = (*bound, sys.executable, str(ROOT / "server.py"))
    transport = StdioTransport(str(program), arguments, env=plain(common), keep_alive=False)
    async with Client(transport) as client:
        job = content(await client.call_tool("create_job", JOB))
        started = content(await client.call_tool("trigger_job", {"job_id": job["id"]}))
        seen: list[Any] = []

        async def is_final() -> bool:
            seen.append(content(await client.call_tool("get_run", {"run_id": started["run_id"]})))
            return State(seen[-1]["state"]).is_final

        await eventually(is_final)
    assert (seen[-1]["state"], seen[-1]["reason"]) == ("error", "folder_unavailable")
    assert seen[-1]["error"] == f"can't make {playground / job['id']}: Permission denied"


# Another program keeps the lock


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for another program's lock for a fifth of a second."""
    monkeypatch.setattr("claude_runner.app.open_database", partial(open_database, lock_timeout=0.2))


@pytest.mark.usefixtures("impatient")
async def test_a_lock_that_another_program_keeps_delays_and_loses_nothing(
    tmp_path: Path, led: Led, clock: FakeClock
) -> None:
    async with at_home(tmp_path, led, clock) as (app, client):
        job = content(await client.call_tool("create_job", JOB | {"cron": "* * * * *"}))
        run_id = await starts(app)
        with logged() as log, locked(tmp_path / "jobs.db"):
            await led.say("a")
            await log.line("its events wait in memory")
            await led.say("b")
            assert await refused(client, "create_job", **JOB) == LOCKED
            assert await refused(client, "trigger_job", job_id=job["id"]) == LOCKED
            assert await refused(client, "kill_run", run_id=run_id) == LOCKED
            assert content(await client.call_tool("get_run", {"run_id": run_id}))["state"] == "running"
            clock.move(30)
            await log.line(f"could not look for due jobs; it tries again in a second: {LOCKED}")
            led.finish.set()
            await log.line(f"its end can't be written yet: {LOCKED}")
        assert (await meanwhile(clock, ended(app, run_id))).state is State.FINISHED
        assert await said_in(app, run_id) == ["a", "b"]

        async def fired() -> bool:
            clock.move(0.1)
            return bool(await fates(app))

        await eventually(fired)
        assert [fate[1:] for fate in await fates(app)] == [("ran", True)]
        assert content(await client.call_tool("list_jobs"))["total"] == 1


async def test_a_lock_kept_longer_than_a_write_waits_loses_no_slot_and_doubles_none(
    tmp_path: Path, led: Led, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.app.open_database", partial(open_database, lock_timeout=2.0))

    async def act(order: Order, listener: Listener, stop: Stop) -> Ending:
        return await (led if order.prompt == "go" else FakeAgent.say_done)(order, listener, stop)

    async with at_home(tmp_path, FakeAgent(act)) as (app, client):
        content(await client.call_tool("create_job", JOB | {"cron": "*/2 * * * * *"}))
        run_id = await starts(app)
        with logged() as log:
            await log.line("is due: run")
        await asyncio.sleep(0.3)  # nothing is written now, so that the call is the first to wait
        with locked(tmp_path / "jobs.db"):
            begun = app.clock.now()
            call = asyncio.create_task(refused(client, "create_job", **JOB))
            for words in "abc":
                await asyncio.sleep(0.5)
                await led.say(words)
            led.finish.set()
            await asyncio.sleep(2.5)  # with the words, longer than a write waits
            assert await call == LOCKED
            freed = app.clock.now()
        assert (await ended(app, run_id)).state is State.FINISHED

        async def caught_up() -> bool:
            return (await slots(app))[-1:] > [freed]

        await eventually(caught_up)
        assert await said_in(app, run_id) == list("abc")
        came = await slots(app)
        assert came[0] < begun
        assert {later - slot for slot, later in pairwise(came)} == {timedelta(seconds=2)}
        assert {fate for _, fate, _ in await fates(app)} <= {"ran", "skipped_overlap"}


@pytest.mark.usefixtures("impatient")
async def test_a_server_that_is_told_to_stop_does_not_wait_for_the_lock_for_ever(
    tmp_path: Path, led: Led, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "END_SECONDS", 0.5)
    with ExitStack() as lock, logged() as log:
        async with at_home(tmp_path, led, clock) as (app, _):
            run_id = await starts(app)
            lock.enter_context(locked(tmp_path / "jobs.db"))
            led.finish.set()
            await log.line("its end can't be written yet")
        assert log.having(f"run {run_id}: its end could not be written; the next start ends it")
    async with at_home(tmp_path, led, clock) as (app, _):
        lost = await ended(app, run_id)
        assert (lost.state, lost.reason) == (State.ERROR, "server_stopped")


# Several servers


def test_servers_that_start_at_once_in_a_new_home_all_come_up(tmp_path: Path) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(server(tmp_path, MCP_TRANSPORT="stdio")) for _ in range(2)]
        for process in started:
            assert ask(process, INITIALIZE)["result"]
        ends = [end(process) for process in started]
    assert [code for code, _, _ in ends] == [0, 0]
    assert "this process leads" in "".join(err for _, _, err in ends)
    for _, _, err in ends:
        assert "ERROR" not in err
        assert "WARNING" not in err
    whole(tmp_path / "jobs.db")
    assert not list(tmp_path.glob("jobs.db.*"))


async def follows(app: App) -> None:
    async def does() -> bool:
        return app.leadership.following

    await eventually(does)


async def leads(app: App) -> None:
    async def does() -> bool:
        return app.leadership.leading

    await eventually(does)


async def is_heard(follower: App) -> None:
    """See that the leader does at once what is said to another server."""
    run_id = await follower.runs.add(NewRun("go", Trigger.QUICK), follower.clock.now())
    async with asyncio.timeout(PATIENCE):
        assert (await ended(follower, run_id)).state is State.FINISHED


def at(home: Path, clock: FakeClock) -> Any:
    return open_app(Settings(home=home), agent=FakeAgent(), clock=clock)


async def test_a_socket_that_was_deleted_is_made_anew(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "LOOK_SECONDS", 0.2)
    async with at(tmp_path, clock) as first, at(tmp_path, clock) as second:
        await leads(first)
        await follows(second)
        (tmp_path / ".claude-runner" / "hub.sock").unlink()
        async with at(tmp_path, clock) as third:
            apps = (first, second, third)

            async def settled() -> bool:
                return (
                    sorted(app.leadership.leading for app in apps) == [False, False, True]
                    and sum(app.leadership.following for app in apps) == 2
                )

            await eventually(settled)
            for app in apps:
                await is_heard(app)


async def test_without_the_socket_a_change_is_acted_on_at_the_leaders_next_look(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with at(tmp_path, clock) as first:
        await leads(first)
        (tmp_path / ".claude-runner" / "hub.sock").unlink()
        async with open_database(tmp_path / "jobs.db") as database:
            run_id = await Runs(database, Hub()).add(NewRun("go", Trigger.QUICK), clock.now())
        clock.move(60)
        assert (await ended(first, run_id)).state is State.FINISHED


async def test_a_server_that_cannot_reach_the_leader_costs_next_to_nothing(tmp_path: Path) -> None:
    @asynccontextmanager
    async def engine() -> AsyncIterator[None]:
        yield

    with (tmp_path / "leader.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        leadership = Leadership(tmp_path, Hub(), engine)
        async with background(leadership.serve()):
            begun = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - begun < 0.3
            assert not leadership.leading


async def test_the_socket_of_a_leader_that_was_killed_is_in_nobodys_way(
    tmp_path: Path, clock: FakeClock
) -> None:
    with server(tmp_path, MCP_TRANSPORT="stdio") as process:
        ask(process, INITIALIZE)
        process.kill()
        process.wait(PATIENCE)
    assert (tmp_path / ".claude-runner" / "hub.sock").exists()
    async with at(tmp_path, clock) as first, at(tmp_path, clock) as second:
        await leads(first)
        await follows(second)
        await is_heard(second)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for what is temporary, of its own, with a path that a socket may have."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


async def test_a_home_whose_path_is_too_long_for_a_socket_has_a_leader_and_followers(
    tmp_path: Path, clock: FakeClock, short: Path
) -> None:
    home = tmp_path / ("long" * 30) / ("way" * 30)
    async with at(home, clock) as first, at(home, clock) as second:
        await leads(first)
        await follows(second)
        await is_heard(second)
        assert len(list(short.glob("claude-runner-*/hub.sock"))) == 1
    assert not list(short.iterdir())


async def test_a_folder_of_sockets_that_others_can_write_to_is_not_trusted(
    tmp_path: Path, clock: FakeClock, short: Path
) -> None:
    home = tmp_path / ("long" * 30) / ("way" * 30)
    async with at(home, clock):
        [folder] = short.iterdir()
    folder.mkdir()
    folder.chmod(0o777)
    with logged() as log:
        async with at(home, clock) as app:
            assert log.having(f"{folder} belongs to somebody else")
            assert not app.leadership.leading


async def test_a_lock_that_cannot_be_had_is_said_and_the_tools_answer_all_the_same(
    tmp_path: Path, clock: FakeClock
) -> None:
    lock = tmp_path / ".claude-runner" / "leader.lock"
    lock.mkdir(parents=True)
    with logged() as log:
        async with at_home(tmp_path, FakeAgent(), clock) as (app, client):
            job = content(await client.call_tool("create_job", JOB))
            run_id = content(await client.call_tool("trigger_job", {"job_id": job["id"]}))["run_id"]
            problem = (await app.checks())["scheduler"]
            assert problem.startswith(f"this process can neither lead {tmp_path} nor follow")
            assert "leader.lock" in problem
            assert log.having(problem) == [problem]
            await asyncio.sleep(1.2)
            assert log.having(problem) == [problem]  # it is the same one still
            lock.rmdir()
            assert (await ended(app, run_id)).state is State.FINISHED
            assert (await app.checks())["scheduler"] == "ok"
