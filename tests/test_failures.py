"""Every way a run is known to fail, and what its row says then: the real CLI, the scripted model, a moved clock."""

import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from claude_runner.agent import ClaudeAgent, _endings, _options
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import EventKind, Run, State
from tests.cli import run, start
from tests.scripted_model import ScriptedModel, Step
from tests.support import FakeClock, ended, running, settled


@asynccontextmanager
async def opened(
    owner: Settings, cli: Path | None = None, clock: FakeClock | None = None
) -> AsyncIterator[App]:
    async with open_app(owner, agent=ClaudeAgent(owner, cli), clock=clock) as app:
        yield app


def failed(done: Run, reason: str) -> None:
    assert (done.state, done.reason) == (State.ERROR, reason), done.error
    assert done.error
    assert done.finished_at is not None


def parked(done: Run, reason: str) -> None:
    assert (done.state, done.reason) == (State.PENDING, reason), done.error
    assert done.error
    assert done.not_before is not None


@pytest.mark.parametrize(
    ("step", "reason", "passes"),
    [
        (
            {"status": 401, "etype": "authentication_error", "msg": "invalid x-api-key"},
            "not_signed_in",
            False,
        ),
        ({"status": 403, "etype": "permission_error", "msg": "not allowed"}, "not_signed_in", False),
        ({"status": 404, "etype": "not_found_error", "msg": "model: x"}, "invalid_model", False),
        ({"status": 400, "etype": "invalid_request_error", "msg": "no"}, "invalid_request", False),
        ({"status": 400, "msg": "Your credit balance is too low"}, "billing", False),
        ({"status": 413, "etype": "request_too_large", "msg": "too large"}, "too_large", False),
        ({"status": 429, "etype": "rate_limit_error", "msg": "slow down"}, "usage_limit", True),
        (
            {"status": 429, "headers": {"retry-after": "3600"}, "etype": "rate_limit_error"},
            "usage_limit",
            True,
        ),
        ({"status": 500, "etype": "api_error", "msg": "Internal"}, "overloaded", True),
        ({"status": 529, "etype": "overloaded_error", "msg": "Overloaded"}, "overloaded", True),
    ],
    ids=["401", "403", "404", "400", "credit", "413", "429", "429-later", "500", "529"],
)
async def test_a_refusal_of_the_model_has_its_reason(
    real: App, step: Step, reason: str, passes: bool
) -> None:
    (parked if passes else failed)(await run(real, step), reason)


async def test_an_endpoint_that_is_not_there_is_unreachable(owner: Settings) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]
    nowhere = replace(
        owner, environment={**owner.environment, "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}"}
    )
    async with opened(nowhere) as app:
        parked(await run(app, {"text": "hi"}), "unreachable")


@pytest.mark.parametrize("fault", [Step(cut=True), Step(mid_error=True)], ids=["cut", "error"])
async def test_a_stream_that_breaks_is_taken_up_again(real: App, fault: Step) -> None:
    done = await run(real, {"text": "The first half", **fault}, {"text": "and the second."})
    assert (done.state, done.error) == (State.FINISHED, None)
    assert "and the second." in (done.output or "")


@pytest.mark.parametrize("step", [Step(hang=True), Step(text="Well", stall=True)], ids=["no answer", "stall"])
async def test_a_model_that_falls_silent_is_not_waited_for(
    owner: Settings, model: ScriptedModel, step: Step
) -> None:
    clock = FakeClock()
    async with opened(owner, clock=clock) as app:
        run_id = await start(app, step)
        await running(app, run_id, said=step.get("text", ""))
        await model.asked(1)
        clock.move(361)
        done = await ended(app, run_id)
    failed(done, "silent")
    assert done.output == step.get("text")


async def test_a_cli_that_stopped_answering_is_ended(owner: Settings) -> None:
    clock = FakeClock()
    async with opened(owner, clock=clock) as app:
        run_id = await start(app, {"text": "Well", "stall": True})
        await running(app, run_id, said="Well")
        [cli] = [
            process for process in psutil.Process().children(recursive=True) if process.name() == "claude"
        ]
        cli.send_signal(signal.SIGSTOP)
        clock.move(361)
        failed(await ended(app, run_id), "silent")
        assert not cli.is_running()


