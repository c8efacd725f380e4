"""Runs through the real Claude Code CLI, which asks the scripted model."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.agent import ClaudeAgent
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import EventKind, NewRun, Run, State, Trigger
from tests.cli import run, start
from tests.scripted_model import ScriptedModel, Step
from tests.support import FakeClock, ended, running


async def events(app: App, run: Run, kind: EventKind) -> list[dict[str, Any]]:
    page = await app.runs.events(run.id, 0, 1000)
    return [dict(event.body) for event in page.events if event.kind is kind]


async def results(app: App, run: Run) -> list[tuple[bool, str]]:
    """What the run's tools answered: whether it was an error, and the text."""
    return [(body["is_error"], body["content"]) for body in await events(app, run, EventKind.TOOL_RESULT)]


async def test_a_run_ends_with_output_tokens_cost_model_and_session(real: App, model: ScriptedModel) -> None:
    used: Step = {"input_tokens": 1000, "output_tokens": 50, "cache_read": 300, "cache_write": 200}
    done = await run(real, {"text": "All is well.", **used}, model="sonnet")
    assert (done.state, done.output, done.error, done.reason) == (State.FINISHED, "All is well.", None, None)
    assert (done.tokens.input, done.tokens.output) == (1000, 50)
    assert (done.tokens.cache_read, done.tokens.cache_write) == (300, 200)
    assert done.total_tokens == 1550
    assert done.model is not None
    assert done.model.startswith("claude-sonnet")
    # $2 and $10 a million in and out; a cache read costs a tenth of input, a cache write a quarter more.
    assert done.cost_usd == pytest.approx((1000 * 2 + 50 * 10 + 300 * 0.2 + 200 * 2.5) / 1e6, rel=0.01)
    assert [request.session_id for request in model.requests] == [done.session_id]


async def test_what_an_unknown_model_costs_is_not_guessed(real: App) -> None:
    done = await run(real, {"text": "hi", "input_tokens": 100_000}, model="qwen3:8b")
    assert (done.tokens.input, done.cost_usd) == (100_000, None)


async def test_a_run_uses_its_tools_and_tells_what_they_said(real: App, owner: Settings) -> None:
    done = await run(
        real,
        {"text": "I write.", "tool": "Write", "input": {"file_path": "./note.md", "content": "forty-two"}},
        {"text": "I read.", "tool": "Read", "input": {"file_path": "./note.md"}},
        {"text": "It says forty-two."},
        tools=("Read", "Write"),
    )
    assert done.output == "It says forty-two."
    assert (owner.playground / f"run-{done.id}" / "note.md").read_text(encoding="utf-8") == "forty-two"
    kinds = [event.kind for event in (await real.runs.events(done.id, 0, 100)).events]
    assert kinds == [
        EventKind.STARTED,
        *(EventKind.TEXT, EventKind.TOOL_USE, EventKind.USAGE, EventKind.TOOL_RESULT) * 2,
        EventKind.TEXT,
        EventKind.USAGE,
        EventKind.RESULT,
    ]
    assert "forty-two" in (await results(real, done))[1][1]
    assert await real.runs.text_so_far(done.id) == "I write.\n\nI read.\n\nIt says forty-two."


async def test_only_the_tools_granted_exist(real: App, model: ScriptedModel) -> None:
    await run(real, {"text": "hi"}, tools=("Read", "WebSearch"))
    offered = {tool["name"] for tool in model.requests[0].body["tools"]}
    assert offered - {"DeferredToolPlaceholder"} == {"Read", "WebSearch"}


async def test_nothing_outside_its_folder_is_read_or_written(real: App, owner: Settings) -> None:
    outside = owner.home / "secret.txt"
    outside.write_text("the secret", encoding="utf-8")
    done = await run(
        real,
        {
            "tools": [
                {"tool": "Read", "input": {"file_path": str(outside)}},
                {"tool": "Write", "input": {"file_path": str(owner.home / "made.txt"), "content": "x"}},
                {
                    "tool": "Edit",
                    "input": {"file_path": str(outside), "old_string": "the", "new_string": "no"},
                },
                {"tool": "Read", "input": {"file_path": "../../secret.txt"}},
            ]
        },
        {"text": "tried"},
        tools=("Read", "Write", "Edit"),
    )
    said = await results(real, done)
    assert len(said) == 4
    assert all(is_error and "the secret" not in text for is_error, text in said)
    assert outside.read_text(encoding="utf-8") == "the secret"
    assert not (owner.home / "made.txt").exists()
    assert done.state is State.FINISHED


@pytest.mark.usefixtures("sandbox")
async def test_what_one_run_left_in_its_temporary_folder_no_other_finds(real: App) -> None:
    for _ in range(2):
        command = 'test ! -e "$TMPDIR/mine.txt" && echo x > "$TMPDIR/mine.txt" && cat "$TMPDIR/mine.txt"'
        done = await run(
            real, Step(tool="Bash", input={"command": command}), Step(text="ok"), tools=("Bash",)
        )
        [(is_error, said)] = await results(real, done)
        assert (is_error, said) == (False, "x")


