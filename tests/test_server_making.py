import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Change, Hub, Topic
from claude_runner.servers import (
    SAMPLES,
    ExternalDraft,
    Kind,
    Server,
    Servers,
)
from tests.parts import locked
from tests.server_parts import CODE, KEY, METADATA, TOOLS, House, names_in, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_what_is_staged_is_a_server_that_nobody_lists(house: House) -> None:
    staged = await house.servers.stage("weather", CODE, "Forecasts", (KEY,), house.now)
    server = await house.servers.staged("weather", staged)
    assert (server.name, server.variables, server.description, server.problem) == (
        "weather",
        (KEY,),
        "Forecasts",
        None,
    )
    assert server.code_path == staged / "server.py"
    assert staged.is_relative_to(house.settings.state)
    assert stat.S_IMODE(staged.stat().st_mode) == 0o700
    assert await house.servers.list() == []
    await house.servers.discard(staged)
    assert house.files() == []


async def test_a_server_is_kept_enabled_with_its_dates(house: House) -> None:
    with house.parts.hub.subscribe(Topic.SERVERS) as changes:
        weather = await house.made()
    assert changes.take() == [Change(Topic.SERVERS, "weather")]
    assert (weather.kind, weather.enabled, weather.variables) == (Kind.DYNAMIC, True, (KEY,))
    assert weather.created_at == weather.updated_at == house.now
    assert await house.servers.code("weather") == CODE
    assert house.files() == ["dynamic_servers/weather/metadata.json", "dynamic_servers/weather/server.py"]


async def test_what_a_trial_left_behind_is_not_kept(house: House) -> None:
    staged = await house.servers.stage("weather", CODE, "", (), house.now)
    (staged / "data").mkdir()
    (staged / "data" / "trial.db").write_text("x")
    await house.servers.keep_new("weather", staged, house.now)
    assert house.files() == ["dynamic_servers/weather/metadata.json", "dynamic_servers/weather/server.py"]


async def test_a_server_made_anew_is_enabled_whatever_its_namesake_was(house: House) -> None:
    await house.made()
    await house.servers.enable("weather", enabled=False, now=house.now)
    (house.root / "weather").rename(house.settings.home / "gone")
    assert (await house.made()).enabled


@pytest.mark.parametrize(("fixed", "kind"), [(True, "fixed"), (False, "dynamic")])
async def test_a_name_that_is_taken_is_refused(house: House, fixed: bool, kind: str) -> None:
    house.put("weather", fixed=fixed)
    with pytest.raises(ConflictError, match=rf"there is already a server 'weather' \({kind}\)"):
        await house.made()
    assert await house.servers.code("weather") == CODE


async def test_a_name_that_was_taken_meanwhile_is_refused_and_nothing_is_lost(house: House) -> None:
    staged = await house.servers.stage("weather", "x = 1\n", "", (), house.now)
    house.put("weather")
    with pytest.raises(ConflictError, match="there is already a server 'weather'"):
        await house.servers.keep_new("weather", staged, house.now)
    assert await house.servers.code("weather") == CODE


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_file_or_link_where_the_folder_would_be_is_not_replaced(
    house: House, tmp_path: Path, kind: str
) -> None:
    house.root.mkdir()
    staged = await house.servers.stage("weather", CODE, "", (), house.now)
    if kind == "file":
        (house.root / "weather").write_text("mine")
    else:
        (house.root / "weather").symlink_to(tmp_path)
    with pytest.raises(ConflictError, match="there is already a server 'weather'"):
        await house.servers.keep_new("weather", staged, house.now)
    assert names_in(house.root) == ["weather"]


async def test_where_the_database_refuses_nothing_is_kept(house: House) -> None:
    staged = await house.servers.stage("weather", CODE, "", (), house.now)
    with locked(house.parts.path), pytest.raises(UnavailableError):
        await house.servers.keep_new("weather", staged, house.now)
    assert await house.servers.list() == []
    await house.servers.keep_new("weather", staged, house.now)


async def test_two_changes_at_once_are_one_and_a_sentence(house: House) -> None:
    outcomes = await asyncio.gather(*(house.made() for _ in range(5)), return_exceptions=True)
    assert [type(it) for it in outcomes if not isinstance(it, Server)] == [ConflictError] * 4
    assert "is being changed by another call right now" in str(outcomes[-1])
    assert await house.names() == ["weather"]
    async with house.servers.lock("weather"), house.servers.lock("other"):
        with pytest.raises(ConflictError, match="look at it again, then repeat"):
            await house.updated(CODE + "#")
    await house.updated(CODE + "#")


