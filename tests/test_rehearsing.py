"""Rehearsals: with the real CLI and real tool servers, and, where it is not the CLI that matters, without."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from claude_runner.agent import ClaudeAgent, Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.jobs import Job
from claude_runner.permissions import Profile
from claude_runner.processes import end_leftovers
from claude_runner.rehearsing import PartKind, Rehearsal, Verdict
from claude_runner.runs import Ending, NewRun, Run, State, Trigger
from claude_runner.tools import build_mcp
from tests.parts import drafted
from tests.scripted_model import ScriptedModel, scripted_model
from tests.support import PATIENCE, FakeAgent, FakeClock, content, ended, settings_in, text

WEATHER = '''
import os
from fastmcp import FastMCP

mcp = FastMCP("weather")


@mcp.tool
def get_weather(city: str) -> str:
    """Tell the weather in a city, as it is now."""
    return f"sunny in {city}" if os.environ.get("WEATHER_API_KEY") else "?"


@mcp.tool
def get_forecast(city: str, days: int) -> str:
    """Tell the weather in a city, as it will be."""
    return f"sunny in {city} for {days} days"
'''
ECHO = """
from fastmcp import FastMCP

mcp = FastMCP("echo")


@mcp.tool
def echo(word: str) -> str:
    return word
"""
SECRET = "sk-weather-1234567890"
LIST_PRICE = 2 / 1_000_000  # of an input token of sonnet, in US dollars


@dataclass(frozen=True)
class Stage:
    """The application with the real CLI, a server `weather` whose key is set, and its owner's model."""

    app: App
    client: Client[Any]
    model: ScriptedModel

    async def rehearse(self, prompt: str = "go", **changes: Any) -> Rehearsal:
        return await rehearse(self.app, prompt, **changes)


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home = tmp_path_factory.mktemp("stage")
    (home / "owner").mkdir()
    async with scripted_model() as model:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home / "owner"),
            "ANTHROPIC_BASE_URL": model.base_url,
            "ANTHROPIC_API_KEY": model.api_key,
            "ANTHROPIC_MODEL": "haiku",
        }
        settings = Settings(home=home / "runner", environment=environment)
        async with (
            open_app(settings, agent=ClaudeAgent(settings)) as app,
            Client(await build_mcp(app)) as client,
        ):
            await app.workshop.create("weather", WEATHER, "Forecasts")
            await app.credentials.set("weather", "WEATHER_API_KEY", SECRET, app.clock.now())
            yield Stage(app, client, model)


async def rehearse(app: App, prompt: str = "go", **changes: Any) -> Rehearsal:
    return await app.rehearsals.of_prompt(NewRun(prompt, Trigger.QUICK, rehearsal=True, **changes))


async def ran(app: App, **changes: Any) -> Run:
    """A real run of the same, to its end."""
    return await ended(app, await app.runs.add(NewRun("go", Trigger.QUICK, **changes), app.clock.now()))


async def job_in(app: App, **changes: Any) -> Job:
    return await app.jobs.add(drafted(**changes), app.clock.now())


async def rows(app: App) -> list[int]:
    """How many runs, events and calls of tools were written down."""
    tables = ("runs", "run_events", "tool_calls")
    return await app.database.read(
        lambda c: [c.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables]
    )


def processes_of(server: str) -> list[str]:
    """The processes of a server, as each bears its mark."""
    mark, found = f"CLAUDE_RUNNER_SERVER={server}-".encode(), []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environ.read_bytes():
                found.append(environ.parent.name)
    return found


