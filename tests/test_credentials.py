import asyncio
import base64
import json
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from claude_runner.agent._environment import environment_of
from claude_runner.config import Settings
from claude_runner.credentials import MAX_VALUE_BYTES, Credentials
from claude_runner.db import Database, open_database
from claude_runner.errors import InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Change, Hub, Topic
from tests.parts import logged
from tests.served import measured
from tests.support import MORNING, PATIENCE
from tests.test_server import ROOT

KEYS = [base64.urlsafe_b64encode(bytes([number] * 32)).decode() for number in range(3)]
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\nIBADAN\n-----END PRIVATE KEY-----\n"


class House:
    """A home with its database and its credentials."""

    def __init__(self, home: Path, database: Database, hub: Hub, key: str) -> None:
        self.settings = Settings(home=home, environment={"CREDENTIALS_KEY": key})
        self.file = self.settings.state / "credentials.key"
        self.database = database
        self.hub = hub
        self.credentials = Credentials(database, hub, self.settings)

    async def set(self, server: str = "email", key: str = "API_KEY", value: str = "hunter22") -> None:
        await self.credentials.set(server, key, value, MORNING)

    async def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        def run(c: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in c.execute(statement, values)]

        return await self.database.write(run)

    def keys(self) -> list[str]:
        return self.file.read_text().split()


@asynccontextmanager
async def open_house(home: Path, key: str = "") -> AsyncIterator[House]:
    async with open_database(home / "jobs.db") as database:
        yield House(home, database, Hub(), key)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def test_a_server_has_the_values_that_were_set_for_it(house: House) -> None:
    await house.set(key="API_KEY", value="hunter22")
    await house.set(key="private", value=PEM)
    await house.set(server="other", value="hunter33")
    assert await house.credentials.of("email") == {"API_KEY": "hunter22", "private": PEM}
    assert await house.credentials.everything() == {
        "email": {"API_KEY": "hunter22", "private": PEM},
        "other": {"API_KEY": "hunter33"},
    }


async def test_a_server_without_credentials_has_none_and_no_key_is_made_for_that(house: House) -> None:
    assert await house.credentials.of("email") == {}
    assert await house.credentials.everything() == {}
    assert await house.credentials.stored("email") == []
    assert not house.file.exists()


async def test_a_new_value_takes_the_place_of_the_old_one(house: House) -> None:
    await house.set(value="hunter22")
    await house.set(value="hunter33")
    assert await house.credentials.of("email") == {"API_KEY": "hunter33"}


async def test_a_value_stands_in_no_file_of_the_home(house: House) -> None:
    await house.set(value="hunter22-hunter22")
    files = [path for path in house.settings.home.rglob("*") if path.is_file()]
    assert {"jobs.db", "credentials.key"} <= {path.name for path in files}
    assert [path for path in files if b"hunter22" in path.read_bytes()] == []


@pytest.mark.parametrize(("value", "tail"), [("x" * 15, None), ("0123456789abcdef", "cdef")])
async def test_only_the_end_of_a_long_value_is_shown(house: House, value: str, tail: str | None) -> None:
    await house.set(value=value)
    [shown] = await house.credentials.stored("email")
    assert (shown.key, shown.tail, shown.updated_at, shown.readable) == ("API_KEY", tail, MORNING, True)


async def test_whoever_listens_hears_of_changes(house: House) -> None:
    with house.hub.subscribe(Topic.CREDENTIALS) as changes:
        await house.set()
        assert changes.take() == [Change(Topic.CREDENTIALS, "email")]
        await house.credentials.remove("email", "API_KEY")
        assert changes.take() == [Change(Topic.CREDENTIALS, "email")]
        await house.credentials.remove_all("email")
        assert changes.take() == []


async def test_a_removed_value_is_gone(house: House) -> None:
    await house.set()
    await house.credentials.remove("email", "API_KEY")
    assert await house.credentials.of("email") == {}
    with pytest.raises(
        NotFoundError, match="email has no credential 'API_KEY'; get_server_credentials shows"
    ):
        await house.credentials.remove("email", "API_KEY")


async def test_all_values_of_a_server_can_be_removed_at_once(house: House) -> None:
    await house.set(key="ONE")
    await house.set(key="TWO")
    await house.set(server="other")
    await house.credentials.remove_all("email")
    assert list(await house.credentials.everything()) == ["other"]


