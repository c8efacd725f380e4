import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Change, Topic
from claude_runner.servers import (
    ExternalDraft,
    Kind,
    Server,
    Variable,
    check_name,
)
from tests.server_parts import CODE, KEY, TOOLS, House, names_in, open_house

BAD_NAMES = (
    "", "a/b", "..", "../email", "/etc", "a\0b", "a" * 300, "a" * 41, "runner", "a__b", "Weather", "1a", "-a",
    "a b", "a.b", "a\n", "wëather", "a\\b", "\ud83d", "\uff41", "~", ".", "%2e%2e",
)  # fmt: skip


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


@pytest.mark.parametrize("name", ["a", "weather", "cat-facts", "a1", "a" * 40, "a--b"])
def test_a_name_of_small_letters_digits_and_hyphens_is_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "it is empty"),
        ("a/b", "it has a '/' in it"),
        ("../email", r"it has '\.\.' in it"),
        ("a\0b", "it has a NUL character"),
        ("a" * 300, "it has 300 characters; a name is 1 to 40"),
        ("a__b", "'__' stands between server and tool"),
        ("a b", "it has a space in it"),
        ("runner", "it is reserved for the tools that every run has"),
        ("Weather", "a name is 1 to 40 small letters, digits and hyphens"),
    ],
)
def test_a_name_that_can_not_be_is_refused_with_what_is_wrong(name: str, sentence: str) -> None:
    with pytest.raises(InvalidError, match=sentence) as refused:
        check_name(name, "server")
    assert refused.value.field == "server"


@given(st.text(max_size=60))
def test_a_name_that_is_taken_is_one_step_of_a_path(name: str) -> None:
    try:
        check_name(name)
    except InvalidError:
        return
    assert Path("/x", name).parent == Path("/x")
    assert name.isascii()
    assert "__" not in name


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_no_door_takes_a_bad_name(house: House, name: str) -> None:
    (house.settings.home / "server.py").write_text(CODE)
    (house.settings.home / "email").mkdir()
    house.root.mkdir()
    before = house.files()
    servers, now = house.servers, house.now
    doors: list[Callable[[], Awaitable[object]]] = [
        lambda: servers.get(name),
        lambda: servers.check_free(name),
        lambda: servers.enable(name, enabled=True, now=now),
        lambda: servers.stage(name, CODE, "", (), now),
        lambda: servers.keep_new(name, house.settings.home, now),
        lambda: servers.keep_version(name, house.settings.home, now),
        lambda: servers.versions(name),
        lambda: servers.code(name),
        lambda: servers.code(name, 1),
        lambda: servers.remove(name),
        lambda: servers.add_external(ExternalDraft(name, command="true"), now),
        lambda: servers.remove_external(name),
        lambda: servers.lock(name).__aenter__(),
    ]
    for door in doors:
        with pytest.raises(InvalidError, match="can't be a server's name"):
            await door()
    assert await servers.find(name) is None
    assert house.files() == before
    assert house.settings.home.joinpath("email").is_dir()


async def test_servers_come_by_kind_then_by_name(house: House) -> None:
    for name in ("playwright", "email"):
        house.put(name, fixed=True)
    for name in ("weather", "cats"):
        house.put(name)
    await house.set(
        "mcp_servers", [{"name": "zeta", "command": "zeta"}, {"name": "azure", "url": "https://a.example"}]
    )
    assert await house.names() == ["email", "playwright", "cats", "weather", "azure", "zeta"]
    assert await house.names(Kind.DYNAMIC) == ["cats", "weather"]


async def test_where_there_are_no_folders_there_are_no_servers(house: House) -> None:
    assert await house.servers.list() == []


