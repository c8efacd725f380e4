"""server.py as its users start it: over real pipes, with real ports and exit codes."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner import __version__
from tests.served import PATIENCE, measured, variables
from tests.sites import free_port
from tests.support import content

ROOT = Path(__file__).parent.parent
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
JOB = {"name": "brief", "cron": "0 9 * * 1-5", "prompt": "say hello", "timezone": "Europe/Berlin"}


@contextmanager
def server(home: Path, *arguments: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "server.py"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=measured(home, **more),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: "subprocess.Popen[bytes]", message: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def end(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    """Close the client's end and return the exit code, what is left of standard output, and standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out.decode(), err.decode()


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        yield holder.getsockname()[1]


def test_it_answers_over_stdio_makes_its_database_and_ends_with_its_client(tmp_path: Path) -> None:
    with server(tmp_path, MCP_TRANSPORT="stdio") as process:
        answer = ask(process, INITIALIZE)
        assert answer["result"]["serverInfo"] == {"name": "claude-runner", "version": __version__}
        code, out, err = end(process)
    assert (code, out) == (0, "")
    assert "Scheduler loop started" in err
    assert (tmp_path / "jobs.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        stored = dict(connection.execute("SELECT key, value FROM settings"))
    assert json.loads(stored["allowed_tools"]) == ["WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash"]
    assert json.loads(stored["sandbox_mode"]) is True


async def test_what_one_server_stored_the_next_one_knows(tmp_path: Path) -> None:
    transport = StdioTransport(
        sys.executable,
        [str(ROOT / "server.py")],
        env=variables(tmp_path, MCP_TRANSPORT="stdio"),
        keep_alive=False,
    )
    async with Client(transport) as client:
        made = content(await client.call_tool("create_job", JOB))
    async with Client(transport) as client:
        assert content(await client.call_tool("get_job", {"job_id": made["id"]})) == made
    assert made["next_runs"][0].endswith(("+01:00", "+02:00"))


@pytest.mark.parametrize("transport", ["sse", "both"])
def test_the_site_tells_its_health_has_its_pages_and_ends_on_sigterm(tmp_path: Path, transport: str) -> None:
    port = free_port()
    with server(tmp_path, MCP_TRANSPORT=transport, PORT=str(port)) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if b"the site is at" in line)
        assert f"http://127.0.0.1:{port}" in line.decode()
        answer = httpx2.get(f"http://127.0.0.1:{port}/health")
        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "checks": {"database": "ok", "scheduler": "ok"}}
        page = httpx2.get(f"http://127.0.0.1:{port}/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_stdio_opens_no_port(tmp_path: Path) -> None:
    port = free_port()
    with server(tmp_path, MCP_TRANSPORT="stdio", PORT=str(port)) as process:
        ask(process, INITIALIZE)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"http://127.0.0.1:{port}/health")
        assert end(process)[0] == 0


def test_sse_on_a_port_in_use_exits_with_1_and_a_sentence(tmp_path: Path) -> None:
    with taken_port() as port, server(tmp_path, MCP_TRANSPORT="sse", PORT=str(port)) as process:
        assert process.wait(PATIENCE) == 1
        _, _, err = end(process)
    assert f"can't listen on 127.0.0.1:{port}" in err
    assert "set PORT to another" in err
    assert "Traceback" not in err


def test_both_on_a_port_in_use_serves_stdio_and_takes_the_port_when_it_is_free(tmp_path: Path) -> None:
    with taken_port() as port:
        with server(tmp_path, MCP_TRANSPORT="both", PORT=str(port)) as process:
            assert ask(process, INITIALIZE)["result"]
            assert process.stderr is not None
            warning = next(line for line in process.stderr if b"can't listen" in line)
            assert b"tried again" in warning
            code, out, _ = end(process)
        assert (code, out) == (0, "")


def test_a_service_outlives_its_stdio_client_where_that_is_wanted(tmp_path: Path) -> None:
    port = free_port()
    with server(tmp_path, MCP_TRANSPORT="both", EXIT_ON_EOF="0", PORT=str(port)) as process:
        ask(process, INITIALIZE)
        assert process.stderr is not None
        assert process.stdin is not None
        next(line for line in process.stderr if b"the site is at" in line)
        process.stdin.close()
        process.stdin = None
        assert httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_client_that_keeps_its_end_open_does_not_keep_the_server(tmp_path: Path) -> None:
    with server(tmp_path, MCP_TRANSPORT="stdio") as process:
        ask(process, INITIALIZE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_two_servers_on_one_home_both_serve(tmp_path: Path) -> None:
    with server(tmp_path, MCP_TRANSPORT="stdio") as one, server(tmp_path, MCP_TRANSPORT="stdio") as two:
        assert ask(one, INITIALIZE)["result"]
        assert ask(two, INITIALIZE)["result"]
        assert end(one)[0] == 0
        assert end(two)[0] == 0


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "PORT is 'http'; it must be a whole number from 1 to 65535"),
        ("MCP_TRANSPORT", "carrier-pigeon", "it must be one of stdio, sse, both"),
        ("MAX_CONCURRENT_RUNS", "0", "it must be a whole number from 1 to 1000"),
    ],
)
def test_a_setting_that_cannot_be_is_wrong_usage(
    tmp_path: Path, name: str, value: str, sentence: str
) -> None:
    with server(tmp_path, **{name: value}) as process:
        code, out, err = end(process)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