@pytest.mark.parametrize("key", ["", "1A", "A-B", "A B", "É", "A" * 101, "A\n", "a/../b", "A=B", "A\0"])
async def test_a_name_that_no_environment_variable_has_is_refused(house: House, key: str) -> None:
    with pytest.raises(
        InvalidError, match="is no name of a credential; it is that of an environment"
    ) as refused:
        await house.set(key=key)
    assert refused.value.field == "key"


@pytest.mark.parametrize(
    "key",
    [
        "PATH",
        "Home",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "DATA_DIR",
        "TMPDIR",
        "TEMP",
        "CLAUDE_RUNNER_HOME",
        "DYLD_INSERT_LIBRARIES",
        "BASH_ENV",
        "NODE_OPTIONS",
    ],
)
async def test_a_name_that_would_take_over_the_process_is_refused(house: House, key: str) -> None:
    with pytest.raises(InvalidError, match=f"{key} is set by the system; give the credential another name"):
        await house.set(key=key)


@pytest.mark.parametrize(
    "key", ["PATHS", "ENVATO_KEY", "HOMEPAGE", "_", "LANGUAGE_KEY", "SMTP_USER", "A" * 100]
)
async def test_a_name_that_only_resembles_one_of_those_is_taken(house: House, key: str) -> None:
    await house.set(key=key)
    assert await house.credentials.of("email") == {key: "hunter22"}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "the value of API_KEY is empty; to remove a credential use delete_server_credential"),
        (" \n", "the value of API_KEY is empty"),
        ("a\0b", "has a NUL character"),
        ("a\ud83d", "has half a character at 1"),
        ("x" * (MAX_VALUE_BYTES + 1), "has 65,537 bytes; at most 65,536 can be kept"),
        ("é" * 32_769, "has 65,538 bytes"),
        ("x" * 10_000_000, "has 10,000,000 bytes"),
    ],
)
async def test_a_value_that_cannot_be_used_is_refused_without_showing_it(
    house: House, value: str, sentence: str
) -> None:
    with pytest.raises(InvalidError, match=re.escape(sentence)) as refused:
        await house.set(value=value)
    assert refused.value.field == "value"
    assert len(str(refused.value)) < 200
    assert await house.credentials.everything() == {}


async def test_the_largest_value_is_kept(house: House) -> None:
    await house.set(value="x" * MAX_VALUE_BYTES)
    assert await house.credentials.of("email") == {"API_KEY": "x" * MAX_VALUE_BYTES}


async def test_the_key_is_made_for_its_owner_alone(house: House) -> None:
    await house.set()
    assert stat.S_IMODE(house.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(house.file.parent.stat().st_mode) == 0o700
    assert len(house.keys()) == 1


async def test_a_key_that_others_could_read_is_closed_to_them_and_that_is_said(house: House) -> None:
    await house.set()
    house.file.chmod(0o644)
    with logged() as log:
        assert await house.credentials.of("email") == {"API_KEY": "hunter22"}
    assert log.having("others could read")
    assert stat.S_IMODE(house.file.stat().st_mode) == 0o600


async def test_a_key_in_the_environment_is_used_and_no_file_made(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYS[0]) as house:
        await house.set()
        [(sealed,)] = await house.sql("SELECT sealed FROM credentials")
        assert json.loads(Fernet(KEYS[0]).decrypt(sealed)) == ["email", "API_KEY", "hunter22"]
        assert not house.file.exists()


async def test_of_several_keys_the_first_seals_and_all_open(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYS[0]) as house:
        await house.set(key="OLD")
    async with open_house(tmp_path, f"{KEYS[1]}, {KEYS[0]},") as house:
        await house.set(key="NEW")
        assert set(await house.credentials.of("email")) == {"OLD", "NEW"}
        [(sealed,)] = await house.sql("SELECT sealed FROM credentials WHERE key = 'NEW'")
        assert Fernet(KEYS[1]).decrypt(sealed)


@pytest.mark.parametrize("key", ["hunter22", KEYS[0][:-1], f"{KEYS[0]},{KEYS[1]}x", ",", "é"])
async def test_a_broken_key_in_the_environment_is_said_and_not_shown(tmp_path: Path, key: str) -> None:
    async with open_house(tmp_path, key) as house:
        with pytest.raises(
            UnavailableError, match="CREDENTIALS_KEY holds something that is no key"
        ) as broken:
            await house.set()
        assert KEYS[0][:10] not in str(broken.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"not a key\n"])