async def test_a_server_is_what_its_files_say(house: House) -> None:
    entry = {
        "name": "SENDGRID_API_KEY",
        "description": "Of your account",
        "required": True,
        "sensitive": True,
        "when": {"EMAIL_PROVIDER": ["sendgrid"]},
    }
    house.put(
        "email",
        CODE,
        {
            "description": "Sends mail",
            "created_at": "2026-11-24T01:00:00+01:00",
            "updated_at": "2026-11-25T00:00:00+00:00",
            "enabled": False,
            "per_run": True,
            "env_vars": [{"name": "EMAIL_PROVIDER", "required": False, "default": "sendgrid"}, entry],
        },
        fixed=True,
    )
    email = await house.servers.get("email")
    assert (email.kind, email.description, email.enabled, email.per_run) == (
        Kind.FIXED,
        "Sends mail",
        False,
        True,
    )
    assert email.created_at == datetime(2026, 11, 24, tzinfo=UTC)
    assert email.updated_at == datetime(2026, 11, 25, tzinfo=UTC)
    assert [it.name for it in email.variables] == ["EMAIL_PROVIDER", "SENDGRID_API_KEY"]
    assert email.variables[1].as_entry() == entry
    assert email.code_path == house.checkout / "fixed-servers" / "email" / "server.py"
    assert email.data_dir == house.settings.state / "data" / "email"
    assert email.problem is None


async def test_a_dynamic_server_keeps_its_files_in_its_folder(house: House) -> None:
    house.put("weather")
    assert (await house.servers.get("weather")).data_dir == house.root / "weather" / "data"


async def test_a_folder_put_there_by_hand_is_found_with_the_variables_of_its_code(house: House) -> None:
    house.put("weather", metadata=None)
    weather = await house.servers.get("weather")
    assert (weather.variables, weather.enabled, weather.problem) == ((KEY,), True, None)
    assert weather.created_at is not None


async def test_metadata_that_names_no_variables_leaves_them_to_the_code(house: House) -> None:
    house.put("weather", metadata={"description": "Forecasts"})
    assert (await house.servers.get("weather")).variables == (KEY,)


async def test_what_code_declares_to_need_is_the_servers(house: House) -> None:
    house.put(
        "weather", "# /// script\n# requires-python = '>=3.11'\n# dependencies = ['rich']\n# ///\n" + CODE
    )
    weather = await house.servers.get("weather")
    assert (weather.dependencies, weather.requires_python) == (("rich",), ">=3.11")


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("{", "metadata.json is no JSON"),
        ("[" * 100_000, "metadata.json is no JSON"),
        ("[]", "metadata.json must hold an object"),
        ({"env_vars": "KEY"}, "metadata.json, env_vars can't be read: it must be a list"),
        ({"env_vars": [{"name": "two words"}]}, "'two words' is not the name of a variable"),
        (" " * 300_000, "metadata.json has 300,000 bytes"),
    ],
)
async def test_spoiled_metadata_is_told_and_the_server_still_listed(
    house: House, metadata: Any, problem: str
) -> None:
    house.put("weather", metadata=metadata)
    [weather] = await house.servers.list()
    assert weather.problem is not None
    assert problem in weather.problem
    assert weather.enabled


async def test_metadata_with_odd_values_is_read_as_far_as_it_goes(house: House) -> None:
    house.put(
        "weather",
        metadata={"description": 7, "created_at": "soon", "updated_at": None, "enabled": "yes", "per_run": 1},
    )
    weather = await house.servers.get("weather")
    assert (weather.description, weather.enabled, weather.per_run, weather.problem) == (
        "",
        False,
        False,
        None,
    )


async def test_half_a_character_in_metadata_can_be_shown(house: House) -> None:
    house.put("weather", metadata='{"description": "a \\ud83d b"}')
    assert (await house.servers.get("weather")).description == "a \N{REPLACEMENT CHARACTER} b"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (None, "its server.py is missing"),
        ("x" * 600_000, "server.py has 600,000 bytes; at most 524,288"),
        ("# /// script\n# a = [\n# ///\n", "server.py, line 1: the block '# /// script' is no TOML"),
    ],
)
async def test_code_that_can_not_be_used_is_told(house: House, code: str | None, problem: str) -> None:
    house.put("weather", code)
    weather = await house.servers.get("weather")
    assert problem in str(weather.problem)


async def test_code_with_a_mistake_put_there_by_hand_is_told_with_its_line(house: House) -> None:
    house.put("weather", "x = 1\ndef f(:\n", None)
    assert (await house.servers.get("weather")).problem == "server.py, line 2: invalid syntax"


