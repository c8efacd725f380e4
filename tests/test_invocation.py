"""Calling a tool at once: what is checked before, what is kept of it after, and no secret in either."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from claude_runner.config import Settings
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.hub import Topic
from claude_runner.invocation import Invocations
from claude_runner.pool import Pool
from claude_runner.redaction import Redactor
from claude_runner.runs import Verdict
from tests.parts import hands_of, locked, logged, open_parts
from tests.support import PATIENCE
from tests.tool_servers import QUICK, Lab, comes, open_lab, processes, put

SECRET = "sk-live-9f8e7d6c5b4a"
NEXT = "sk-next-0a1b2c3d4e5f"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as lab:
        yield lab


def with_schema(**schema: Any) -> str:
    """A server whose tool `take` takes what the schema says."""
    listed = json.dumps([{"name": "take", "inputSchema": {"type": "object", **schema}}])
    take = "@mcp.tool\ndef take(**given):\n    return 'taken'\n"
    return f"{QUICK}mcp.list = lambda: {{'tools': json.loads({listed!r})}}\n{take}"


async def kept(lab: Lab) -> list[tuple[str, Verdict, str | None]]:
    """What the log of calls has, newest first."""
    await lab.app.invocations.settled()
    return [
        (call.tool, call.verdict, call.result) for call in (await lab.app.runs.calls(None, None, 20)).calls
    ]


# What is checked


@pytest.mark.parametrize(
    ("schema", "payload", "sentence"),
    [
        ({"required": ["city"]}, {}, "payload does not fit take: 'city' is a required property"),
        (
            {"properties": {"days": {"type": "integer", "minimum": 1}}},
            {"days": 0},
            "payload['days'] does not fit take: 0 is less than the minimum of 1",
        ),
        (
            {"additionalProperties": False},
            {"town": "Berlin"},
            "payload does not fit take: Additional properties are not allowed ('town' was unexpected)",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string"}}},
            {"a": [1]},
            "payload['a'] does not fit take: [1] is not of type 'string'",
        ),
    ],
)
async def test_a_payload_that_does_not_fit_is_refused_before_the_call(
    lab: Lab, schema: dict[str, Any], payload: dict[str, Any], sentence: str
) -> None:
    await lab.put("quick", with_schema(**schema))
    assert await lab.refusal("invoke_internal_mcp_tool", tool="quick:take", payload=payload) == sentence
    assert await kept(lab) == [("mcp__quick__take", Verdict.ERROR, sentence)]


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"properties": {"a": {"type": 5}}},
        {"properties": 5},
        {"$schema": "http://127.0.0.1:9/unknown"},
        {"properties": {"a": {"pattern": "^(a+)+$"}}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False},
    ],
)
async def test_a_schema_that_cannot_be_used_leaves_the_check_to_the_server(
    lab: Lab, schema: dict[str, Any]
) -> None:
    await lab.put("quick", with_schema(**schema))
    payload = {"a": "a" * 60 + "!", "a" * 60 + "!": 1}
    async with asyncio.timeout(PATIENCE):
        outcome = await lab.app.invocations.invoke("quick:take", payload, 20)
    assert outcome.content[0]["text"] == "taken"


async def test_a_schema_that_changes_is_heeded(lab: Lab) -> None:
    await lab.put("quick", with_schema(required=["city"]))
    with pytest.raises(InvalidError):
        await lab.call("quick:take", town="x")
    await lab.put("quick", with_schema(required=["town"]))
    assert await lab.call("quick:take", town="x") == "taken"


@pytest.mark.parametrize("name", ["mcp__quick__echo", "quick:echo", "quick.echo"])
async def test_a_tool_is_found_by_each_form_of_its_name(lab: Lab, name: str) -> None:
    await lab.put("quick")
    outcome = await lab.answer("invoke_internal_mcp_tool", tool=name, payload={"text": "hello"})
    assert outcome == {
        "tool": "mcp__quick__echo",
        "is_error": False,
        "content": [{"type": "text", "text": "hello"}],
        "structured": None,
    }


async def test_a_tool_is_found_by_the_name_that_runs_know_it_by(lab: Lab) -> None:
    await lab.put("quick", QUICK + "mcp.tools['get.item'] = lambda: 'had'\n")
    outcome = await lab.answer("invoke_internal_mcp_tool", tool="mcp__quick__get_item")
    assert (outcome["tool"], outcome["content"][0]["text"]) == ("mcp__quick__get_item", "had")


async def test_what_is_not_there_or_disabled_is_told(lab: Lab) -> None:
    await lab.put("quick")
    refused = lab.refusal
    assert await refused("invoke_internal_mcp_tool", tool="quick:ecko") == (
        "quick has no tool 'ecko'; did you mean echo?"
    )
    assert await refused("invoke_internal_mcp_tool", tool="quick:zzz") == (
        "quick has no tool 'zzz'; it has echo, which, key, hold"
    )
    assert "there is no server 'nobody'" in await refused("invoke_internal_mcp_tool", tool="nobody:x")
    await lab.enable("quick", enabled=False)
    assert await refused("invoke_internal_mcp_tool", tool="quick:echo") == (
        "the server 'quick' is disabled; enable it first"
    )


@pytest.mark.parametrize("seconds", [0, 241, "5", 1.5])
async def test_a_time_that_cannot_be_is_refused(lab: Lab, seconds: Any) -> None:
    assert "timeout_seconds" in await lab.refusal(
        "invoke_internal_mcp_tool", tool="quick:echo", timeout_seconds=seconds
    )


# What is kept


async def test_every_call_is_kept_however_it_ends(lab: Lab) -> None:
    code = (
        QUICK + "@mcp.tool\ndef fail():\n    raise ValueError('no')\n@mcp.tool\ndef die():\n    os._exit(3)\n"
    )
    await lab.put("quick", code)
    assert await lab.call("quick:echo", text="hello") == "hello"
    assert (await lab.answer("invoke_internal_mcp_tool", tool="quick:fail"))["is_error"]
    await lab.refusal("invoke_internal_mcp_tool", tool="quick:die")
    with pytest.raises(NotFoundError):
        await lab.call("quick:nothing")
    missing = "quick has no tool 'nothing'; it has echo, which, key, hold, fail, die"
    assert set(await kept(lab)) == {
        ("mcp__quick__echo", Verdict.OK, "hello"),
        ("mcp__quick__fail", Verdict.ERROR, "no"),
        ("mcp__quick__die", Verdict.ERROR, "quick: the server has ended (exit code 3) without a word"),
        ("mcp__quick__nothing", Verdict.ERROR, missing),
    }


async def test_a_call_whose_client_leaves_is_kept_as_given_up_and_its_server_ends(lab: Lab) -> None:
    await lab.put("quick")

    async def call() -> None:
        await lab.app.invocations.invoke("quick:hold", {}, 20)

    with lab.app.hub.subscribe(Topic.TOOL_CALLS) as changes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await comes(lambda: lab.data("quick", "held").exists())
            tasks.cancel_scope.cancel()
        await asyncio.wait_for(changes.changed.wait(), PATIENCE)
    assert await kept(lab) == [("mcp__quick__hold", Verdict.ABANDONED, None)]
    await comes(lambda: not processes("quick"))


async def test_an_answer_is_not_lost_where_the_call_cannot_be_written_down(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, environment={"PATH": os.environ["PATH"]})
    async with open_parts(settings.database_path) as parts:
        reach, _ = await hands_of(parts, settings, None)
        invocations = Invocations(
            reach.servers, cast("Pool", reach.pool), parts.runs, Redactor(), parts.clock
        )
        put(settings, "quick")
        with logged() as log, locked(settings.database_path):
            outcome = await invocations.invoke("quick:echo", {"text": "hello"}, 20)
            await invocations.settled()
            assert log.having("a call of mcp__quick__echo can't be written down")
    assert outcome.content == [{"type": "text", "text": "hello"}]


# No secret


async def test_a_credential_is_nowhere_but_under_its_key(tmp_path: Path) -> None:
    code = (
        QUICK
        + """