async def test_a_broken_key_file_is_said_and_left_alone(house: House, content: bytes) -> None:
    await house.set()
    house.file.write_bytes(content)
    for attempt in (house.set(), house.credentials.of("email"), house.credentials.everything()):
        with pytest.raises(
            UnavailableError, match=r"credentials\.key holds something that is no key; a key has 44"
        ):
            await attempt
    assert house.file.read_bytes() == content
    await house.credentials.remove("email", "API_KEY")


async def test_a_key_file_that_cannot_be_read_is_said(house: House) -> None:
    await house.set()
    house.file.unlink()
    house.file.mkdir()
    with pytest.raises(UnavailableError, match=r"credentials\.key can't be used"):
        await house.credentials.of("email")


async def test_a_value_whose_key_is_gone_names_what_to_do(house: House) -> None:
    await house.set(key="ONE")
    await house.set(key="TWO")
    house.file.unlink()
    with pytest.raises(
        UnavailableError, match="ONE, TWO of email can't be opened with the keys in"
    ) as closed:
        await house.credentials.of("email")
    assert "put back the key that sealed it, or set it again with set_server_credential" in str(closed.value)


async def test_one_value_that_cannot_be_opened_leaves_the_others_usable(house: House) -> None:
    await house.set(server="bad", value="hunter22-hunter22")
    await house.set(server="good")
    await house.sql("UPDATE credentials SET sealed = 'é!' WHERE server = 'bad'")
    assert await house.credentials.of("good") == {"API_KEY": "hunter22"}
    assert await house.credentials.everything() == {"good": {"API_KEY": "hunter22"}}
    [shown] = await house.credentials.stored("bad")
    assert (shown.tail, shown.readable) == (None, False)
    await house.set(server="bad", value="hunter33")
    assert await house.credentials.of("bad") == {"API_KEY": "hunter33"}


@pytest.mark.parametrize("column", ["server", "key"])
async def test_a_value_that_was_moved_to_another_row_is_not_opened(house: House, column: str) -> None:
    await house.set()
    await house.sql(f"UPDATE credentials SET {column} = 'other'")
    assert await house.credentials.everything() == {}


@pytest.mark.parametrize(
    "content", [b"no json", b'"text"', b'["email", "API_KEY"]', b'["email", "API_KEY", 1]']
)
async def test_what_was_sealed_for_something_else_is_no_value(house: House, content: bytes) -> None:
    await house.set()
    sealed = Fernet(house.keys()[0]).encrypt(content).decode()
    await house.sql("UPDATE credentials SET sealed = :sealed", sealed=sealed)
    assert await house.credentials.everything() == {}


async def test_a_rotation_seals_everything_under_a_new_key_alone(house: House) -> None:
    await house.set(key="ONE")
    await house.set(server="other")
    before, [old] = await house.credentials.everything(), house.keys()
    assert await house.credentials.rotate() == 2
    [new] = house.keys()
    assert new != old
    assert await house.credentials.everything() == before
    for (sealed,) in await house.sql("SELECT sealed FROM credentials"):
        assert Fernet(new).decrypt(sealed)
    assert stat.S_IMODE(house.file.stat().st_mode) == 0o600


async def test_a_rotation_in_the_environment_seals_under_its_first_key(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYS[0]) as house:
        await house.set()
    async with open_house(tmp_path, f"{KEYS[1]},{KEYS[0]}") as house:
        assert await house.credentials.rotate() == 1
    async with open_house(tmp_path, KEYS[1]) as house:
        assert await house.credentials.of("email") == {"API_KEY": "hunter22"}
        assert not house.file.exists()


async def test_a_rotation_leaves_what_it_cannot_open_and_names_it(house: House) -> None:
    await house.set(key="GOOD")
    await house.set(key="BAD")
    await house.sql("UPDATE credentials SET sealed = 'broken' WHERE key = 'BAD'")
    with logged() as log:
        assert await house.credentials.rotate() == 1
    assert log.having("BAD of email can't be opened and stays as it is")
    assert await house.sql("SELECT sealed FROM credentials WHERE key = 'BAD'") == [("broken",)]


async def test_a_rotation_that_was_cut_off_loses_nothing_and_the_next_one_finishes_it(house: House) -> None:
    """What a crash after the new key was written leaves: rows under the old one, and both in the file."""
    await house.set(key="OLD")
    house.file.write_text(f"{KEYS[0]}\n{house.keys()[0]}\n")
    await house.set(key="NEW")
    (house.file.parent / "credentials.key.part").write_text("half a ke")
    assert set(await house.credentials.of("email")) == {"OLD", "NEW"}
    assert await house.credentials.rotate() == 2
    assert len(house.keys()) == 1
    assert set(await house.credentials.of("email")) == {"OLD", "NEW"}
    assert not (house.file.parent / "credentials.key.part").exists()