async def test_half_an_emoji_is_no_end(real: App) -> None:
    done = await run(real, Step(text="half \ud83d an emoji"))
    assert (done.state, done.output) == (State.FINISHED, "half ? an emoji")
    assert await real.runs.text_so_far(done.id) == "half ? an emoji"


@pytest.mark.usefixtures("sandbox")
async def test_a_link_out_of_the_folder_leads_nowhere(real: App, owner: Settings) -> None:
    owner.home.mkdir(exist_ok=True)
    (owner.home / ".env").write_text("KEY=the secret", encoding="utf-8")
    home = owner.home
    done = await run(
        real,
        Step(
            tool="Bash",
            input={"command": f"ln -s {home}/.env link; ln -s {home} dir; ln -s {home}/new.txt new"},
        ),
        Step(tool="Read", input={"file_path": "./link"}),
        Step(tool="Read", input={"file_path": "./dir/.env"}),
        Step(tool="Write", input={"file_path": "./new", "content": "x"}),
        Step(tool="Write", input={"file_path": "./dir/new.txt", "content": "x"}),
        Step(text="tried"),
        tools=("Bash", "Read", "Write"),
    )
    linked, *said = await results(real, done)
    assert not linked[0]
    assert len(said) == 4
    assert all(is_error and "the secret" not in text for is_error, text in said)
    assert not (owner.home / "new.txt").exists()


async def test_the_services_of_this_machine_are_not_fetched_from(real: App, model: ScriptedModel) -> None:
    done = await run(
        real,
        Step(tool="WebFetch", input={"url": f"{model.base_url}/page", "prompt": "read it"}),
        Step(text="tried"),
        tools=("WebFetch",),
    )
    [(is_error, text)] = await results(real, done)
    assert is_error
    assert "denied" in text


@pytest.mark.usefixtures("sandbox")
async def test_a_shell_command_is_confined(real: App, owner: Settings, tmp_path: Path) -> None:
    owner.home.mkdir(exist_ok=True)
    (owner.home / ".env").write_text("KEY=the secret", encoding="utf-8")
    (tmp_path / "owner" / "diary.txt").write_text("the secret", encoding="utf-8")
    attempts = [
        f"cat {owner.home}/.env",
        f"cat {tmp_path}/owner/diary.txt",
        f"ls {owner.home}/jobs.db",
        f"echo x > {tmp_path}/outside.txt",
        "env | grep -e scripted- -e ANTHROPIC",
        "cat /proc/1/environ | tr '\\0' '\\n' | grep -e scripted- -e ANTHROPIC",
        "bash -c 'echo > /dev/tcp/127.0.0.1/1 && echo connected' 2>/dev/null",
    ]
    done = await run(
        real,
        *(Step(tool="Bash", input={"command": command}) for command in attempts),
        {
            "tool": "Bash",
            "input": {"command": f"echo x > {tmp_path}/loose", "dangerouslyDisableSandbox": True},
        },
        {"tool": "Bash", "input": {"command": "echo kept > inside.txt && cat inside.txt"}},
        {"text": "tried"},
        tools=("Bash",),
    )
    said = await results(real, done)
    assert said.pop() == (False, "kept")
    for (_, text), attempt in zip(said, [*attempts, "loose"], strict=True):
        for hidden in ("the secret", "connected", "scripted-", "ANTHROPIC"):
            assert hidden not in text, attempt
    assert not (tmp_path / "outside.txt").exists()
    assert not (tmp_path / "loose").exists()


async def test_the_environment_is_chosen_not_inherited(
    owner: Settings, model: ScriptedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    seen = tmp_path / "seen.json"
    spy = tmp_path / "claude"
    program = f"import json, os; json.dump(dict(os.environ), open({str(seen)!r}, 'w'))"
    spy.write_text(f'#!/bin/sh\nexec python3 -c "{program}; exit(1)"\n', encoding="utf-8")
    spy.chmod(0o755)
    async with open_app(owner, agent=ClaudeAgent(owner, cli=spy)) as app:
        done = await run(app, {"text": "never said"})
    assert (done.state, done.reason) == (State.ERROR, "agent_crashed")
    got = json.loads(seen.read_text(encoding="utf-8"))
    assert "DATABASE_PASSWORD" not in got
    assert "CLAUDE_RUNNER_KEEP" not in got
    assert got["ANTHROPIC_BASE_URL"] == model.base_url
    assert got["CLAUDE_CONFIG_DIR"] == str(owner.state / "claude")
    assert got["CLAUDE_CODE_DISABLE_CRON"] == "1"
    assert got["CLAUDE_RUNNER_RUN"] == done.id


async def test_the_owners_login_is_found(owner: Settings, model: ScriptedModel, tmp_path: Path) -> None:
    login = {
        "claudeAiOauth": {
            "accessToken": model.api_key,
            "refreshToken": "refresh",
            "expiresAt": int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000),  # noqa: TID251
            "scopes": ["user:inference"],
            "subscriptionType": "max",
        }
    }
    folder = tmp_path / "owner" / ".claude"
    folder.mkdir()
    (folder / ".credentials.json").write_text(json.dumps(login), encoding="utf-8")
    signed_in = _without_key(owner, model)
    async with open_app(signed_in, agent=ClaudeAgent(signed_in)) as app:
        done = await run(app, {"text": "hi"})
    assert done.state is State.FINISHED
    assert model.requests[0].headers["authorization"] == f"Bearer {model.api_key}"