def put(app: App, name: str, code: str, **metadata: Any) -> Path:
    """What a person does who puts a server there by hand, enabled."""
    folder = app.settings.home / "dynamic_servers" / name
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(code, encoding="utf-8")
    about = {"description": name, "enabled": True, "env_vars": [], **metadata}
    (folder / "metadata.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


async def test_a_rehearsal_tells_what_a_run_would_be(stage: Stage) -> None:
    job = await job_in(
        stage.app, prompt="Tell the weather.", tools=("Read", "mcp__weather__get_weather"), model="sonnet"
    )
    answer = content(await stage.client.call_tool("rehearse_job", {"job_id": job.id}, raise_on_error=False))
    assert (answer["verdict"], answer["problems"], answer["error"]) == ("would_run", [], None)
    assert (answer["job_id"], answer["job_name"], answer["prompt"]) == (job.id, job.name, "Tell the weather.")
    assert f"the job '{job.name}'" in answer["instructions"]
    assert answer["tools"] == ["Read", "mcp__weather__get_weather"]
    [server] = answer["servers"]
    assert (server["name"], server["tools"], server["problem"]) == (
        "weather",
        ["mcp__weather__get_weather"],
        None,
    )
    assert answer["folder"] == str(stage.app.settings.playground / job.id)
    assert (answer["profile"], answer["commands"]) == ("contained", [])
    assert (answer["not_granted"], answer["missing_credentials"], answer["warnings"]) == ([], [], [])
    assert answer["model"].startswith("claude-sonnet")
    assert answer["model_asked"] == "sonnet"
    size = answer["first_request"]
    assert size["usd"] == pytest.approx(size["estimated_tokens"] * LIST_PRICE)
    assert size["bytes"] // 4 == size["estimated_tokens"]
    assert "estimated" in size["about"]
    report = answer["report"]
    told = (
        "a run would run",
        "Tell the weather.",
        "tools of weather",
        "mcp__weather__get_weather",
        answer["model"],
    )
    assert [words for words in told if words not in report] == []


async def test_no_model_is_asked_no_tool_is_called_and_no_run_is_written_down(stage: Stage) -> None:
    await stage.rehearse(tools=("mcp__weather__*", "mcp__runner__*"))
    assert stage.model.requests == []
    assert await rows(stage.app) == [0, 0, 0]


async def test_the_parts_of_the_first_request_add_up(stage: Stage) -> None:
    request = (await stage.rehearse("Look it up. " * 500, tools=("Read", "mcp__weather__*"))).first_request
    assert request is not None
    assert sum(part.bytes for part in request.parts) == request.bytes
    assert sum(part.estimated_tokens for part in request.parts) == request.estimated_tokens
    assert sum(part.share for part in request.parts) == pytest.approx(1, abs=0.001)
    parts = {(part.kind, part.server): part.bytes for part in request.parts}
    assert set(parts) == {
        (PartKind.SERVER, "weather"),
        *(
            (kind, None)
            for kind in (PartKind.BUILT_INS, PartKind.INSTRUCTIONS, PartKind.PROMPT, PartKind.REST)
        ),
    }
    assert 6000 < parts[PartKind.PROMPT, None] < 6100
    assert min(parts.values()) > 0


async def test_a_server_that_is_up_is_told_from_one_that_was_started(stage: Stage) -> None:
    put(stage.app, "echo", ECHO)
    first, second = [(await stage.rehearse(tools=("mcp__echo__echo",))).servers[0] for _ in range(2)]
    assert (first.was_up, second.was_up) == (False, True)
    assert first.start_seconds is not None
    assert second.start_seconds is not None
    assert first.start_seconds > 0.2 > second.start_seconds


async def test_a_servers_own_process_of_the_run_ends_with_the_rehearsal(stage: Stage) -> None:
    put(stage.app, "own", ECHO, per_run=True)
    rehearsal = await stage.rehearse(tools=("mcp__own__echo",))
    assert (rehearsal.verdict, rehearsal.tools) == (Verdict.WOULD_RUN, ["mcp__own__echo"])
    assert processes_of("own") == []


async def test_it_leaves_no_folder_no_session_and_no_process(stage: Stage) -> None:
    rehearsal = await stage.rehearse(tools=("Read", "Bash"))
    assert rehearsal.verdict is Verdict.WOULD_RUN
    assert not Path(rehearsal.folder).exists()
    sessions = list((stage.app.settings.state / "claude" / "projects").glob("**/*.jsonl"))
    assert sessions == []
    run_id = Path(rehearsal.folder).name.removeprefix("run-")
    assert end_leftovers("CLAUDE_RUNNER_RUN", [run_id]) == 0
    assert not (stage.app.settings.state / "mcp").exists() or not list(
        (stage.app.settings.state / "mcp").iterdir()
    )


async def test_the_owners_choice_of_a_default_model_counts(stage: Stage) -> None:
    rehearsal = await stage.rehearse(tools=("Read",))
    assert rehearsal.model_asked is None
    assert rehearsal.model is not None
    assert rehearsal.model.startswith("claude-haiku")


async def test_the_price_of_an_unknown_model_is_not_guessed(stage: Stage) -> None:
    rehearsal = await stage.rehearse(tools=("Read",), model="qwen3:8b")
    assert (rehearsal.verdict, rehearsal.model) == (Verdict.WOULD_RUN, "qwen3:8b")
    assert rehearsal.first_request is not None
    assert rehearsal.first_request.usd is None
    [warning] = rehearsal.warnings
    assert "qwen3:8b" in warning
    assert "price not known" in rehearsal.report


async def test_secrets_are_not_shown(stage: Stage) -> None:
    result = await stage.client.call_tool("rehearse_prompt", {"prompt": f"use {SECRET}", "tools": ["Read"]})
    assert content(result)["prompt"] == "use [credential WEATHER_API_KEY]"
    assert SECRET not in text(result)
    assert SECRET not in content(result)["report"]


async def test_every_server_that_does_not_start_is_named_in_the_words_of_a_run(stage: Stage) -> None:
    put(
        stage.app,
        "broken",
        "from fastmcp import FastMCP\nmcp = FastMCP('x')\nraise RuntimeError('no luck today')\n",
    )
    put(
        stage.app,
        "spoiled",
        "from fastmcp import FastMCP\nmcp = FastMCP('x')\nraise ValueError('the wrong moon')\n",
    )
    tools = ("mcp__broken__a", "mcp__spoiled__b", "mcp__weather__get_weather")
    rehearsal = await stage.rehearse(tools=tools)
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "mcp_server_failed")
    first, second = rehearsal.problems
    assert "no luck today" in first.error
    assert "the wrong moon" in second.error
    assert rehearsal.tools == ["mcp__weather__get_weather"]  # and it went on with what there is
    assert rehearsal.first_request is not None
    states = {state.name: state.problem for state in rehearsal.servers}
    assert states["weather"] is None
    assert "no luck today" in (states["broken"] or "")
    assert {each.tool for each in rehearsal.not_granted} == {"mcp__broken__a", "mcp__spoiled__b"}
    done = await ran(stage.app, tools=("mcp__broken__a",))
    alone = await stage.rehearse(tools=("mcp__broken__a",))
    assert (done.reason, done.error) == (alone.reason, alone.error)


