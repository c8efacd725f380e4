"""Who may use the server over the network: what is kept of it, by whom, and until when."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner.app import open_app
from claude_runner.auth import (
    Access,
    Auth,
    CodeExchange,
    ConsentRequest,
    OAuthError,
    RefreshExchange,
    Source,
    TokenPair,
)
from claude_runner.auth._known import MOST, TRUST, KnownTokens
from claude_runner.config import Login, Settings
from claude_runner.db import open_database
from claude_runner.errors import ConflictError, NotFoundError, UnavailableError
from claude_runner.hub import Hub, Topic
from tests.oauth import CALLBACK, ORIGIN, VERIFIER, challenge
from tests.parts import logged
from tests.served import measured
from tests.support import MORNING, PATIENCE, FakeAgent, FakeClock
from tests.test_server import ROOT

FRAME = """\
============================================================
OAUTH CREDENTIALS FOR CLAUDE CONNECTOR
============================================================
Client ID:     {0}
Client Secret: {1}
Save these to your .env file:
  OAUTH_CLIENT_ID={0}
  OAUTH_CLIENT_SECRET={1}
============================================================"""


@asynccontextmanager
async def open_auth(home: Path, hub: Hub | None = None, **settings: object) -> AsyncIterator[Auth]:
    async with open_database(home / "jobs.db") as database:
        auth = Auth(database, hub or Hub(), replace(Settings(home=home), **settings))  # type: ignore[arg-type]
        async with auth.open():
            yield auth


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    async with open_auth(tmp_path) as auth:
        yield auth


def rows(home: Path, statement: str) -> list[tuple[object, ...]]:
    """What a person at the sqlite3 shell does, where foreign keys are not enforced."""
    with closing(sqlite3.connect(home / "jobs.db")) as shell, shell:
        return shell.execute(statement).fetchall()


async def client_of(auth: Auth) -> str:
    return (await auth.register("An app", (CALLBACK,), MORNING, confidential=False)).client.client_id


async def code_for(auth: Auth, client_id: str) -> str:
    wanted = ConsentRequest(client_id, CALLBACK, None, challenge(), "mcp", ORIGIN, f"{ORIGIN}/mcp")
    waiting = auth.unseal(auth.seal(wanted, MORNING), MORNING)
    client = await auth.find_client(client_id)
    assert waiting is not None
    assert client is not None
    return await auth.consent(waiting, client, MORNING)


async def pair_of(auth: Auth, client_id: str) -> TokenPair:
    code = await code_for(auth, client_id)
    return await auth.redeem(CodeExchange(client_id, ORIGIN, None, code, VERIFIER, CALLBACK), MORNING)


# The key


async def test_a_key_is_made_for_its_owner_alone(auth: Auth, tmp_path: Path) -> None:
    key = tmp_path / ".claude-runner" / "oauth.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text().strip()) == 43
    assert auth.derived_key("a purpose")


async def test_a_key_in_the_environment_is_used_and_no_file_made(tmp_path: Path) -> None:
    async with open_auth(tmp_path, oauth_secret_key="k" * 40) as auth:
        assert not (tmp_path / ".claude-runner" / "oauth.key").exists()
        assert auth.derived_key("a purpose")


async def test_a_key_that_others_could_read_is_closed_to_them_and_that_is_said(tmp_path: Path) -> None:
    async with open_auth(tmp_path):
        pass
    key = tmp_path / ".claude-runner" / "oauth.key"
    key.chmod(0o644)
    with logged() as log:
        async with open_auth(tmp_path):
            assert log.having("others could read")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "short", "é" * 43])
async def test_a_file_that_holds_no_key_is_named(tmp_path: Path, content: str) -> None:
    key = tmp_path / ".claude-runner" / "oauth.key"
    key.parent.mkdir()
    key.write_text(content)
    with pytest.raises(UnavailableError, match=r"oauth\.key holds something that is no key; delete it"):
        async with open_auth(tmp_path):
            pass
    assert key.read_text() == content


async def test_a_key_that_can_not_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / ".claude-runner" / "oauth.key").mkdir(parents=True)
    with pytest.raises(UnavailableError, match=r"oauth\.key can't be used"):
        async with open_auth(tmp_path):
            pass


async def test_two_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as one, open_auth(tmp_path) as other:
        assert one.derived_key("a") == other.derived_key("a")
    (tmp_path / ".claude-runner" / "oauth.key").unlink()
    async with open_database(tmp_path / "jobs.db") as database:
        auths = [Auth(database, Hub(), Settings(home=tmp_path)) for _ in range(5)]
        keys = await asyncio.gather(*(key_of(auth) for auth in auths))
    assert len(set(keys)) == 1


async def key_of(auth: Auth) -> bytes:
    async with auth.open():
        return auth.derived_key("a")


async def test_keys_for_different_purposes_are_different_and_survive_a_restart(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as auth:
        first = auth.derived_key("elicitation")
        assert len(first) == 32
        assert first != auth.derived_key("consent")
    async with open_auth(tmp_path) as auth:
        assert auth.derived_key("elicitation") == first


async def test_nothing_is_asked_of_it_before_it_is_open(tmp_path: Path) -> None:
    async with open_database(tmp_path / "jobs.db") as database:
        with pytest.raises(RuntimeError, match="not open"):
            Auth(database, Hub(), Settings(home=tmp_path)).derived_key("a")


# The owner's own client


async def test_a_client_is_made_once_and_shown_in_a_frame(auth: Auth, tmp_path: Path) -> None:
    made = await auth.ensure_client(MORNING)
    assert made is not None
    assert made.frame == FRAME.format(made.client_id, made.secret)
    assert await auth.ensure_client(MORNING) is None
    [(name, kept)] = rows(tmp_path, "SELECT client_name, secret_sha256 FROM oauth_clients")
    assert name == "Claude (auto)"
    assert kept != made.secret
    assert len(made.secret) == 43
    assert (await auth.proven_client(made.client_id, made.secret)).name == "Claude (auto)"


async def test_deleting_its_row_makes_a_new_one_at_the_next_start(auth: Auth, tmp_path: Path) -> None:
    made = await auth.ensure_client(MORNING)
    token = await auth.personal_token(MORNING, ORIGIN)
    rows(tmp_path, "DELETE FROM oauth_clients WHERE client_name = 'Claude (auto)'")
    for table in ("oauth_grants", "oauth_access_tokens"):
        assert rows(tmp_path, f"SELECT * FROM {table}") == []
    again = await auth.ensure_client(MORNING)
    assert again is not None
    assert made is not None
    assert again.client_id != made.client_id
    assert await auth.check(token, ORIGIN, MORNING) is None
    assert rows(tmp_path, "PRAGMA foreign_key_check") == []


async def test_processes_that_start_at_once_show_one_pair(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as one, open_auth(tmp_path) as other:
        made = await asyncio.gather(*(auth.ensure_client(MORNING) for auth in (one, other, one, other)))
    assert [client is None for client in made].count(False) == 1


async def test_the_environments_client_is_kept_as_the_environment_has_it(tmp_path: Path) -> None:
    for secret in ("first", "second"):
        async with open_auth(tmp_path, oauth_client=Login("mine", secret)) as auth:
            assert await auth.ensure_client(MORNING) is None
            assert (await auth.proven_client("mine", secret)).client_id == "mine"
    async with open_auth(tmp_path, oauth_client=Login("renamed", "second")) as auth:
        with pytest.raises(OAuthError):
            await auth.proven_client("mine", "first")
        await auth.ensure_client(MORNING)
        assert await auth.find_client("mine") is None
        assert rows(tmp_path, "SELECT client_id FROM oauth_clients") == [("renamed",)]


async def test_saving_the_pair_that_was_shown_to_the_environment_changes_nothing(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as auth:
        made = await auth.ensure_client(MORNING)
        assert made is not None
        token = await auth.personal_token(MORNING, ORIGIN)
    async with open_auth(tmp_path, oauth_client=Login(*made)) as auth:
        assert await auth.ensure_client(MORNING) is None
        assert await auth.check(token, ORIGIN, MORNING)
        assert rows(tmp_path, "SELECT client_name FROM oauth_clients") == [("Claude (auto)",)]


async def test_there_is_no_token_for_scripts_before_there_is_a_client(auth: Auth) -> None:
    with pytest.raises(NotFoundError, match="start the server once"):
        await auth.personal_token(MORNING, ORIGIN)


def test_the_server_shows_a_new_client_once_on_standard_error(tmp_path: Path) -> None:
    """What `--access-token` and the site's start have in common; the token alone is on standard output."""
    said = [
        subprocess.run(
            [sys.executable, ROOT / "server.py", "--access-token"],
            env=measured(tmp_path),
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        for _ in range(2)
    ]
    assert "OAUTH CREDENTIALS FOR CLAUDE CONNECTOR" in said[0].stderr
    assert "OAUTH CREDENTIALS" not in said[1].stderr
    assert all(run.stdout.count(".") == 2 for run in said)


# Taking back


async def test_revocation_is_known_in_the_other_processes_of_a_home_at_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    clock = FakeClock()
    async with (
        open_app(settings, agent=FakeAgent(), clock=clock) as one,
        open_app(settings, agent=FakeAgent(), clock=clock) as other,
    ):
        client_id = await client_of(one.auth)
        pair = await pair_of(one.auth, client_id)
        client = await one.auth.find_client(client_id)
        assert client is not None
        for app in (one, other):
            assert await app.auth.check(pair.access_token, ORIGIN, MORNING)
        with other.hub.subscribe(Topic.AUTH) as changes:
            await one.auth.revoke(client, pair.access_token, MORNING)
            assert await one.auth.check(pair.access_token, ORIGIN, MORNING) is None
            async with asyncio.timeout(PATIENCE):
                await changes.changed.wait()
            assert await other.auth.check(pair.access_token, ORIGIN, MORNING) is None


def test_what_is_taken_back_while_it_is_looked_up_is_not_remembered() -> None:
    known = KnownTokens()
    access = Access("g", "c", "owner", "mcp", ORIGIN, ORIGIN, MORNING + timedelta(hours=1))
    generation = known.generation
    known.forget()
    known.keep("token", access, MORNING, generation)
    assert known.find("token", MORNING) is None


async def test_what_nobody_told_of_is_noticed_within_seconds(auth: Auth, tmp_path: Path) -> None:
    pair = await pair_of(auth, await client_of(auth))
    assert await auth.check(pair.access_token, ORIGIN, MORNING)
    rows(tmp_path, "DELETE FROM oauth_grants")
    assert await auth.check(pair.access_token, ORIGIN, MORNING)  # it is known from a moment ago
    assert await auth.check(pair.access_token, ORIGIN, MORNING + TRUST) is None


def test_few_tokens_are_remembered_and_none_beyond_its_end_or_before_it_was_seen() -> None:
    known = KnownTokens()
    ends = MORNING + timedelta(seconds=2)
    access = Access("g", "c", "owner", "mcp", ORIGIN, ORIGIN, ends)
    for number in range(MOST + 1):
        known.keep(str(number), access, MORNING, known.generation)
    assert known.find("0", MORNING) is None
    assert known.find("1", MORNING) == access
    assert known.find("2", ends) is None
    assert known.find("2", MORNING) is None  # it was dropped
    assert known.find("3", MORNING - timedelta(hours=1)) is None


async def test_whoever_is_the_owners_own_again_under_another_name_loses_what_it_had(tmp_path: Path) -> None:
    hub = Hub()
    async with open_auth(tmp_path, oauth_client=Login("mine", "s" * 8)) as auth:
        await auth.ensure_client(MORNING)
        token = await auth.personal_token(MORNING, ORIGIN)
    async with open_auth(tmp_path, hub, oauth_client=Login("renamed", "s" * 8)) as auth:
        assert await auth.check(token, ORIGIN, MORNING)
        with hub.subscribe(Topic.AUTH) as changes:
            await auth.ensure_client(MORNING)
            assert [change.key for change in changes.take()] == ["mine"]
        assert await auth.check(token, ORIGIN, MORNING) is None


# What is over


async def test_what_is_over_is_deleted_in_passing(auth: Auth, tmp_path: Path) -> None:
    unused, idle = await client_of(auth), await client_of(auth)
    await code_for(auth, idle)  # a code that nobody fetches
    pair = await pair_of(auth, idle)
    counts = "SELECT (SELECT count(*) FROM oauth_{}), (SELECT count(*) FROM oauth_grants)"
    assert rows(tmp_path, counts.format("codes")) == [(2, 2)]
    later = MORNING + timedelta(hours=9)
    renewed = await auth.refresh(RefreshExchange(idle, ORIGIN, None, pair.refresh_token, None), later)
    assert rows(tmp_path, counts.format("codes")) == [(1, 1)]
    assert rows(tmp_path, counts.format("access_tokens")) == [(1, 1)]
    assert rows(tmp_path, counts.format("refresh_tokens")) == [(2, 1)]
    assert rows(tmp_path, counts.format("answered")) == [(0, 1)]
    later += timedelta(days=2)
    await auth.register("another", (CALLBACK,), later, confidential=False)
    assert await auth.find_client(unused) is None
    assert await auth.find_client(idle) is not None
    later += timedelta(days=59)
    with pytest.raises(OAuthError):
        await auth.refresh(RefreshExchange(idle, ORIGIN, None, renewed.refresh_token, None), later)
    later += timedelta(days=10)
    await auth.register("another", (CALLBACK,), later, confidential=False)
    assert rows(tmp_path, "SELECT count(*) FROM oauth_clients") == [(1,)]
    for table in ("codes", "grants", "refresh_tokens", "access_tokens", "answered"):
        assert rows(tmp_path, f"SELECT * FROM oauth_{table}") == []


async def test_a_revoked_grant_is_kept_for_a_week(auth: Auth, tmp_path: Path) -> None:
    client_id = await client_of(auth)
    pair = await pair_of(auth, client_id)
    client = await auth.find_client(client_id)
    assert client is not None
    await auth.revoke(client, pair.refresh_token, MORNING)
    await auth.register("another", (CALLBACK,), MORNING + timedelta(days=6), confidential=False)
    assert rows(tmp_path, "SELECT revoked_reason FROM oauth_grants") == [("client",)]
    await auth.register("another", (CALLBACK,), MORNING + timedelta(days=8), confidential=False)
    assert rows(tmp_path, "SELECT * FROM oauth_grants") == []


# What the owner sees and takes back


async def test_the_owner_sees_each_client_with_what_it_holds(auth: Auth) -> None:
    unused = await client_of(auth)
    used = await client_of(auth)
    await pair_of(auth, used)
    await pair_of(auth, used)
    first, second = await auth.clients()
    assert (first.client_id, first.name, first.source, first.redirect_uris) == (
        used,
        "An app",
        Source.REGISTERED,
        (CALLBACK,),
    )
    assert (first.created_at, first.last_used_at, first.grants, first.consented_at) == (
        MORNING,
        MORNING,
        2,
        MORNING,
    )
    assert (second.client_id, second.last_used_at, second.grants, second.consented_at) == (
        unused,
        None,
        0,
        None,
    )


async def test_what_the_owner_takes_back_is_good_for_nothing_at_once_in_every_process(tmp_path: Path) -> None:
    hub = Hub()
    async with open_auth(tmp_path, hub) as auth, open_auth(tmp_path, hub) as other:
        client_id, bystander = await client_of(auth), await client_of(auth)
        mine, theirs = await pair_of(auth, client_id), await pair_of(auth, bystander)
        for each in (auth, other):
            assert await each.check(mine.access_token, ORIGIN, MORNING)
        assert await auth.revoke_client(client_id, MORNING) == 1
        for each in (auth, other):
            assert await each.check(mine.access_token, ORIGIN, MORNING) is None
            assert await each.check(theirs.access_token, ORIGIN, MORNING)
        with pytest.raises(OAuthError):
            await auth.refresh(RefreshExchange(client_id, ORIGIN, None, mine.refresh_token, None), MORNING)
        assert {row.grants for row in await auth.clients() if row.client_id == client_id} == {0}
        assert await auth.revoke_client(client_id, MORNING) == 0
    assert ("owner",) in rows(tmp_path, "SELECT revoked_reason FROM oauth_grants")


async def test_a_client_that_is_forgotten_has_to_register_again(auth: Auth, tmp_path: Path) -> None:
    client_id = await client_of(auth)
    pair = await pair_of(auth, client_id)
    assert await auth.check(pair.access_token, ORIGIN, MORNING)
    await auth.forget_client(client_id, MORNING)
    assert await auth.check(pair.access_token, ORIGIN, MORNING) is None
    assert await auth.clients() == []
    assert rows(tmp_path, "SELECT * FROM oauth_grants") == []


async def test_the_owners_own_client_is_not_forgotten_but_its_access_is_taken_back(auth: Auth) -> None:
    made = await auth.ensure_client(MORNING)
    assert made is not None
    token = await auth.personal_token(MORNING, ORIGIN)
    with pytest.raises(ConflictError, match="the client of the server itself"):
        await auth.forget_client(made.client_id, MORNING)
    assert await auth.check(token, ORIGIN, MORNING)
    await auth.revoke_client(made.client_id, MORNING)
    assert await auth.check(token, ORIGIN, MORNING) is None


async def test_a_client_that_there_is_none_of_can_neither_be_revoked_nor_forgotten(auth: Auth) -> None:
    for take in (auth.revoke_client, auth.forget_client):
        with pytest.raises(NotFoundError, match="there is no client"):
            await take("x", MORNING)