async def test_a_file_that_changes_is_read_again(house: House) -> None:
    folder = house.put("weather")
    first = await house.servers.get("weather")
    assert await house.servers.get("weather") == first
    house.put("weather", CODE + "# longer\n", {"description": "Storms"})
    second = await house.servers.get("weather")
    assert (second.description, second.fingerprint != first.fingerprint) == ("Storms", True)
    (folder / "server.py").unlink()
    assert (await house.servers.get("weather")).fingerprint == ""


async def test_a_file_that_is_only_touched_starts_the_same_server(house: House) -> None:
    folder = house.put("weather")
    before = (await house.servers.get("weather")).fingerprint
    os.utime(folder / "server.py", (0, 0))
    assert (await house.servers.get("weather")).fingerprint == before


async def test_folders_with_names_that_servers_can_not_have_are_told(house: House) -> None:
    house.put("My Weather")
    house.put("runner")
    (house.root / "notes").mkdir()
    (house.root / "Pictures").mkdir()
    house.put(".hidden")
    house.put("__pycache__")
    (house.root / "README.md").write_text("x")
    found = {server.name: server.problem for server in await house.servers.list()}
    assert sorted(found) == ["My Weather", "notes", "runner"]
    assert "can't be a server's name" in str(found["My Weather"])
    assert "its server.py is missing" in str(found["notes"])
    assert "reserved" in str(found["runner"])


async def test_a_folder_whose_name_is_no_text_can_be_shown(house: House) -> None:
    house.root.mkdir()
    odd = os.fsencode(house.root) + b"/\xff"
    folder = Path(os.fsdecode(odd))
    folder.mkdir()
    (folder / "server.py").write_text(CODE)
    [server] = await house.servers.list()
    assert server.name == "\N{REPLACEMENT CHARACTER}"


async def test_a_folder_that_can_not_be_read_is_a_sentence(house: House) -> None:
    house.root.write_text("not a folder")
    with pytest.raises(UnavailableError, match="dynamic_servers can't be used"):
        await house.servers.list()


async def test_two_hundred_servers_are_all_there(house: House) -> None:
    for number in range(200):
        house.put(f"s-{number:03d}")
    assert await house.names() == [f"s-{number:03d}" for number in range(200)]
    assert (await house.servers.get("s-117")).description == "Forecasts"


async def test_a_folder_that_is_a_link_is_not_followed(house: House, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "server.py").write_text(CODE)
    house.root.mkdir()
    (house.root / "weather").symlink_to(outside, target_is_directory=True)
    weather = await house.servers.get("weather")
    assert weather.problem == (
        "its folder is a symbolic link, and links are not followed; put the folder itself there"
    )
    assert (weather.variables, weather.fingerprint) == ((), "")
    for door in (house.servers.code("weather"), house.servers.versions("weather"), house.updated(CODE + "#")):
        with pytest.raises(ConflictError, match="symbolic link"):
            await door
    with pytest.raises(ConflictError, match="can't be enabled: its folder is a symbolic link"):
        await house.servers.enable("weather", enabled=True, now=house.now)
    await house.servers.remove("weather")
    assert (outside / "server.py").read_text() == CODE
    assert await house.names() == []


@pytest.mark.parametrize("file", ["server.py", "metadata.json"])
async def test_a_file_that_is_a_link_is_not_followed(house: House, tmp_path: Path, file: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"description": "secret"}')
    folder = house.put("weather")
    (folder / file).unlink()
    (folder / file).symlink_to(secret)
    weather = await house.servers.get("weather")
    assert f"{file} is a symbolic link" in str(weather.problem)
    assert "secret" not in weather.description
    if file == "server.py":
        with pytest.raises(InvalidError, match="is a symbolic link"):
            await house.servers.code("weather")
        with pytest.raises(InvalidError, match="is a symbolic link"):
            await house.updated(CODE + "#")
    else:
        await house.updated(CODE + "#")
        assert (await house.servers.get("weather")).problem is None
    assert secret.read_text() == '{"description": "secret"}'