async def test_missing_credentials_are_named_with_the_way_to_set_them(stage: Stage) -> None:
    rehearsal = await stage.rehearse(tools=("mcp__email__send_email",))
    assert rehearsal.verdict is Verdict.WOULD_FAIL
    [missing] = rehearsal.missing_credentials
    assert (missing.server, missing.needed) == ("email", True)
    assert "SENDGRID_API_KEY" in missing.names
    assert "set_server_credential('email', 'SENDGRID_API_KEY', …)" in missing.how_to_set
    assert rehearsal.tools == ["mcp__email__send_email"]  # it starts all the same, and its size is told
    done = await ran(stage.app, tools=("mcp__email__send_email",))
    assert (done.reason, done.error) == (rehearsal.reason, rehearsal.error)


async def test_a_tool_that_is_not_there_is_named_with_the_reason(stage: Stage) -> None:
    rehearsal = await stage.rehearse(
        tools=("Read", "Dance", "mcp__weather__get_wether", "mcp__weather__get_weather")
    )
    why = {each.tool: each.why for each in rehearsal.not_granted}
    assert why["Dance"] == "'Dance' is not a known tool; runs go without it"
    assert "has no tool 'get_wether'" in why["mcp__weather__get_wether"]
    assert rehearsal.tools == ["Read", "mcp__weather__get_weather"]
    [problem] = (
        rehearsal.problems
    )  # what is no server's tool is left out; a server's that is named must be there
    assert problem.error == "weather is up but has no tool get_wether; it has get_forecast, get_weather"


async def test_a_missing_claude_code_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    async with open_app(settings, agent=ClaudeAgent(settings, cli=tmp_path / "nowhere")) as app:
        rehearsal = await rehearse(app, tools=("Read",))
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "cli_missing")
    assert (rehearsal.model, rehearsal.first_request, rehearsal.tools) == (None, None, ["Read"])