ROTATE_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from claude_runner.config import Settings
from claude_runner.credentials import Credentials
from claude_runner.db import open_database
from claude_runner.hub import Hub

async def main(home):
    async with open_database(home / "jobs.db") as database:
        credentials = Credentials(database, Hub(), Settings(home=home))
        while True:
            print(await credentials.rotate(), flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_rotation_that_is_killed_loses_nothing(house: House) -> None:
    for number in range(20):
        await house.set(key=f"KEY_{number}")
    before = await house.credentials.everything()
    for kill_after in range(1, 6):
        program = (sys.executable, "-c", ROTATE_FOR_EVER, str(house.settings.home))
        process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            for _ in range(kill_after):
                assert await process.stdout.readline() == b"20\n"
        await asyncio.sleep(kill_after / 1000)  # into the next one, each time a little further
        process.kill()
        await process.wait()
        assert await house.credentials.everything() == before
    assert await house.credentials.rotate() == 20
    assert len(house.keys()) == 1


async def test_another_process_goes_on_through_a_rotation(house: House) -> None:
    await house.set()
    async with open_house(house.settings.home) as other:
        assert await other.credentials.of("email") == {"API_KEY": "hunter22"}
        await house.credentials.rotate()
        assert await other.credentials.of("email") == {"API_KEY": "hunter22"}
        await other.set(key="LATER")
    assert set(await house.credentials.of("email")) == {"API_KEY", "LATER"}
    assert len(house.keys()) == 1


async def test_rotations_and_changes_at_once_lose_nothing(house: House) -> None:
    async with open_house(house.settings.home) as other, asyncio.TaskGroup() as tasks:
        for number in range(20):
            one, two = (house, other) if number % 2 else (other, house)
            tasks.create_task(one.set(key=f"KEY_{number}"))
            if number % 4 == 0:
                tasks.create_task(two.credentials.rotate())
            tasks.create_task(two.credentials.of("email"))
    assert set(await house.credentials.of("email")) == {f"KEY_{number}" for number in range(20)}
    assert len(house.keys()) == 1


async def test_two_processes_that_need_a_key_first_share_one(house: House) -> None:
    async with open_house(house.settings.home) as other, asyncio.TaskGroup() as tasks:
        tasks.create_task(house.set(key="ONE"))
        tasks.create_task(other.set(key="TWO"))
    assert set(await house.credentials.of("email")) == {"ONE", "TWO"}
    assert len(house.keys()) == 1


async def test_a_rotation_does_not_make_a_value_look_changed(house: House) -> None:
    await house.credentials.set("email", "API_KEY", "hunter22", MORNING + timedelta(hours=1))
    await house.credentials.rotate()
    [shown] = await house.credentials.stored("email")
    assert shown.updated_at == MORNING + timedelta(hours=1)


def rotated_by_command(home: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(ROOT / "server.py"), "--rotate-key"],
        env=measured(home, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


async def test_one_command_rotates_while_a_server_runs(house: House) -> None:
    await house.set()
    [old] = house.keys()
    done = await asyncio.to_thread(rotated_by_command, house.settings.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"sealed anew: 1 credential; the key is in {house.file}\n"
    assert house.keys() != [old]
    assert await house.credentials.of("email") == {"API_KEY": "hunter22"}


async def test_the_command_goes_by_the_keys_in_the_environment(tmp_path: Path) -> None:
    async with open_house(tmp_path, KEYS[0]) as house:
        await house.set(key="ONE")
        await house.set(key="TWO")
    done = await asyncio.to_thread(rotated_by_command, tmp_path, CREDENTIALS_KEY=f"{KEYS[1]},{KEYS[0]}")
    assert done.stdout == "sealed anew: 2 credentials; the key is in CREDENTIALS_KEY\n"


def test_the_command_says_what_is_in_its_way(tmp_path: Path) -> None:
    done = rotated_by_command(tmp_path, CREDENTIALS_KEY="hunter22")
    assert done.returncode == 1
    assert "cannot run: CREDENTIALS_KEY holds something that is no key" in done.stderr
    assert "hunter22" not in done.stderr


def test_the_key_of_an_owner_reaches_no_run(tmp_path: Path) -> None:
    server = {"CREDENTIALS_KEY": KEYS[0], "PATH": "/bin"}
    assert (
        KEYS[0] not in environment_of(Settings(tmp_path, environment=server), None, tmp_path, "run").values()
    )