async def test_a_pipe_in_place_of_the_code_makes_nobody_wait(house: House) -> None:
    folder = house.put("weather", None)
    os.mkfifo(folder / "server.py")
    assert "server.py is not a file" in str((await house.servers.get("weather")).problem)


async def test_versions_that_are_a_link_are_neither_read_nor_written(house: House, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0001.py").write_text("secret")
    await house.made()
    (house.root / "weather" / "versions").symlink_to(outside)
    assert [it.number for it in await house.servers.versions("weather")] == [1]
    with pytest.raises(ConflictError, match="is not a folder of its own"):
        await house.updated(CODE + "#")
    assert names_in(outside) == ["0001.py"]
    assert await house.servers.code("weather") == CODE


async def test_the_database_decides_whether_a_server_is_enabled(house: House) -> None:
    house.put("weather", metadata={"enabled": True})
    with house.parts.hub.subscribe(Topic.SERVERS) as changes:
        disabled = await house.servers.enable("weather", enabled=False, now=house.now)
    assert changes.take() == [Change(Topic.SERVERS, "weather")]
    assert not disabled.enabled
    assert not (await house.servers.get("weather")).enabled
    assert await house.servers.enabled() == ()
    await house.servers.enable("weather", enabled=True, now=house.now)
    assert [server.name for server in await house.servers.enabled()] == ["weather"]


async def test_a_server_that_there_is_not_can_not_be_enabled(house: House) -> None:
    with pytest.raises(NotFoundError, match="there is no server 'weather'; list_fixed_mcp_servers"):
        await house.servers.enable("weather", enabled=True, now=house.now)


async def test_a_server_with_a_problem_can_be_disabled_but_not_enabled(house: House) -> None:
    house.put("weather", None)
    with pytest.raises(ConflictError, match=r"can't be enabled: its server.py is missing"):
        await house.servers.enable("weather", enabled=True, now=house.now)
    assert not (await house.servers.enable("weather", enabled=False, now=house.now)).enabled


async def test_an_enabled_server_whose_folder_was_deleted_says_so_until_it_is_removed(house: House) -> None:
    await house.made()
    for path in sorted((house.root / "weather").iterdir()):
        path.unlink()
    (house.root / "weather").rmdir()
    for weather in (await house.servers.get("weather"), *await house.servers.enabled()):
        assert "was removed by hand" in str(weather.problem)
    await house.servers.remove("weather")
    assert await house.servers.list() == []
    assert await house.parts.sql("SELECT * FROM servers") == []


async def test_a_name_whose_folder_was_deleted_can_be_used_anew(house: House) -> None:
    await house.made()
    (house.root / "weather").rename(house.settings.home / "gone")
    assert (await house.made()).problem is None


async def test_what_is_left_of_a_disabled_server_whose_folder_was_deleted_can_be_removed(
    house: House,
) -> None:
    await house.made()
    await house.servers.enable("weather", enabled=False, now=house.now)
    (house.root / "weather").rename(house.settings.home / "gone")
    assert await house.servers.list() == []
    await house.servers.remove("weather")
    assert await house.parts.sql("SELECT * FROM servers") == []
    with pytest.raises(NotFoundError):
        await house.servers.remove("weather")


async def test_two_servers_of_one_name_are_both_listed_and_one_is_used(house: House) -> None:
    house.put("email", fixed=True)
    house.put("email")
    entry = {"name": "email", "command": "email"}
    await house.set("mcp_servers", [entry, entry])
    found = await house.servers.list()
    assert [server.kind for server in found] == [Kind.FIXED, Kind.DYNAMIC, Kind.EXTERNAL, Kind.EXTERNAL]
    assert [server.problem is None for server in found] == [True, False, False, False]
    assert [server.enabled for server in found] == [True, False, False, False]
    assert "another server of the same name (fixed)" in str(found[1].problem)
    assert await house.servers.get("email") == found[0]


async def test_a_setting_adds_names_of_variables(house: House) -> None:
    house.put("weather", metadata=None)
    await house.set("mcp_env_vars", {"weather": ["WEATHER_KEY", "EXTRA_TOKEN", 7, "PATH", "EXTRA_TOKEN"]})
    for weather in (await house.servers.get("weather"), *await house.servers.list()):
        assert weather.variables == (KEY, Variable("EXTRA_TOKEN", sensitive=True))


@pytest.mark.parametrize("value", ["{", [], 7, {"weather": 7}])
async def test_a_spoiled_setting_of_variables_adds_none(house: House, value: Any) -> None:
    house.put("weather", metadata=None)
    await house.set("mcp_env_vars", value)
    assert (await house.servers.get("weather")).variables == (KEY,)


EMAIL = Server(
    "email",
    Kind.FIXED,
    Path("data"),
    variables=(
        Variable("EMAIL_PROVIDER", default="sendgrid"),
        Variable("SENDGRID_API_KEY", sensitive=True, when={"EMAIL_PROVIDER": ("sendgrid",)}),
        Variable("SMTP_HOST", when={"EMAIL_PROVIDER": ("smtp",)}),
        Variable("SENDER_EMAIL"),
        Variable("SENDER_NAME", required=False),
    ),
)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, ("SENDGRID_API_KEY", "SENDER_EMAIL")),
        ({"EMAIL_PROVIDER": "smtp"}, ("SMTP_HOST", "SENDER_EMAIL")),
        ({"EMAIL_PROVIDER": "SMTP", "SMTP_HOST": "localhost", "SENDER_EMAIL": "a@b.c"}, ()),
        ({"EMAIL_PROVIDER": "pigeon"}, ("SENDER_EMAIL",)),
        ({"SENDGRID_API_KEY": "", "SENDER_EMAIL": "a@b.c"}, ("SENDGRID_API_KEY",)),
    ],
)
def test_only_what_is_required_under_the_conditions_is_missing(
    values: dict[str, str], missing: tuple[str, ...]
) -> None:
    assert EMAIL.missing(values) == missing