def _not_a_database(path: Path) -> None:
    path.write_bytes(b"these are my holiday notes, long ago" * 100)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9999")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_not_a_database, _newer, _folder])
def test_a_database_that_cannot_be_used_is_said_and_left_alone(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "jobs.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with server(tmp_path, MCP_TRANSPORT="stdio") as process:
        code, out, err = end(process)
    assert (code, out) == (1, "")
    assert "cannot run: " in err
    assert "jobs.db" in err
    assert "Traceback" not in err
    assert before == (path.read_bytes() if path.is_file() else None)


def test_the_log_tells_of_what_is_done_here_and_not_what_libraries_send() -> None:
    said = (
        "import logging, server\n"
        "server.start_log('DEBUG')\n"
        "logging.getLogger('claude_runner.part').debug('ours')\n"
        "for library in ('sse_starlette.sse', 'httpcore2.http11', 'pyngrok.process', 'fastmcp.server'):\n"
        "    logging.getLogger(library).info('an answer with a token in it')\n"
        "    logging.getLogger(library).warning('a warning')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=ROOT, capture_output=True, timeout=PATIENCE, check=True, text=True
    )
    assert "ours" in done.stderr
    assert done.stderr.count("a warning") == 4
    assert "token" not in done.stderr


def test_an_unknown_argument_is_wrong_usage(tmp_path: Path) -> None:
    with server(tmp_path, "--frobnicate") as process:
        assert end(process)[0] == 2


def test_the_client_configuration_can_be_pasted(tmp_path: Path) -> None:
    with server(tmp_path, "--client-config") as process:
        code, out, _ = end(process)
    assert code == 0
    entry = json.loads(out)["mcpServers"]["claude-runner"]
    assert entry == {"command": sys.executable, "args": [str(ROOT / "server.py")]}
    assert not (tmp_path / "jobs.db").exists()


def test_the_demo_shows_a_scheduled_run_of_the_real_cli(tmp_path: Path) -> None:
    with server(tmp_path, "--demo", ONCE="1") as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err.decode()
    assert "no model was asked" in out.decode()
    with closing(sqlite3.connect(tmp_path / ".demo" / "jobs.db")) as connection:
        connection.row_factory = sqlite3.Row
        run = connection.execute("SELECT * FROM runs WHERE state = 'finished'").fetchone()
        occurrence = connection.execute("SELECT * FROM occurrences WHERE run_id = ?", (run["id"],)).fetchone()
    assert (run["trigger"], run["rehearsal"], run["cost_usd"]) == ("schedule", 1, 0.0)
    assert run["total_tokens"] > 0
    assert "Write said: File created" in run["output"]
    assert occurrence["fate"] == "ran"
    assert not (tmp_path / "jobs.db").exists()


def test_the_demo_goes_on_until_interrupted(tmp_path: Path) -> None:
    with server(tmp_path, "--demo") as process:
        assert process.stdout is not None
        assert any(b"no model was asked" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    with server(tmp_path, "--demo", ONCE="1") as again:  # takes the job it made before
        again.communicate(timeout=PATIENCE)
        assert again.returncode == 0


async def test_the_protocol_stays_whole_under_sixteen_calls_at_once(tmp_path: Path) -> None:
    transport = StdioTransport(
        sys.executable,
        [str(ROOT / "server.py")],
        env=variables(tmp_path, MCP_TRANSPORT="stdio"),
        keep_alive=False,
    )
    async with Client(transport) as client:
        job = {**JOB, "prompt": "x" * 200_000}  # more than a pipe holds, both ways
        made = await asyncio.gather(*(client.call_tool("create_job", job) for _ in range(16)))
        assert {len(content(answer)["prompt"]) for answer in made} == {200_000}
        assert content(await client.call_tool("list_jobs"))["total"] == 16


def test_ctrl_c_ends_a_server_started_in_a_terminal(tmp_path: Path) -> None:
    ours, its = os.openpty()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "server.py")],
        stdin=its, stdout=its, stderr=subprocess.PIPE, env=variables(tmp_path, MCP_TRANSPORT="stdio"),
    ) as process:  # fmt: skip
        os.close(its)
        assert process.stderr is not None
        assert any(b"Scheduler loop started" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    os.close(ours)


def test_a_service_outlives_a_client_that_dies_while_it_is_answered(tmp_path: Path) -> None:
    port = free_port()
    with server(tmp_path, MCP_TRANSPORT="both", EXIT_ON_EOF="0", PORT=str(port)) as process:
        ask(process, INITIALIZE)
        assert process.stderr is not None
        assert process.stdin is not None
        assert process.stdout is not None
        next(line for line in process.stderr if b"the site is at" in line)
        process.stdout.close()
        for number in range(50):
            listing = {"jsonrpc": "2.0", "id": number + 2, "method": "tools/list", "params": {}}
            process.stdin.write(json.dumps(listing).encode() + b"\n")
        process.stdin.close()
        process.stdin = process.stdout = None
        assert httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("source", [os.devnull, "a file"])
def test_an_input_that_cannot_be_waited_for_is_read_to_its_end(tmp_path: Path, source: str) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text("", encoding="utf-8")
    with Path(os.devnull if source == os.devnull else asked).open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, str(ROOT / "server.py")],
            stdin=stdin,
            capture_output=True,
            timeout=PATIENCE,
            env=variables(tmp_path, MCP_TRANSPORT="stdio"),
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Traceback" not in done.stderr
