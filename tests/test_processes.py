"""Nothing of a run outlives it: real processes, real signals, the real CLI."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner.app import App
from claude_runner.config import Settings
from claude_runner.processes import _guard as guard_program
from claude_runner.runs import NewRun, State, Trigger
from tests.scripted_model import Step, script
from tests.support import PATIENCE, content, ended, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

ROOT = Path(__file__).parent.parent
# A daemon with a session of its own, deaf to what it is asked; and a command that lasts.
DAEMON = "trap '' TERM HUP; sleep 300"
COMMAND = f'setsid nohup sh -c "{DAEMON}" >/dev/null 2>&1 & sleep 0.3; echo up; tail -f /dev/null'


def of_run(run_id: str) -> list[psutil.Process]:
    """The processes that bear the run's mark, as a person would look for them; `info` has their names."""
    every = psutil.process_iter(["name", "environ", "status"])
    return [
        process
        for process in every
        if (process.info["environ"] or {}).get("CLAUDE_RUNNER_RUN") == run_id
        and process.info["status"] != "zombie"
    ]


async def gone(run_id: str, seconds: float = 10.0) -> bool:
    """Wait until nothing of the run is left."""
    async with asyncio.timeout(seconds):
        while of_run(run_id):  # noqa: ASYNC110 - another program's processes tell nobody of their end
            await asyncio.sleep(0.02)
    return True


async def busy(app: App) -> str:
    """Start a run that has a daemon and a lasting command going, and return its id."""
    step: Step = {"text": "Working.", "tool": "Bash", "input": {"command": COMMAND, "timeout": 600_000}}
    prompt = script(step, {"text": "never said"})
    run_id = await app.runs.add(NewRun(prompt, Trigger.QUICK, tools=("Bash",)), app.clock.now())
    await running(app, run_id, said="Working.")
    await daemon_up(run_id)
    return run_id


async def daemon_up(run_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any("tail" in process.info["name"] for process in of_run(run_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("sandbox")
async def test_cancelling_ends_the_whole_tree(real: App) -> None:
    run_id = await busy(real)
    assert len(of_run(run_id)) >= 4
    cancelled = await real.dispatcher.cancel(run_id)
    assert (cancelled.state, cancelled.output) == (State.CANCELLED, "Working.")
    assert not of_run(run_id)


@pytest.mark.usefixtures("sandbox")
async def test_a_run_that_ends_by_itself_leaves_no_daemon(real: App) -> None:
    command = f'setsid nohup sh -c "{DAEMON}" >/dev/null 2>&1 & echo started'
    prompt = script({"tool": "Bash", "input": {"command": command}}, {"text": "done"})
    run_id = await real.runs.add(NewRun(prompt, Trigger.QUICK, tools=("Bash",)), real.clock.now())
    assert (await ended(real, run_id)).output == "done"
    assert not of_run(run_id)


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("victim", ["guard", "cli"])
async def test_killing_a_process_of_the_run_ends_the_others(real: App, victim: str) -> None:
    run_id = await busy(real)
    [cli] = [process for process in of_run(run_id) if process.info["name"] == "claude"]
    [guard] = [process for process in of_run(run_id) if process.pid == cli.ppid()]
    (guard if victim == "guard" else cli).kill()
    done = await ended(real, run_id)
    assert (done.state, done.reason, done.output) == (State.ERROR, "agent_crashed", "Working.")
    assert await gone(run_id)


@asynccontextmanager
async def a_server(owner: Settings) -> AsyncIterator[tuple[Client[Any], psutil.Process]]:
    """A real server over stdio, and its process."""
    variables = {**owner.environment, "RUNNER_HOME": str(owner.home), "MCP_TRANSPORT": "stdio"}
    variables |= {"SHUTDOWN_GRACE_SECONDS": "0"}
    before = {child.pid for child in psutil.Process().children()}
    transport = StdioTransport(sys.executable, [str(ROOT / "server.py")], env=variables, keep_alive=False)
    async with Client(transport) as client:
        [server] = [
            child
            for child in psutil.Process().children()
            if child.pid not in before and "server.py" in " ".join(child.cmdline())
        ]
        yield client, server


async def busy_server(client: Client[Any]) -> str:
    step: Step = {"text": "Working.", "tool": "Bash", "input": {"command": COMMAND, "timeout": 600_000}}
    job = {"name": "lasting", "cron": "0 0 1 1 *", "prompt": script(step), "tools": ["Bash"]}
    made = content(await client.call_tool("create_job", job))
    triggered = content(await client.call_tool("trigger_job", {"job_id": made["id"]}))
    await daemon_up(triggered["run_id"])
    return str(triggered["run_id"])


@pytest.mark.usefixtures("sandbox", "model")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_death_of_the_server_ends_every_run(owner: Settings, number: signal.Signals) -> None:
    async with a_server(owner) as (client, server):
        run_id = await busy_server(client)
        server.send_signal(number)
        await asyncio.to_thread(server.wait, 10)
        assert await gone(run_id)
    row = _row(owner, run_id)
    if number is signal.SIGTERM:
        assert (row["state"], row["reason"], row["output"]) == ("error", "server_stopped", "Working.")


@pytest.mark.usefixtures("sandbox", "model")
async def test_killing_a_run_through_the_tools_ends_its_tree(owner: Settings) -> None:
    async with a_server(owner) as (client, _):
        run_id = await busy_server(client)
        killed = content(await client.call_tool("kill_run", {"run_id": run_id}))
        assert (killed["state"], killed["reason"]) == ("cancelled", "cancelled")
        assert not of_run(run_id)


def _row(owner: Settings, run_id: str) -> dict[str, Any]:
    with closing(sqlite3.connect(owner.database_path)) as connection:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone())


@contextmanager
def guarded(tmp_path: Path, *command: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program under the guard."""
    needed = {"CLAUDE_RUNNER_KEEP": "PATH,GREETING", "CLAUDE_RUNNER_PID_FILE": str(tmp_path / "pid")}
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(guard_program.__file__), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **needed, **variables},
    ) as guard:
        yield guard


@pytest.mark.parametrize(("ending", "code"), [("exit 7", 7), ("kill -9 $$", 128 + 9)])
def test_the_guard_exits_as_its_program_did(tmp_path: Path, ending: str, code: int) -> None:
    with guarded(tmp_path, "/bin/sh", "-c", ending) as guard:
        assert guard.wait(PATIENCE) == code


def test_the_guard_lets_only_chosen_variables_through(tmp_path: Path) -> None:
    with guarded(tmp_path, "/usr/bin/env", GREETING="hello", PASSWORD="hunter2") as guard:
        out, _ = guard.communicate(timeout=PATIENCE)
    names = {line.partition("=")[0] for line in out.decode().splitlines()}
    assert "GREETING" in names
    assert not names & {"PASSWORD", "CLAUDE_RUNNER_KEEP", "HOME"}


def test_the_guard_ends_what_is_deaf_to_signals_within_a_second(tmp_path: Path) -> None:
    with guarded(tmp_path, "/bin/sh", "-c", f"echo up; {DAEMON}") as guard:
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"up\n"
        guard.terminate()
        assert guard.wait(PATIENCE) == 128 + signal.SIGKILL


def test_the_guard_takes_a_closed_input_for_the_servers_death(tmp_path: Path) -> None:
    with guarded(tmp_path, "/bin/sh", "-c", "echo up; exec sleep 300") as guard:
        assert guard.stdout is not None
        assert guard.stdin is not None
        assert guard.stdout.readline() == b"up\n"
        guard.stdin.close()
        assert guard.wait(PATIENCE) == 128 + signal.SIGTERM