async def test_tools_are_known_until_the_code_changes(house: House) -> None:
    weather = await house.made()
    assert await house.servers.known_tools(await house.servers.list()) == {}
    await house.servers.remember_tools(weather, TOOLS, house.now)
    assert await house.servers.known_tools(await house.servers.list()) == {"weather": TOOLS}
    await house.updated(CODE + "# changed\n")
    assert await house.servers.known_tools(await house.servers.list()) == {}


async def test_tools_of_several_servers_are_read_at_once(house: House) -> None:
    await house.servers.remember_tools(await house.made("a"), TOOLS, house.now)
    await house.servers.remember_tools(await house.made("b"), (), house.now)
    await house.made("c")
    assert await house.servers.known_tools(await house.servers.list()) == {"a": TOOLS, "b": ()}


@pytest.mark.parametrize("text", ["{", "7", "[{}]", "[7]"])
async def test_tools_that_somebody_spoiled_are_not_known(house: House, text: str) -> None:
    await house.servers.remember_tools(await house.made(), TOOLS, house.now)
    await house.parts.sql("UPDATE server_tools SET tools = :text", text=text)
    assert await house.servers.known_tools(await house.servers.list()) == {}


async def test_of_what_can_not_be_started_no_tools_are_known(house: House) -> None:
    house.put("weather", None)
    await house.servers.remember_tools(await house.servers.get("weather"), TOOLS, house.now)
    assert await house.servers.known_tools(await house.servers.list()) == {}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["a", "https://a.example"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "command", "args", "url", "headers", "env_vars", "when", "enabled"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_no_setting_and_no_metadata_make_a_listing_fail(value: Any) -> None:
    async def look(path: Path) -> None:
        async with open_house(path) as house:
            for key in ("mcp_servers", "mcp_env_vars", "samples"):
                await house.set(key, json.dumps(value))
            house.put("weather", metadata=json.dumps(value))
            for server in await house.servers.list():
                server.name.encode()  # it can be written
                server.missing({})
            await house.servers.add_samples(house.now)

    with tempfile.TemporaryDirectory() as path:
        asyncio.run(look(Path(path)))
