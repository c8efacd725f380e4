import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.hub import Change, Topic
from claude_runner.servers import (
    ExternalDraft,
    Kind,
    Variable,
)
from tests.server_parts import TOOLS, House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_an_external_program_is_added_and_read_from_the_setting(house: House) -> None:
    with house.parts.hub.subscribe(Topic.SERVERS) as changes:
        azure, secrets = await house.servers.add_external(
            ExternalDraft(
                "azure-devops",
                command="npx",
                args=["-y", "@azure-devops/mcp", "contoso"],
                env_vars=["AZURE_TOKEN", {"name": "AZURE_ORG", "description": "Whose", "required": False}],
                description="Work items",
            ),
            house.now,
        )
    assert changes.take() == [Change(Topic.SERVERS, "azure-devops")]
    assert secrets == {}
    assert (azure.kind, azure.enabled, azure.folder, azure.url) == (Kind.EXTERNAL, True, None, None)
    assert azure.command == ("npx", "-y", "@azure-devops/mcp", "contoso")
    assert azure.variables == (
        Variable("AZURE_TOKEN", sensitive=True),
        Variable("AZURE_ORG", "Whose", required=False),
    )
    assert azure.created_at == house.now
    assert azure.code_path is None
    assert azure.data_dir == house.settings.state / "data" / "azure-devops"
    assert azure == await house.servers.get("azure-devops")


async def test_secrets_given_with_an_external_server_are_handed_back_and_not_kept(house: House) -> None:
    server, secrets = await house.servers.add_external(
        ExternalDraft(
            "azure",
            url="https://mcp.example.com/mcp",
            headers={
                "Authorization": "Bearer hush",
                "X-Key": "Key ${OTHER_KEY}",
                "X.Key": "quiet",
                "X_Key": "still",
            },
            env_vars={"AZURE_TOKEN": "silent", "EMPTY": ""},
        ),
        house.now,
    )
    assert secrets == {
        "AZURE_TOKEN": "silent",
        "HEADER_AUTHORIZATION": "Bearer hush",
        "HEADER_X_KEY": "quiet",
        "HEADER_X_KEY_": "still",
    }
    assert server.headers == {
        "Authorization": "${HEADER_AUTHORIZATION}",
        "X-Key": "Key ${OTHER_KEY}",
        "X.Key": "${HEADER_X_KEY}",
        "X_Key": "${HEADER_X_KEY_}",
    }
    assert [it.name for it in server.variables if it.sensitive] == [
        "HEADER_AUTHORIZATION", "OTHER_KEY", "HEADER_X_KEY", "HEADER_X_KEY_", "AZURE_TOKEN",
    ]  # fmt: skip
    assert server.missing(secrets) == ("OTHER_KEY", "EMPTY")
    [(stored,)] = await house.parts.sql("SELECT value FROM settings WHERE key = 'mcp_servers'")
    assert not any(value in stored for value in secrets.values())


async def test_what_would_be_started_decides_the_fingerprint(house: House) -> None:
    entries: list[dict[str, Any]] = [
        {"command": "a"},
        {"command": "a", "args": ["b"]},
        {"url": "https://a.example"},
        {"url": "https://a.example", "headers": {"A": "${B}"}},
    ]
    await house.set("mcp_servers", [{"name": f"s-{number}", **it} for number, it in enumerate(entries)])
    assert len({server.fingerprint for server in await house.servers.list()}) == len(entries)


@pytest.mark.parametrize(
    ("draft", "field", "sentence"),
    [
        (ExternalDraft("a"), "command", "either a command, with its args, or a url"),
        (ExternalDraft("a", command="x", url="https://a.example"), "command", "either a command"),
        (ExternalDraft("a", command=" "), "command", "the command is empty"),
        (
            ExternalDraft("a", command="npx -y foo"),
            "command",
            r"give the command 'npx' with the args \['-y', 'foo'\]",
        ),
        (ExternalDraft("a", command="bin/x"), "command", "half a path"),
        (ExternalDraft("a", command="a\0b"), "command", "without control characters"),
        (ExternalDraft("a", command="x", args=["a\0"]), "args", "an argument must be a text"),
        (ExternalDraft("a", command="x", args=["a"] * 101), "args", "args has 101 entries"),
        (
            ExternalDraft("a", command="x", args=["--api-key=hush"]),
            "args",
            "'--api-key' in args seems to hold a secret",
        ),
        (
            ExternalDraft("a", command="x", args=["--token", "hush"]),
            "args",
            "'--token' in args seems to hold a secret",
        ),
        (
            ExternalDraft("a", command="x", args=["Authorization: Bearer hush"]),
            "args",
            "seems to hold a secret",
        ),
        (ExternalDraft("a", command="x", headers={"A": "b"}), "headers", "headers go with a url"),
        (
            ExternalDraft("a", command="x", env_vars=["two words"]),
            "env_vars",
            "is not the name of a variable",
        ),
        (ExternalDraft("a", command="x", env_vars={"PATH": "b"}), "env_vars", "PATH is set by the system"),
        (ExternalDraft("a", command="x", description="a\0"), "description", "the description must be"),
        (ExternalDraft("a", url="ftp://a.example"), "url", "is no address of a server"),
        (ExternalDraft("a", url="https://"), "url", "is no address of a server"),
        (ExternalDraft("a", url="https://[::1"), "url", "is no address of a server"),
        (ExternalDraft("a", url="https://a b"), "url", "is no address of a server"),
        (ExternalDraft("a", url="https://a:99999"), "url", "is no address of a server"),
        (ExternalDraft("a", url="https://me:hush@a.example"), "url", "has a user name or password in it"),
        (ExternalDraft("a", url="https://a.example", args=["b"]), "args", "args go with a command"),
        (
            ExternalDraft("a", url="https://a.example", headers={"a b": "c"}),
            "headers",
            "'a b' is no name of a header",
        ),
        (
            ExternalDraft("a", url="https://a.example", headers={"A": "b", "a": "c"}),
            "headers",
            "or is there twice",
        ),
        (
            ExternalDraft("a", url="https://a.example", headers={"A": "b\r\nC: d"}),
            "headers",
            "the value of A must be",
        ),
    ],
)
async def test_an_external_server_that_can_not_be_is_refused(
    house: House, draft: ExternalDraft, field: str, sentence: str
) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        await house.servers.add_external(draft, house.now)
    assert refused.value.field == field
    assert "hush" not in str(refused.value)
    assert await house.servers.list() == []