async def test_another_collection_of_the_home_respects_the_lock(house: House) -> None:
    other = Servers(house.parts.database, Hub(), house.settings, house.checkout)
    async with house.servers.lock("weather"):
        with pytest.raises(ConflictError):
            await other.lock("weather").__aenter__()
    async with other.lock("weather"):
        pass


async def test_every_earlier_version_is_kept_and_can_be_read(house: House) -> None:
    await house.made()
    codes = [CODE]
    for number in range(3):
        house.clock.move(60)
        codes.append(CODE + f"# {number}\n")
        await house.updated(codes[-1])
    versions = await house.servers.versions("weather")
    assert [it.number for it in versions] == [1, 2, 3, 4]
    assert [it.current for it in versions] == [False, False, False, True]
    assert [(it.created_at - versions[0].created_at).total_seconds() for it in versions] == [0, 60, 120, 180]
    assert [await house.servers.code("weather", it.number) for it in versions] == codes
    assert await house.servers.code("weather") == codes[-1]


async def test_going_back_to_a_version_keeps_the_one_that_was_current(house: House) -> None:
    await house.made()
    await house.updated(CODE + "# worse\n")
    await house.updated(await house.servers.code("weather", 1))
    assert [await house.servers.code("weather", number) for number in (1, 2, 3)] == [
        CODE,
        CODE + "# worse\n",
        CODE,
    ]


async def test_a_version_that_there_is_not_is_a_sentence(house: House) -> None:
    await house.made()
    for number in (0, -1, 2, 10**30):
        with pytest.raises(NotFoundError, match=f"weather has no version {number}; it has 1") as refused:
            await house.servers.code("weather", number)
        assert refused.value.field == "version"


async def test_a_change_of_the_description_alone_is_no_new_version(house: House) -> None:
    await house.made()
    house.clock.move(60)
    weather = await house.updated(CODE, description="Storms")
    assert weather.description == "Storms"
    assert weather.updated_at == house.now
    assert weather.created_at != house.now
    assert len(await house.servers.versions("weather")) == 1


async def test_an_update_leaves_what_it_does_not_speak_of(house: House) -> None:
    house.put(
        "weather", metadata={"description": "Forecasts", "per_run": True, "author": "me", "enabled": False}
    )
    weather = await house.updated(CODE + "#")
    assert (weather.description, weather.per_run, weather.enabled) == ("Forecasts", True, False)
    kept = json.loads((house.root / "weather" / "metadata.json").read_text())
    assert kept["author"] == "me"


async def test_an_update_that_was_cut_off_after_keeping_the_old_code_keeps_it_once(house: House) -> None:
    await house.made()
    versions = house.root / "weather" / "versions"
    versions.mkdir()
    (versions / "0001.py").write_text(CODE)
    (house.root / "weather" / ".server.py.part").write_text("half")
    await house.updated(CODE + "#")
    assert [await house.servers.code("weather", number) for number in (1, 2)] == [CODE, CODE + "#"]
    assert not (house.root / "weather" / ".server.py.part").exists()


async def test_an_update_puts_code_back_that_was_deleted(house: House) -> None:
    house.put("weather", None)
    assert (await house.updated(CODE)).problem is None


async def test_an_update_of_a_server_whose_folder_has_gone_is_a_sentence(house: House) -> None:
    staged = await house.servers.stage("weather", CODE, "", (), house.now)
    with pytest.raises(NotFoundError, match="the folder of weather has gone"):
        await house.servers.keep_version("weather", staged, house.now)


async def test_spoiled_metadata_is_mended_by_an_update(house: House) -> None:
    house.put("weather", metadata="{")
    assert (await house.updated(CODE)).problem is None


async def test_what_is_left_staged_for_an_hour_is_swept(house: House) -> None:
    old = await house.servers.stage("weather", CODE, "", (), house.now)
    (house.root / ".weather.0.abcd").mkdir(parents=True)
    (house.root / ".mine").mkdir()
    house.clock.move(3_500)
    young = await house.servers.stage("weather", CODE, "", (), house.now)
    assert old.exists()
    house.clock.move(101)
    await house.servers.stage("weather", CODE, "", (), house.now)
    assert (old.exists(), young.exists()) == (False, True)
    assert names_in(house.root) == [".mine"]