async def test_who_is_not_signed_in_is_told_what_to_do(owner: Settings, model: ScriptedModel) -> None:
    nobody = _without_key(owner, model)
    async with open_app(nobody, agent=ClaudeAgent(nobody)) as app:
        done = await run(app, {"text": "hi"})
    assert (done.state, done.reason) == (State.ERROR, "not_signed_in")
    assert done.error is not None
    assert "`claude` in a terminal and /login" in done.error
    assert done.output is None
    assert not model.requests


async def test_a_missing_cli_is_said(owner: Settings) -> None:
    async with open_app(owner, agent=ClaudeAgent(owner, cli=owner.home / "no" / "claude")) as app:
        done = await run(app, {"text": "hi"})
    assert (done.state, done.reason) == (State.ERROR, "cli_missing")
    assert done.error is not None
    assert "pip install -r requirements.txt" in done.error


async def test_a_prompt_is_taken_word_for_word(real: App, model: ScriptedModel, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the secret", encoding="utf-8")
    await run(real, {"text": "hi"}, prompt=f"/compact @{tmp_path}/secret.txt !`id`")
    [request] = model.requests
    assert "the secret" not in json.dumps(request.body)
    assert f"/compact @{tmp_path}/secret.txt !`id`" in json.dumps(request.body["messages"])


async def test_partial_output_and_tokens_of_a_run_that_fails_are_kept(real: App) -> None:
    done = await run(
        real,
        {"text": "The first half.", "tool": "Read", "input": {"file_path": "./x"}, "output_tokens": 9},
        {"status": 404, "etype": "not_found_error", "msg": "model: x"},
    )
    assert (done.state, done.output) == (State.ERROR, "The first half.")
    assert done.tokens.output == 9
    assert done.cost_usd is not None


async def test_the_meter_is_live_while_a_run_goes_on(real: App) -> None:
    run_id = await start(
        real,
        {
            "text": "One.",
            "tool": "Read",
            "input": {"file_path": "./x"},
            "input_tokens": 700,
            "output_tokens": 30,
        },
        {"text": "Two.", "stall": True, "input_tokens": 900},
    )
    going_on = await running(real, run_id, said="Two.")
    assert (going_on.tokens.input, going_on.tokens.output) == (1600, 30)
    cancelled = await real.dispatcher.cancel(run_id)
    assert (cancelled.state, cancelled.reason, cancelled.output) == (
        State.CANCELLED,
        "cancelled",
        "One.\n\nTwo.",
    )
    assert cancelled.tokens.input >= 700
    assert cancelled.cost_usd is not None


async def test_a_run_is_ended_after_its_time(owner: Settings) -> None:
    clock = FakeClock()
    async with open_app(owner, agent=ClaudeAgent(owner), clock=clock) as app:
        run_id = await start(app, {"text": "Slowly", "stall": True}, timeout_minutes=5)
        await running(app, run_id, said="Slowly")
        clock.move(timedelta(minutes=5))
        done = await ended(app, run_id)
    assert (done.state, done.reason) == (State.ERROR, "timeout")
    assert done.error == "it was not done within 5 minutes and was ended"
    assert done.output == "Slowly"


async def test_a_long_answer_in_two_thousand_pieces_arrives_whole(real: App) -> None:
    whole = "".join(f"{number:06d}," for number in range(20_000))
    done = await run(real, {"text": whole, "chunks": 2000})
    assert done.output == whole
    assert await real.runs.text_so_far(done.id) == whole


async def test_an_answer_of_three_megabytes_is_no_trouble(real: App, model: ScriptedModel) -> None:
    whole = "x" * 3_000_000
    model.default_script = [{"text": whole}]
    done = await ended(real, await real.runs.add(NewRun("go on", Trigger.QUICK), real.clock.now()))
    assert (done.error, len(done.output or "")) == (None, 3_000_000)


async def test_two_cancels_at_once_do_no_harm(real: App) -> None:
    run_id = await start(real, {"text": "Hm", "stall": True})
    await running(real, run_id, said="Hm")
    first, second = await asyncio.gather(real.dispatcher.cancel(run_id), real.dispatcher.cancel(run_id))
    assert first.state is second.state is State.CANCELLED


async def test_a_run_cancelled_while_it_starts_leaves_nothing(real: App, model: ScriptedModel) -> None:
    run_id = await start(real, {"text": "hi"})
    await running(real, run_id)
    cancelled = await real.dispatcher.cancel(run_id)
    assert cancelled.state is State.CANCELLED
    assert not model.requests


def _without_key(owner: Settings, model: ScriptedModel) -> Settings:
    environment = {name: value for name, value in owner.environment.items() if name != "ANTHROPIC_API_KEY"}
    return replace(owner, environment=environment | {"ANTHROPIC_BASE_URL": model.base_url})
