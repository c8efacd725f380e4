"""The door of runs: one endpoint, a token for each run that dies with it, and what a run may call through it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp.shared.exceptions import MCPError

from claude_runner.agent import ClaudeAgent
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import RunnerError, ServerFailedError, UnavailableError
from claude_runner.pool import Door, Patience, Wanted
from claude_runner.runs import NewRun, Run, State, Trigger
from tests.parts import Parts, hands_of, open_parts
from tests.scripted_model import ScriptedModel, script
from tests.support import ended, running, text
from tests.tool_servers import QUICK, comes, processes, put, temporary

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

LOOK = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


@dataclass(frozen=True)
class Hall:
    """The door, and who may come."""

    parts: Parts
    settings: Settings
    door: Door
    reach: Any

    async def wanted(self, name: str, *tools: str) -> Wanted:
        return Wanted(await self.reach.servers.get(name), frozenset(tools) or None)


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    settings = Settings(home=tmp_path, environment={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    with temporary(tmp_path / "temporary"):
        async with open_parts(settings.database_path) as parts:
            reach, door = await hands_of(parts, settings, None)
            put(settings, "quick")
            put(settings, "other")
            yield Hall(parts, settings, door, reach)


@dataclass(frozen=True)
class Key:
    """What a run finds in its configuration."""

    path: Path

    @property
    def servers(self) -> dict[str, Any]:
        return dict(json.loads(self.path.read_text())["mcpServers"])

    @property
    def token(self) -> str:
        header: str = next(iter(self.servers.values()))["headers"]["Authorization"]
        return header.removeprefix("Bearer ")

    def url(self, name: str) -> str:
        return str(self.servers[name]["url"])

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Client[Any]]:
        transport = StreamableHttpTransport(self.url(name), headers=self.servers[name]["headers"])
        async with Client(transport) as client:
            yield client


@asynccontextmanager
async def let_in(hall: Hall, run: Run, *wanted: Wanted) -> AsyncIterator[Key]:
    async with hall.door.lend(run, wanted) as path:
        yield Key(path)


async def ask(url: str, token: str, method: str = "POST") -> int:
    async with httpx.AsyncClient() as client:
        headers = HEADERS | {"Authorization": f"Bearer {token}"}
        return (await client.request(method, url, json=LOOK, headers=headers)).status_code


# What a run is given


async def test_a_run_calls_the_tools_that_it_was_granted_and_sees_no_others(hall: Hall) -> None:
    run = await hall.parts.claimed()
    async with let_in(hall, run, await hall.wanted("quick", "echo", "key"), Wanted(None)) as key:
        async with key.client("quick") as client:
            assert [tool.name for tool in await client.list_tools()] == ["echo", "key"]
            result = await client.call_tool("echo", {"text": "hello"})
            assert text(result) == "hello"
            refused = await client.call_tool("hold", {}, raise_on_error=False)
            assert refused.is_error
            assert text(refused) == "this run may not call 'hold' of quick"
        async with key.client("runner") as client:
            assert "remember" in {tool.name for tool in await client.list_tools()}
            said = await client.call_tool("recall", {}, raise_on_error=False)
            assert "this run belongs to no job" in text(said)


async def test_a_tool_is_called_by_its_own_name_and_granted_by_the_one_that_runs_know(hall: Hall) -> None:
    put(hall.settings, "quick", QUICK + "mcp.tools['get.item'] = lambda: 'had'\n")
    run = await hall.parts.claimed()
    async with (
        let_in(hall, run, await hall.wanted("quick", "get_item")) as key,
        key.client("quick") as client,
    ):
        assert [tool.name for tool in await client.list_tools()] == ["get.item"]
        assert text(await client.call_tool("get.item", {})) == "had"


async def test_two_runs_share_a_server_and_each_has_a_token(hall: Hall) -> None:
    wanted = await hall.wanted("quick")
    one, other = await hall.parts.claimed(), await hall.parts.claimed()
    async with let_in(hall, one, wanted) as first, let_in(hall, other, wanted) as second:
        assert first.token != second.token
        async with first.client("quick") as here, second.client("quick") as there:
            answers = [await client.call_tool("which", {}) for client in (here, there)]
    assert len({text(answer) for answer in answers}) == 1


async def test_a_server_kept_for_each_run_is_its_own_and_ends_with_it(hall: Hall) -> None:
    put(hall.settings, "quick", per_run=True)
    wanted = await hall.wanted("quick")
    one, other = await hall.parts.claimed(), await hall.parts.claimed()
    async with let_in(hall, other, wanted) as second:
        async with let_in(hall, one, wanted) as first:
            async with first.client("quick") as here, second.client("quick") as there:
                answers = [await client.call_tool("which", {}) for client in (here, there)]
            mine, theirs = (text(answer) for answer in answers)
            assert mine != theirs
        assert {it.info["environ"]["CLAUDE_RUNNER_SERVER"] for it in processes("quick")} == {theirs}
    assert not processes("quick")


# Who is let in


async def test_a_wrong_token_another_server_and_another_method_are_refused(hall: Hall) -> None:
    run, other = await hall.parts.claimed(), await hall.parts.claimed()
    async with (
        let_in(hall, run, await hall.wanted("quick")) as key,
        let_in(hall, other, await hall.wanted("other")) as second,
    ):
        url = key.url("quick")
        assert await ask(url, key.token) == 200
        assert await ask(url, "x") == 401
        assert await ask(url, key.token[:-1]) == 401
        assert await ask(url, second.token) == 404
        for path in ("/other", "/", "/quick/", "//quick", "/quick/../other", "/runner", "/%71uick/x"):
            assert await ask(url.removesuffix("/quick") + path, key.token) == 404, path
        for method in ("GET", "DELETE", "PUT"):
            assert await ask(url, key.token, method) == 405


async def test_the_token_dies_with_the_run_and_with_it_the_calls_that_go_on(hall: Hall) -> None:
    run = await hall.parts.claimed()
    wanted = await hall.wanted("quick")
    data = hall.settings.home / "dynamic_servers/quick/data"
    async with AsyncExitStack() as stack:
        async with let_in(hall, run, wanted) as key:
            url, token, path = key.url("quick"), key.token, key.path
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
            client = await stack.enter_async_context(key.client("quick"))
            calling = asyncio.create_task(client.call_tool("hold", {}, raise_on_error=False))
            await comes((data / "held").exists)
        assert text(await calling) == "the run has ended"
    assert not path.exists()
    assert await ask(url, token) == 401
    await comes(lambda: not processes("quick"))


# What is not there


async def test_a_run_is_not_let_in_to_what_is_not_there(hall: Hall) -> None:
    put(hall.settings, "broken", "raise ValueError('no')\n")
    put(hall.settings, "worse", "import sys\nsys.exit()\n")
    run = await hall.parts.claimed()
    for wanted, sentence in (
        (
            [await hall.wanted("quick", "sing", "echo")],
            "quick is up but has no tool sing; it has echo, hold, key, which",
        ),
        ([await hall.wanted("broken")], "broken: the server has ended: line 1: ValueError: no"),
    ):
        with pytest.raises(ServerFailedError) as raised:
            async with let_in(hall, run, *wanted):
                pass
        assert str(raised.value) == sentence
    both = [await hall.wanted("broken"), await hall.wanted("quick"), await hall.wanted("worse")]
    with pytest.raises(RunnerError, match=r"ValueError: no|\(sys\.exit\)"):
        async with let_in(hall, run, *both):
            pass
    assert not list((hall.settings.state / "mcp").glob("*"))


async def test_a_server_that_goes_wrong_in_a_run_is_told_to_the_model(hall: Hall) -> None:
    code = (
        QUICK
        + "@mcp.tool\ndef die():\n    os._exit(3)\n"
        + "@mcp.tool\ndef odd():\n    return {'content': [{'type': 'text', 'text': 5}]}\n"
        + "@mcp.tool\ndef odder():\n    return {'content': 5}\n"
    )
    put(hall.settings, "quick", code)
    run = await hall.parts.claimed()
    async with let_in(hall, run, await hall.wanted("quick")) as key, key.client("quick") as client:
        for tool, words in (
            ("die", "quick: the server has ended (exit code 3) without a word"),
            ("odd", "quick: its answer can't be read: it is no result of a tool"),
            ("odder", "quick: its answer can't be read: it is no result of a tool"),
        ):
            result = await client.call_tool(tool, {}, raise_on_error=False)
            assert (result.is_error, text(result)) == (True, words)
        put(hall.settings, "quick", "raise ValueError('broken by hand')\n")
        await hall.reach.pool.forget("quick")
        with pytest.raises(MCPError, match="broken by hand"):
            await client.list_tools()
        result = await client.call_tool("echo", {"text": "x"}, raise_on_error=False)
        assert "broken by hand" in text(result)


async def test_a_configuration_that_cannot_be_written_lets_nobody_in(hall: Hall) -> None:
    run = await hall.parts.claimed()
    (hall.settings.state).mkdir(exist_ok=True)
    (hall.settings.state / "mcp").touch()  # a file in the way
    with pytest.raises(UnavailableError, match="can't be used"):
        async with let_in(hall, run, await hall.wanted("quick")):
            pass


# Real runs: the real CLI, the scripted model


@pytest.fixture
async def real(owner: Settings) -> AsyncIterator[App]:
    async with open_app(owner, agent=ClaudeAgent(owner), patience=Patience(start=10)) as app:
        yield app


async def started(app: App, prompt: str, *tools: str) -> str:
    return await app.runs.add(NewRun(prompt, Trigger.QUICK, tools=tools), app.clock.now())


async def test_a_run_calls_a_server_through_the_door_with_no_token_on_its_command_line(
    real: App, owner: Settings, model: ScriptedModel
) -> None:
    put(owner, "quick")
    data = owner.home / "dynamic_servers/quick/data"
    prompt = script({"text": "Working.", "tool": "mcp__quick__hold", "input": {}}, {"text": "done"})
    run_id = await started(real, prompt, "mcp__quick__hold")
    await running(real, run_id, said="Working.")
    await comes((data / "held").exists)
    [path] = (owner.state / "mcp").iterdir()
    token = Key(path).token
    family = [process for process in psutil.process_iter(["cmdline", "environ"]) if _is_of(process, run_id)]
    assert any(str(path) in " ".join(process.info["cmdline"]) for process in family)
    for process in family:
        assert token not in " ".join(process.info["cmdline"])
        assert token not in "".join((process.info["environ"] or {}).values())
    (data / "go").touch()
    assert (await ended(real, run_id)).output == "done"
    assert not path.exists()
    [result] = [
        block for block in model.requests[-1].body["messages"][-1]["content"] if "tool_use_id" in block
    ]
    assert "held" in json.dumps(result["content"])


def _is_of(process: psutil.Process, run_id: str) -> bool:
    return (process.info["environ"] or {}).get("CLAUDE_RUNNER_RUN") == run_id


@pytest.mark.parametrize(
    ("code", "tool", "words"),
    [
        ("x = 1\nraise ValueError('no')\n", "x", "broken: the server has ended: line 2: ValueError: no"),
        (QUICK, "sing", "broken is up but has no tool sing; it has echo, hold, key, which"),
        (QUICK + "os._exit(7)\n", "echo", "broken: the server has ended (exit code 7) without a word"),
    ],
)
async def test_a_run_whose_server_is_not_there_ends_before_the_model_is_asked(
    real: App, owner: Settings, model: ScriptedModel, code: str, tool: str, words: str
) -> None:
    put(owner, "broken", code)
    run = await ended(real, await started(real, "go", f"mcp__broken__{tool}"))
    assert (run.state, run.reason) == (State.ERROR, "mcp_server_failed")
    assert words in (run.error or "")
    assert not model.requests
    assert not list((owner.state / "mcp").glob("*"))


async def test_a_run_that_is_killed_in_a_call_leaves_nothing_of_the_server(
    real: App, owner: Settings
) -> None:
    put(owner, "quick")
    prompt = script({"text": "Working.", "tool": "mcp__quick__hold", "input": {}})
    run_id = await started(real, prompt, "mcp__quick__hold")
    await running(real, run_id, said="Working.")
    await comes((owner.home / "dynamic_servers/quick/data/held").exists)
    cancelled = await real.dispatcher.cancel(run_id)
    assert cancelled.state is State.CANCELLED
    await comes(lambda: not processes("quick"))