SECRET = os.environ.get("API_KEY")
print("starting with", SECRET, file=sys.stderr)

@mcp.tool
def tell(how):
    if how == "raise":
        raise ValueError(f"no: {SECRET}")
    if how == "die":
        sys.stderr.write(f"dying with {SECRET[:7]}")
        sys.stderr.flush()
        time.sleep(0.05)
        sys.stderr.write(SECRET[7:])
        sys.stderr.flush()
        os._exit(1)
    return {"content": [{"type": "text", "text": SECRET}], "structuredContent": {SECRET: [SECRET, {"a": SECRET}]}}

mcp.list = lambda: {"tools": [
    {"name": "tell", "description": f"Knows {SECRET}", "inputSchema": {"type": "object", "properties": {
        "how": {"type": "string", "default": SECRET}}}}]}
"""
    )
    said: list[str] = []
    with logged("") as log:
        async with open_lab(tmp_path) as lab:
            await lab.answer("create_mcp_server", name="teller", code=code)
            await lab.answer("set_server_credential", server="teller", key="API_KEY", value=SECRET)
            tell = {"tool": "teller:tell"}
            for how in ("raise", "tell", SECRET):
                outcome = await lab.answer("invoke_internal_mcp_tool", **tell, payload={"how": how})
                said += [json.dumps(outcome)]
            for wrong in ("die", [SECRET]):
                said += [await lab.refusal("invoke_internal_mcp_tool", **tell, payload={"how": wrong})]
            assert "dying with [credential API_KEY]" in said[3]
            for tool, arguments in (
                ("get_mcp_server_log", {"name": "teller"}),
                ("get_dynamic_mcp_server", {"name": "teller"}),
                ("list_dynamic_mcp_servers", {}),
                ("list_tool_calls", {}),
                ("get_server_credentials", {"server": "teller"}),
            ):
                said.append(json.dumps(await lab.answer(tool, **arguments)))
    assert "Knows [credential API_KEY]" in said[6]
    assert log.having("claude")
    for text in said:
        assert SECRET not in text
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    assert (tmp_path / "home/.claude-runner/servers/teller.log").read_text().count(
        "[credential API_KEY]"
    ) >= 2


async def test_a_value_that_was_replaced_stays_secret_for_another_hour(lab: Lab) -> None:
    await lab.put("quick", env_vars=["API_KEY"])
    await lab.set("quick", "API_KEY", SECRET)
    going_on = asyncio.create_task(lab.call("quick:hold"))
    await comes(lambda: lab.data("quick", "held").exists())
    await lab.set("quick", "API_KEY", NEXT)
    assert await lab.call("quick:key") == "[credential API_KEY]"
    lab.data("quick", "go").touch()
    assert await going_on == "held [credential API_KEY]"
    lab.clock.move(3500)
    await lab.app.secrecy.refresh()
    assert (
        await lab.call("quick:echo", text=f"{SECRET} {NEXT}") == "[credential API_KEY] [credential API_KEY]"
    )
    lab.clock.move(200)
    await lab.app.secrecy.refresh()
    assert await lab.call("quick:echo", text=f"{SECRET} {NEXT}") == f"{SECRET} [credential API_KEY]"