async def test_a_rehearsal_orders_what_a_run_gets(app: App, agent: FakeAgent) -> None:
    job = await job_in(
        app, tools=("Read", "mcp__runner__*"), model="sonnet", profile=Profile.RULES, commands=("ls",)
    )
    await app.rehearsals.of_job(job.id)
    await ended(app, (await app.trigger(job.id)).id)
    rehearsed, real = agent.orders
    assert rehearsed.endpoint is not None
    assert rehearsed.mcp_config is not None
    apart: dict[str, Any] = {
        "run_id": "",
        "session_id": "",
        "mcp_config": None,
        "endpoint": None,
        "kept": True,
    }
    assert replace(rehearsed, **apart) == replace(real, **apart)


async def test_the_next_five_runs_are_told_on_the_jobs_own_clock(app: App) -> None:
    job = await job_in(app, cron="0 9 * * 1-5", timezone="Europe/Berlin")
    assert (await app.rehearsals.of_job(job.id)).next_runs == [
        f"2026-11-{day}T09:00:00+01:00" for day in (24, 25, 26, 27, 30)
    ]


async def test_a_credential_whose_key_is_lost_is_named_as_missing(app: App) -> None:
    await app.credentials.set("email", "SENDGRID_API_KEY", "hunter22", app.clock.now())
    (app.settings.state / "credentials.key").unlink()
    rehearsal = await rehearse(app, tools=("mcp__email__send_email",))
    assert "can't be opened" in (rehearsal.error or "")
    [missing] = rehearsal.missing_credentials
    assert "SENDGRID_API_KEY" in missing.names


async def test_a_disabled_job_has_no_next_runs(app: App) -> None:
    rehearsal = await app.rehearsals.of_job((await job_in(app, enabled=False)).id)
    assert rehearsal.next_runs == []
    assert any("disabled" in line for line in rehearsal.warnings)


async def test_servers_that_a_run_only_goes_without_are_no_problem(app: App) -> None:
    rehearsal = await rehearse(app)
    assert rehearsal.verdict is Verdict.WOULD_RUN
    [missing] = rehearsal.missing_credentials
    assert (missing.server, missing.needed) == ("email", False)
    assert [each.tool for each in rehearsal.not_granted if each.tool.startswith("mcp__")] == ["mcp__email__*"]


async def test_every_tool_that_is_refused_is_named(app: App, agent: FakeAgent) -> None:
    rehearsal = await rehearse(app, tools=("Grep", "Bash(git:*)", "Read"))
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "tool_refused")
    assert [each.tool for each in rehearsal.not_granted] == ["Grep", "Bash(git:*)"]
    assert [each.error for each in rehearsal.problems] == [each.why for each in rehearsal.not_granted]
    assert agent.orders[0].built_ins == ("Read",)
    assert (await ran(app, tools=("Grep",))).error == rehearsal.problems[0].error


async def test_nothing_is_granted_by_default_where_all_that_is_named_is_refused(
    app: App, agent: FakeAgent
) -> None:
    await rehearse(app, tools=("Grep",))
    assert (agent.orders[0].built_ins, agent.orders[0].mcp_tools) == ((), ())


async def test_a_profile_that_may_not_be_had_is_told_and_what_follows_too(app: App) -> None:
    rehearsal = await rehearse(app, tools=("Grep",), profile=Profile.FULL)
    assert [each.reason for each in rehearsal.problems] == ["profile_refused", "tool_refused"]
    assert rehearsal.profile is Profile.CONTAINED
    assert any("as under the profile 'contained'" in line for line in rehearsal.warnings)
    done = await ran(app, tools=("Read",), profile=Profile.FULL)
    assert (done.reason, done.error) == (rehearsal.reason, rehearsal.error)


async def test_a_folder_that_cannot_be_made_is_told(app: App, agent: FakeAgent) -> None:
    app.settings.playground.write_text("in the way", encoding="utf-8")
    rehearsal = await rehearse(app, tools=("Read",))
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "folder_unavailable")
    assert agent.orders == []


async def test_a_run_that_its_claude_code_refuses_fails_in_its_words(tmp_path: Path) -> None:
    async def refuse(_order: Order, _listener: Listener, _stop: Stop) -> Ending:
        return Ending(State.ERROR, reason="sandbox_missing", error="shell commands can't be confined")

    async with open_app(settings_in(tmp_path), agent=FakeAgent(refuse)) as app:
        rehearsal = await rehearse(app, tools=("Read",))
    assert (rehearsal.reason, rehearsal.error) == ("sandbox_missing", "shell commands can't be confined")