@pytest.mark.parametrize(
    "args",
    [["--token-file", "/x"], ["--token", "${X}"], ["--api-key=$X"], ["--token", "--verbose"], ["Accept: x"]],
)
async def test_arguments_that_hold_no_secrets_are_taken(house: House, args: list[str]) -> None:
    server, _ = await house.servers.add_external(
        ExternalDraft("a", command="/opt/my tools/x", args=args), house.now
    )
    assert server.command == ("/opt/my tools/x", *args)


async def test_an_external_server_has_a_name_of_its_own(house: House) -> None:
    house.put("email", fixed=True)
    await house.made("weather")
    await house.servers.add_external(ExternalDraft("azure", command="a"), house.now)
    for name in ("email", "weather", "azure"):
        with pytest.raises(ConflictError, match=f"there is already a server '{name}'"):
            await house.servers.add_external(ExternalDraft(name, command="b"), house.now)
    with pytest.raises(ConflictError, match=r"there is already a server 'azure' \(external\)"):
        await house.made("azure")


async def test_two_that_are_added_at_once_are_both_kept(house: House) -> None:
    await asyncio.gather(
        *(
            house.servers.add_external(ExternalDraft(f"s-{number}", command="a"), house.now)
            for number in range(10)
        )
    )
    assert len(await house.servers.list(Kind.EXTERNAL)) == 10


async def test_an_external_server_is_removed_with_all_that_is_its(house: House) -> None:
    azure, _ = await house.servers.add_external(ExternalDraft("azure", command="a"), house.now)
    await house.servers.add_external(ExternalDraft("other", command="b"), house.now)
    await house.servers.remember_tools(azure, TOOLS, house.now)
    azure.data_dir.mkdir(parents=True)
    (azure.data_dir / "a.db").write_text("x")
    await house.servers.remove_external("azure")
    assert await house.names() == ["other"]
    assert await house.parts.sql("SELECT name FROM servers UNION SELECT server FROM server_tools") == [
        ("other",)
    ]
    assert house.files() == []
    with pytest.raises(NotFoundError, match="there is no server 'azure'"):
        await house.servers.remove_external("azure")


async def test_removing_leaves_the_other_entries_as_their_owner_wrote_them(house: House) -> None:
    entries = [
        {"name": "a", "command": "a"},
        {"name": "b", "command": "b", "note": "mine"},
        7,
        {"name": "b c"},
    ]
    await house.set("mcp_servers", entries)
    await house.servers.remove_external("a")
    [(stored,)] = await house.parts.sql("SELECT value FROM settings WHERE key = 'mcp_servers'")
    assert json.loads(stored) == entries[1:]


@pytest.mark.parametrize("value", ["{", {"a": {"command": "b"}}, 7, None, "[" * 100_000])
async def test_a_setting_that_is_no_list_is_told_and_never_overwritten(house: House, value: Any) -> None:
    await house.set("mcp_servers", value)
    [server] = await house.servers.list()
    assert server.problem == "the setting mcp_servers is not a JSON list; mend it"
    with pytest.raises(ConflictError, match="mend it first"):
        await house.servers.add_external(ExternalDraft("azure", command="a"), house.now)


@pytest.mark.parametrize(
    ("entry", "name", "problem"),
    [
        (7, "mcp_servers-1", "entry 1 of mcp_servers is no object with a name"),
        ({"command": "a"}, "mcp_servers-1", "entry 1 of mcp_servers is no object with a name"),
        ({"name": "My Server", "command": "a"}, "My Server", "can't be a server's name"),
        ({"name": "a"}, "a", "it must have either a command or a url"),
        (
            {"name": "a", "command": "a", "url": "https://a.example"},
            "a",
            "it must have either a command or a url",
        ),
        ({"name": "a", "command": 7}, "a", "the command must be a text"),
        ({"name": "a", "command": "a", "args": "b"}, "a", "args must be a list of texts"),
        ({"name": "a", "command": "a", "args": [7]}, "a", "an argument must be a text"),
        ({"name": "a", "url": 7}, "a", "the url must be a text"),
        ({"name": "a", "url": "ftp://a"}, "a", "is no address of a server"),
        (
            {"name": "a", "url": "https://a.example", "headers": ["b"]},
            "a",
            "headers must be an object of texts",
        ),
        (
            {"name": "a", "url": "https://a.example", "headers": {"b": 7}},
            "a",
            "the value of b must be a text",
        ),
        (
            {"name": "a", "command": "a", "env_vars": {"KEY": "v"}},
            "a",
            "values are set with set_server_credential",
        ),
        ({"name": "a", "command": "a", "env_vars": [7]}, "a", "is neither a name nor an object"),
    ],
)
async def test_a_spoiled_entry_is_listed_with_its_problem(
    house: House, entry: Any, name: str, problem: str
) -> None:
    await house.set("mcp_servers", [entry, {"name": "good", "command": "b"}])
    found = {server.name: server for server in await house.servers.list()}
    assert problem in str(found[name].problem)
    assert found["good"].problem is None