async def test_a_cli_that_never_starts_is_ended(owner: Settings, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(owner, _program(tmp_path, "sleep 300"), clock) as app:
        run_id = await start(app, {"text": "hi"})
        await running(app, run_id)
        clock.move(91)
        parked(await settled(app, run_id), "start_timeout")


async def test_an_end_without_a_result_is_an_error(owner: Settings, tmp_path: Path) -> None:
    # A CLI that takes the prompt and goes, with exit code 0.
    answer = (
        "import json, sys\n"
        "asked = json.loads(sys.stdin.readline())\n"
        "able = {'hook_on_failure_supported': True}\n"
        "response = {'subtype': 'success', 'request_id': asked['request_id'], 'response': able}\n"
        "print(json.dumps({'type': 'control_response', 'response': response}), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    script = tmp_path / "cli.py"
    script.write_text(answer, encoding="utf-8")
    async with opened(owner, _program(tmp_path, f"exec python3 {script}")) as app:
        done = await run(app, {"text": "hi"})
    failed(done, "agent_crashed")
    assert "ended without a result" in (done.error or "")


async def test_what_the_cli_says_on_standard_error_is_told(owner: Settings, tmp_path: Path) -> None:
    async with opened(owner, _program(tmp_path, "echo 'my disk is on fire' >&2; exit 3")) as app:
        done = await run(app, {"text": "hi"})
    failed(done, "agent_crashed")
    assert "my disk is on fire" in (done.error or "")


async def test_too_many_turns_end_a_run(
    owner: Settings, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_options, "MAX_TURNS", 2)
    model.default_script = [Step(tool="Read", input={"file_path": "./x"})] * 9
    async with opened(owner) as app:
        failed(await run(app, *model.default_script), "max_turns")


async def test_a_message_beyond_the_limit_is_said(owner: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_options, "MAX_MESSAGE_BYTES", 20_000)
    async with opened(owner) as app:
        failed(await run(app, {"text": "x" * 40_000}), "answer_too_large")


async def test_a_denied_call_is_told_and_the_run_goes_on(real: App) -> None:
    done = await run(
        real, {"tool": "Read", "input": {"file_path": "/etc/passwd"}}, {"text": "I may not."}, tools=("Read",)
    )
    assert (done.state, done.output) == (State.FINISHED, "I may not.")
    events = (await real.runs.events(done.id, 0, 100)).events
    [notice] = [event.body for event in events if event.body.get("notice") == "permission_denied"]
    assert notice["tool_name"] == "Read"
    [result] = [event.body for event in events if event.kind is EventKind.RESULT]
    assert result["denials"] == 1


@pytest.mark.usefixtures("sandbox")
async def test_a_shell_without_its_sandbox_is_no_shell(owner: Settings, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "bash", "python3", "env", "cat", "socat"):
        found = next(Path(folder, name) for folder in os.defpath.split(":") if Path(folder, name).exists())
        (programs / name).symlink_to(found)
    bare = replace(owner, environment={**owner.environment, "PATH": str(programs)})
    async with opened(bare) as app:
        done = await run(app, {"tool": "Bash", "input": {"command": "echo x > made.txt"}}, tools=("Bash",))
    failed(done, "sandbox_missing")
    assert not list(bare.playground.rglob("made.txt"))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (_endings.Failure("Reached maximum budget ($0.2)", terminal="budget_exhausted"), "budget"),
        (_endings.Failure("Session ID 1-2-3 is already in use."), "session_in_use"),
        (_endings.Failure("Control request timeout: initialize"), "start_timeout"),
        (_endings.Failure("Working directory does not exist: /x"), "folder_unavailable"),
        (_endings.Failure("something nobody thought of"), "agent_crashed"),
    ],
)
def test_the_table_knows_the_failure(failure: _endings.Failure, reason: str) -> None:
    assert _endings.rule_of(failure).reason == reason


def _program(folder: Path, text: str) -> Path:
    path = folder / "claude"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