async def test_only_a_staged_folder_can_be_discarded(house: House) -> None:
    weather = await house.made()
    assert weather.folder is not None
    with pytest.raises(ValueError, match="is not a staged folder"):
        await house.servers.discard(weather.folder)


@pytest.mark.parametrize("description", ["x" * 2_001, "a\0b", "\ud83d"])
async def test_a_description_that_can_not_be_kept_is_refused(house: House, description: str) -> None:
    with pytest.raises(InvalidError, match="the description must be a text of at most 2,000") as refused:
        await house.servers.stage("weather", CODE, description, (), house.now)
    assert refused.value.field == "description"
    assert house.files() == []


async def test_a_place_that_can_not_be_written_is_a_sentence(house: House) -> None:
    (house.settings.state / "staged").write_text("not a folder")
    with pytest.raises(UnavailableError, match=r"staged/.* can't be used"):
        await house.servers.stage("weather", CODE, "", (), house.now)
    (house.settings.state / "locks").write_text("not a folder")
    with pytest.raises(UnavailableError, match=r"locks.* can't be used"):
        await house.servers.lock("weather").__aenter__()


async def test_a_server_is_removed_with_all_that_is_its(house: House) -> None:
    weather = await house.made()
    await house.updated(CODE + "#")
    weather.data_dir.mkdir()
    (weather.data_dir / "a.db").write_text("x")
    outside = house.settings.home / "outside"
    outside.write_text("mine")
    (weather.data_dir / "link").symlink_to(outside)
    await house.servers.remember_tools(weather, TOOLS, house.now)
    with house.parts.hub.subscribe(Topic.SERVERS) as changes:
        await house.servers.remove("weather")
    assert changes.take() == [Change(Topic.SERVERS, "weather")]
    assert house.files() == ["outside"]
    assert await house.parts.sql("SELECT name FROM servers UNION SELECT server FROM server_tools") == []
    with pytest.raises(NotFoundError, match="there is no server 'weather'"):
        await house.servers.remove("weather")


async def test_fixed_and_external_servers_are_not_removed_like_dynamic_ones(house: House) -> None:
    house.put("email", fixed=True)
    await house.servers.add_external(ExternalDraft("azure", command="azure"), house.now)
    with pytest.raises(
        ConflictError, match="email is one of the fixed servers, which are not deleted this way"
    ):
        await house.servers.remove("email")
    with pytest.raises(ConflictError, match="azure is one of the external servers"):
        await house.servers.remove("azure")
    with pytest.raises(ConflictError, match="email is one of the fixed servers, not of the external ones"):
        await house.servers.remove_external("email")
    with pytest.raises(ConflictError, match="has no code that can be shown: it is external"):
        await house.servers.code("azure")
    assert await house.names() == ["email", "azure"]


async def test_samples_are_copied_once_to_a_home_elsewhere(house: House) -> None:
    for name in SAMPLES[:2]:
        folder = house.checkout / "dynamic_servers" / name
        folder.mkdir(parents=True)
        (folder / "server.py").write_text(CODE)
        (folder / "metadata.json").write_text(json.dumps(METADATA))
    (house.checkout / "dynamic_servers" / "mine").mkdir()
    await house.servers.add_samples(house.now)
    assert await house.names() == list(SAMPLES[:2])
    assert (await house.servers.get(SAMPLES[0])).description == "Forecasts"
    await house.servers.remove(SAMPLES[0])
    await house.servers.add_samples(house.now)
    assert await house.names() == [SAMPLES[1]]


async def test_a_sample_does_not_replace_what_has_its_name(house: House) -> None:
    folder = house.checkout / "dynamic_servers" / SAMPLES[0]
    folder.mkdir(parents=True)
    (folder / "server.py").write_text("x = 1\n")
    house.put(SAMPLES[0])
    await house.servers.add_samples(house.now)
    await house.servers.remove(SAMPLES[0])
    await house.servers.add_samples(house.now)
    assert await house.names() == []


async def test_a_home_that_is_the_checkout_has_its_samples(house: House) -> None:
    house.put(SAMPLES[0])
    servers = Servers(house.parts.database, house.parts.hub, house.settings, house.settings.home)
    await servers.add_samples(house.now)
    assert await house.parts.sql("SELECT * FROM settings WHERE key = 'samples'") == []