async def test_a_call_of_a_tool_would_be_refused(tmp_path: Path) -> None:
    said: list[str | None] = []

    async def call(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        said.append(await listener.calling("1", "Read", {}))
        return await FakeAgent.say_done(_order, listener, _stop)

    async with open_app(settings_in(tmp_path), agent=FakeAgent(call)) as app:
        await rehearse(app, tools=("Read",))
        assert await rows(app) == [0, 0, 0]
    assert said == ["this is a rehearsal: no tool is called"]


async def test_rehearsals_are_made_one_at_a_time(tmp_path: Path) -> None:
    async def slowly(order: Order, listener: Listener, stop: Stop) -> Ending:
        for _ in range(5):
            await asyncio.sleep(0)
        return await FakeAgent.say_done(order, listener, stop)

    agent = FakeAgent(slowly)
    async with open_app(settings_in(tmp_path), agent=agent) as app:
        await asyncio.gather(*(rehearse(app, tools=("Read",)) for _ in range(3)))
    assert (len(agent.orders), agent.most_at_once) == (3, 1)


async def test_a_rehearsal_that_is_given_up_lets_the_next_begin(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang(_order: Order, _listener: Listener, _stop: Stop) -> Ending:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    agent = FakeAgent(hang)
    async with open_app(settings_in(tmp_path), agent=agent) as app:
        given_up = asyncio.create_task(rehearse(app, tools=("Read",)))
        await begun.wait()
        given_up.cancel()
        await asyncio.wait({given_up}, timeout=PATIENCE)
        agent._act = FakeAgent.say_done
        assert (await rehearse(app, tools=("Read",))).verdict is Verdict.WOULD_RUN


async def test_one_whose_turn_does_not_come_is_refused(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_runner.rehearsing._rehearsals.WAIT_SECONDS", 0.01)
    async with app.rehearsals._turn:
        with pytest.raises(ConflictError, match="one is made at a time"):
            await rehearse(app, tools=("Read",))


async def test_a_claude_code_that_never_asks_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.rehearsing._trial.ASK_SECONDS", 0.01)
    async with open_app(settings_in(tmp_path), agent=FakeAgent(FakeAgent.wait_for_stop)) as app:
        rehearsal = await rehearse(app, tools=("Read",))
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "start_timeout")


async def test_servers_get_half_a_minute_in_all(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    put(app, "slow", "import time\nfrom fastmcp import FastMCP\nmcp = FastMCP('slow')\ntime.sleep(60)\n")
    monkeypatch.setattr("claude_runner.rehearsing._starts.START_SECONDS", 0.05)
    rehearsal = await rehearse(app, tools=("mcp__slow__x",))
    assert (rehearsal.verdict, rehearsal.reason) == (Verdict.WOULD_FAIL, "mcp_server_failed")
    assert "slow was not up within" in (rehearsal.error or "")


async def test_a_process_that_does_not_lead_rehearses_too(app: App, clock: FakeClock) -> None:
    job = await job_in(app, tools=("Read",))
    async with open_app(app.settings, agent=FakeAgent(), clock=clock) as second:
        assert not second.leadership.leading
        assert (await second.rehearsals.of_job(job.id)).verdict is Verdict.WOULD_RUN


async def test_where_runs_ask_another_provider_this_is_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, environment={"CLAUDE_CODE_USE_BEDROCK": "1"})
    async with open_app(settings, agent=FakeAgent()) as app:
        rehearsal = await rehearse(app, tools=("Read",))
    assert any("Amazon Bedrock" in line for line in rehearsal.warnings)


@pytest.mark.parametrize(("given", "field"), [({"prompt": " "}, "prompt"), ({"model": "a b"}, "model")])
async def test_what_can_be_no_run_is_refused(app: App, given: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        await rehearse(app, **{"tools": ("Read",), **given})
    assert refused.value.field == field


async def test_there_must_be_such_a_job(app: App) -> None:
    with pytest.raises(NotFoundError):
        await app.rehearsals.of_job("00000000")
