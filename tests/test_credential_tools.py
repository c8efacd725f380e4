"""The tools of credentials as an MCP client meets them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult

from claude_runner.app import App
from tests.parts import logged
from tests.support import MORNING, content, text

WEATHER = {
    "description": "Tells the weather.",
    "created_at": "2026-11-24T00:00:00+00:00",
    "updated_at": "2026-11-24T00:00:00+00:00",
    "enabled": True,
    "env_vars": [
        {
            "name": "SOURCE",
            "description": "Who tells.",
            "required": False,
            "sensitive": False,
            "default": "a",
        },
        {
            "name": "A_KEY",
            "description": "A's.",
            "required": True,
            "sensitive": True,
            "when": {"SOURCE": ["a"]},
        },
        {
            "name": "B_KEY",
            "description": "B's.",
            "required": True,
            "sensitive": True,
            "when": {"SOURCE": ["b"]},
        },
        {"name": "CITY", "description": "Where.", "required": True, "sensitive": False},
    ],
}
CODE = "from fastmcp import FastMCP\n\nmcp = FastMCP('a')\n"
LONG = "0123456789-secret-abcdef"

Mcp = Client[Any]


@pytest.fixture(autouse=True)
def servers(tmp_path: Path) -> None:
    """Two servers put there by hand; the other one is disabled and needs nothing, as far as it says."""
    put(tmp_path, "weather", WEATHER)
    put(tmp_path, "plain", WEATHER | {"env_vars": [], "enabled": False})
    put(tmp_path, "asleep", WEATHER | {"enabled": False})


def put(home: Path, name: str, metadata: Mapping[str, Any]) -> None:
    folder = home / "dynamic_servers" / name
    folder.mkdir(parents=True)
    (folder / "server.py").write_text(CODE)
    (folder / "metadata.json").write_text(json.dumps(metadata))


async def call(mcp: Mcp, tool: str, **arguments: Any) -> CallToolResult:
    return await mcp.call_tool(tool, arguments, raise_on_error=False)


async def answer(mcp: Mcp, tool: str, **arguments: Any) -> dict[str, Any]:
    return dict(content(await call(mcp, tool, **arguments)))


async def refusal(mcp: Mcp, tool: str, **arguments: Any) -> str:
    result = await call(mcp, tool, **arguments)
    assert result.is_error, result.structured_content
    assert "\n" not in text(result)
    return text(result)


async def set_key(mcp: Mcp, key: str, value: str = "hunter22", server: str = "weather") -> dict[str, Any]:
    return await answer(mcp, "set_server_credential", server=server, key=key, value=value)


async def test_what_a_server_lacks_is_told_until_it_is_ready(mcp: Mcp) -> None:
    first = await set_key(mcp, "CITY")
    assert (first["ready"], first["missing"], first["warning"]) == (False, ["A_KEY"], None)
    second = await set_key(mcp, "A_KEY", LONG)
    assert second == {
        "server": "weather",
        "key": "A_KEY",
        "configured": True,
        "tail": "cdef",
        "ready": True,
        "missing": [],
        "warning": None,
    }


async def test_what_is_required_goes_by_the_other_settings(mcp: Mcp) -> None:
    listed = await answer(mcp, "list_required_credentials", server="weather")
    assert [it["key"] for it in listed["credentials"]] == ["A_KEY", "CITY"]
    assert (listed["total"], listed["ready"], listed["missing"]) == (2, False, ["A_KEY", "CITY"])
    assert listed["optional"] == ["SOURCE", "B_KEY"]
    await set_key(mcp, "SOURCE", "b")
    await set_key(mcp, "CITY")
    listed = await answer(mcp, "list_required_credentials", server="weather")
    assert listed["credentials"] == [
        {"key": "B_KEY", "configured": False, "sensitive": True, "description": "B's."},
        {"key": "CITY", "configured": True, "sensitive": False, "description": "Where."},
    ]
    assert listed["optional"] == ["SOURCE", "A_KEY"]


async def test_credentials_are_shown_without_their_values(mcp: Mcp) -> None:
    await set_key(mcp, "A_KEY", LONG)
    await set_key(mcp, "CITY", "Berlin")
    shown = await answer(mcp, "get_server_credentials", server="weather")
    assert [(it["key"], it["configured"], it["required"], it["tail"]) for it in shown["credentials"]] == [
        ("SOURCE", False, False, None),
        ("A_KEY", True, True, "cdef"),
        ("B_KEY", False, False, None),
        ("CITY", True, True, None),
    ]
    assert (shown["total"], shown["ready"], shown["missing"]) == (4, True, [])
    assert shown["credentials"][1]["updated_at"] == MORNING.isoformat()
    assert shown["credentials"][0] == {
        "key": "SOURCE",
        "configured": False,
        "tail": None,
        "declared": True,
        "required": False,
        "sensitive": False,
        "description": "Who tells.",
        "default": "a",
        "updated_at": None,
        "problem": None,
    }


async def test_no_answer_and_no_log_line_has_a_value(mcp: Mcp) -> None:
    with logged("") as log:
        answers = [
            await set_key(mcp, "A_KEY", LONG),
            await answer(mcp, "get_server_credentials", server="weather"),
            await answer(mcp, "list_required_credentials", server="weather"),
            await answer(mcp, "get_unconfigured_servers"),
            await answer(mcp, "delete_server_credential", server="weather", key="A_KEY"),
            await refusal(mcp, "set_server_credential", server="nowhere", key="A_KEY", value=LONG),
            await refusal(mcp, "set_server_credential", server="weather", key="PATH", value=LONG),
            await refusal(mcp, "set_server_credential", server="weather", key="A_KEY", value=[LONG]),
        ]
    assert LONG not in json.dumps(answers)
    assert log.having(LONG) == []


async def test_a_value_that_is_no_text_is_refused_without_showing_it(mcp: Mcp) -> None:
    sentence = await refusal(mcp, "set_server_credential", server="weather", key="A_KEY", value=482913)
    assert sentence == "value must be a text"


async def test_a_key_that_the_server_does_not_declare_is_taken_with_a_warning(mcp: Mcp) -> None:
    told = await set_key(mcp, "C_KEY")
    assert told["warning"] == (
        "weather declares only SOURCE, A_KEY, B_KEY, CITY: check the name C_KEY, unless you know that its code reads it"
    )
    assert "declares no credential at all" in (await set_key(mcp, "C_KEY", server="plain"))["warning"]
    shown = await answer(mcp, "get_server_credentials", server="plain")
    [view] = shown["credentials"]
    assert (view["key"], view["declared"], view["required"], view["sensitive"]) == (
        "C_KEY",
        False,
        False,
        True,
    )


async def test_white_space_around_a_value_is_kept_and_told(mcp: Mcp) -> None:
    told = await set_key(mcp, "A_KEY", "hunter22\n")
    assert told["warning"] == "the value has white space around it, which is kept"
    assert (await set_key(mcp, "A_KEY", "line one\nline two\n"))["warning"] is None


async def test_servers_that_lack_credentials_are_listed_enabled_ones_first(mcp: Mcp) -> None:
    listed = await answer(mcp, "get_unconfigured_servers")
    ours = [it for it in listed["servers"] if it["name"] in {"weather", "asleep"}]
    assert listed["total"] == len(listed["servers"])
    assert ours == [
        {
            "name": name,
            "kind": "dynamic",
            "enabled": enabled,
            "description": "Tells the weather.",
            "missing": ["A_KEY", "CITY"],
        }
        for name, enabled in (("weather", True), ("asleep", False))
    ]
    await set_key(mcp, "A_KEY")
    await set_key(mcp, "CITY")
    listed = await answer(mcp, "get_unconfigured_servers")
    assert [it["name"] for it in listed["servers"] if it["name"] in {"weather", "asleep"}] == ["asleep"]


async def test_on_first_run_email_lacks_its_key_and_its_sender(mcp: Mcp) -> None:
    listed = await answer(mcp, "get_unconfigured_servers")
    [email] = [it for it in listed["servers"] if it["name"] == "email"]
    assert (email["enabled"], email["kind"], set(email["missing"])) == (
        True,
        "fixed",
        {"SENDGRID_API_KEY", "SENDER_EMAIL"},
    )


async def test_a_deleted_credential_is_missing_again(mcp: Mcp) -> None:
    await set_key(mcp, "A_KEY")
    await set_key(mcp, "CITY")
    gone = await answer(mcp, "delete_server_credential", server="weather", key="CITY")
    assert gone == {"deleted": True, "server": "weather", "key": "CITY", "ready": False, "missing": ["CITY"]}
    assert "weather has no credential 'CITY'" in await refusal(
        mcp, "delete_server_credential", server="weather", key="CITY"
    )


@pytest.mark.parametrize("tool", ["get_server_credentials", "list_required_credentials"])
async def test_an_unknown_server_is_said(mcp: Mcp, tool: str) -> None:
    for name in ("nowhere", "../weather", "a\0b", "x" * 300):
        assert len(await refusal(mcp, tool, server=name)) < 400


async def test_nothing_is_kept_for_an_unknown_server(mcp: Mcp, app: App) -> None:
    await refusal(mcp, "set_server_credential", server="nowhere", key="A_KEY", value="hunter22")
    assert await app.credentials.everything() == {}


async def test_a_value_whose_key_is_lost_counts_as_missing_and_names_what_to_do(mcp: Mcp, app: App) -> None:
    await set_key(mcp, "A_KEY", LONG)
    (app.settings.state / "credentials.key").unlink()
    shown = await answer(mcp, "get_server_credentials", server="weather")
    view = shown["credentials"][1]
    assert (view["configured"], view["tail"], shown["ready"]) == (False, None, False)
    assert "A_KEY" in shown["missing"]
    assert view["problem"].startswith("it can't be opened with the keys in")
    assert view["problem"].endswith("set it again")
    whole = await answer(mcp, "get_dynamic_mcp_server", name="weather")
    assert whole["missing_credentials"] == shown["missing"]
    assert (await set_key(mcp, "A_KEY", LONG))["missing"] == ["CITY"]


async def test_clients_are_told_that_the_value_is_a_secret(mcp: Mcp) -> None:
    [tool] = [tool for tool in await mcp.list_tools() if tool.name == "set_server_credential"]
    value = tool.input_schema["properties"]["value"]
    assert (value["type"], value["format"], value["writeOnly"]) == ("string", "password", True)
