"""Webhooks in the database: what is kept of them, sealed and found, changed and removed."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner import webhooks
from claude_runner.credentials import Credentials, Sealing
from claude_runner.db import Connection, Database, open_database
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Change, Hub, Topic
from claude_runner.permissions import Profile
from claude_runner.webhooks import (
    NewDelivery,
    Signature,
    Verdict,
    Webhook,
    WebhookDraft,
    Webhooks,
    hash_of,
    kept_headers,
    reseal,
)
from claude_runner.webhooks._deliveries import BODIES, BODIES_BYTES, KNOWN_FOR, NOT_KEPT, REFUSALS
from tests.parts import logged
from tests.support import MORNING, settings_in
from tests.test_credentials import KEYS, rotated_by_command

SECRET = "It's a Secret to Everybody"
LATER = MORNING + timedelta(hours=1)


@dataclass(frozen=True)
class Desk:
    """Webhooks over a real home."""

    home: Path
    database: Database
    hub: Hub
    webhooks: Webhooks

    async def made(self, **changes: Any) -> Webhook:
        values: dict[str, Any] = {"name": "Items", "prompt_template": "Sort {{payload.title}}"}
        return await self.webhooks.add(WebhookDraft(**values | changes), MORNING)

    async def signed(self) -> Webhook:
        return await self.made(signature=Signature.GITHUB, signing_secret=SECRET)

    async def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        def run(c: sqlite3.Connection) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in c.execute(statement, values)]

        return await self.database.write(run)

    def forget_the_key(self) -> None:
        (self.home / ".claude-runner" / "credentials.key").unlink()


@asynccontextmanager
async def open_desk(home: Path, key: str = "") -> AsyncIterator[Desk]:
    settings = settings_in(home, environment={"CREDENTIALS_KEY": key})
    async with open_database(settings.database_path) as database:
        hub = Hub()
        yield Desk(home, database, hub, Webhooks(database, hub, Sealing(settings)))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as desk:
        yield desk


async def test_a_webhook_is_kept_as_it_was_given(desk: Desk) -> None:
    made = await desk.made(
        description="What is new",
        tools=("Read", "mcp__email__send_email"),
        timeout_minutes=5,
        model="sonnet",
        profile=Profile.RULES,
        commands=("git status",),
        signature=Signature.SLACK,
        signing_secret=SECRET,
        filter=' payload.action == "opened" ',
        plain_fields=("action", "payload.number", "payload"),
        max_per_minute=7,
        max_wait_seconds=9,
        enabled=False,
    )
    assert await desk.webhooks.get(made.id) == made
    assert await desk.webhooks.list() == [made]
    assert (made.filter, made.plain_fields) == (
        'payload.action == "opened"',
        ("payload.action", "payload.number", "payload"),
    )
    assert (made.signing_secret, made.trigger_count, made.last_triggered_at) == (SECRET, 0, None)


async def test_a_token_has_256_bits_that_a_url_can_hold_and_no_other_webhooks(desk: Desk) -> None:
    tokens = {(await desk.made()).token for _ in range(20)}
    assert len(tokens) == 20
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", str(token)) for token in tokens)


async def test_neither_token_nor_secret_is_in_the_files_or_shown_by_the_object(desk: Desk) -> None:
    made = await desk.signed()
    assert made.token is not None
    files = [file.read_bytes() for file in desk.home.rglob("*") if file.is_file()]
    assert len(files) > 1
    for hidden in (made.token, SECRET):
        assert not any(hidden.encode() in content for content in files)
        assert hidden not in repr(made)
    [row] = await desk.sql("SELECT token_sha256 FROM webhooks")
    assert row == (hash_of(made.token),)


async def test_an_id_that_another_webhook_has_is_not_given_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr("claude_runner.webhooks._collection.secrets.token_hex", lambda _: next(ids))
    assert [(await desk.made()).id, (await desk.made()).id] == ["aaaaaaaa", "bbbbbbbb"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"prompt_template": "{{x}}"}, "prompt_template"),
        ({"description": "x" * 2001}, "description"),
        ({"description": "\x00"}, "description"),
        ({"model": "no model!"}, "model"),
        ({"timeout_minutes": 0}, "timeout_minutes"),
        ({"filter": "x"}, "filter"),
        ({"signature": Signature.GITHUB}, "signing_secret"),
        ({"signing_secret": SECRET}, "signature"),
        ({"signature": Signature.GITHUB, "signing_secret": "short"}, "signing_secret"),
        ({"signature": Signature.STANDARD, "signing_secret": SECRET}, "signing_secret"),
        ({"plain_fields": ("a..b",)}, "plain_fields"),
        ({"plain_fields": ("a",) * 51}, "plain_fields"),
        ({"max_per_minute": 0}, "max_per_minute"),
        ({"max_wait_seconds": 301}, "max_wait_seconds"),
    ],
)
async def test_what_can_not_be_kept_is_refused(desk: Desk, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as error:
        await desk.made(**changes)
    assert error.value.field == field
    made = await desk.made()
    with pytest.raises(InvalidError):
        await desk.webhooks.change(made.id, changes, LATER)
    assert await desk.webhooks.list() == [made]


async def test_what_is_not_changed_stays(desk: Desk) -> None:
    made = await desk.signed()
    changed = await desk.webhooks.change(made.id, {"name": "Others", "filter": "payload.a"}, LATER)
    assert (changed.name, changed.filter, changed.updated_at) == ("Others", "payload.a", LATER)
    assert (changed.token, changed.signing_secret, changed.created_at) == (made.token, SECRET, MORNING)
    assert await desk.webhooks.get(made.id) == changed


async def test_a_secret_is_changed_and_given_up_with_the_signature(desk: Desk) -> None:
    made = await desk.signed()
    changed = await desk.webhooks.change(made.id, {"signing_secret": "another secret"}, LATER)
    assert (await desk.webhooks.get(made.id)).signing_secret == changed.signing_secret == "another secret"
    changed = await desk.webhooks.change(made.id, {"signature": None, "signing_secret": None}, LATER)
    assert await desk.webhooks.get(made.id) == changed
    assert await desk.sql("SELECT signing_secret FROM webhooks") == [(None,)]


async def test_a_new_token_takes_the_place_of_the_old(desk: Desk) -> None:
    made = await desk.signed()
    rotated = await desk.webhooks.rotate(made.id, LATER)
    assert rotated.token not in {made.token, None}
    assert rotated.token_sha256 == hash_of(str(rotated.token))
    assert await desk.webhooks.get(made.id) == rotated
    assert rotated.signing_secret == SECRET


async def test_two_changes_at_once_are_told_apart(desk: Desk) -> None:
    made = await desk.made()
    results = await asyncio.gather(
        *(desk.webhooks.change(made.id, {"name": name}, MORNING) for name in "abc"), return_exceptions=True
    )
    assert sum(isinstance(result, ConflictError) for result in results) == 2


async def test_every_change_is_told(desk: Desk) -> None:
    with desk.hub.subscribe(Topic.WEBHOOKS) as changes:
        made = await desk.made()
        told = [Change(Topic.WEBHOOKS, made.id)]
        assert changes.take() == told
        await desk.webhooks.change(made.id, {"name": "x"}, LATER)
        assert changes.take() == told
        await desk.webhooks.rotate(made.id, LATER)
        assert changes.take() == told
        await desk.webhooks.disable(made.id, LATER)
        assert changes.take() == told
        await desk.webhooks.remove(made.id)
        assert changes.take() == told


async def test_a_webhook_that_is_not_there_is_named(desk: Desk) -> None:
    for asked in (
        desk.webhooks.get("nothing"),
        desk.webhooks.change("nothing", {}, LATER),
        desk.webhooks.rotate("nothing", LATER),
        desk.webhooks.disable("nothing", LATER),
        desk.webhooks.remove("nothing"),
        desk.webhooks.deliveries("nothing", 1),
    ):
        with pytest.raises(NotFoundError, match="no webhook 'nothing'") as error:
            await asked
        assert error.value.field == "webhook_id"
    with pytest.raises(NotFoundError, match="no delivery 'nothing'"):
        await desk.webhooks.delivery("nothing")


# Keys


async def test_rotating_the_key_seals_tokens_and_secrets_anew(desk: Desk) -> None:
    made = await desk.signed()
    await desk.made()
    file = desk.home / ".claude-runner" / "credentials.key"
    [old] = file.read_text().split()
    credentials = Credentials(desk.database, desk.hub, settings_in(desk.home))
    assert await credentials.rotate(reseal) == 3
    [new] = file.read_text().split()
    assert new != old
    assert await desk.webhooks.get(made.id) == made


async def test_the_command_that_rotates_the_key_takes_webhooks_along(desk: Desk) -> None:
    made = await desk.signed()
    done = await asyncio.to_thread(rotated_by_command, desk.home)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sealed anew: 2 credentials")
    assert await desk.webhooks.get(made.id) == made


async def test_what_no_key_opens_is_left_as_it_is_and_named(desk: Desk) -> None:
    made = await desk.signed()
    before = await desk.sql("SELECT secret_token, signing_secret FROM webhooks")
    desk.forget_the_key()
    credentials = Credentials(desk.database, desk.hub, settings_in(desk.home))
    with logged() as log:
        assert await credentials.rotate(reseal) == 0
    assert len(log.having("of the webhook 'Items' can't be opened and stays as it is")) == 2
    assert await desk.sql("SELECT secret_token, signing_secret FROM webhooks") == before
    assert (await desk.webhooks.get(made.id)).token is None


async def test_a_webhook_whose_key_is_lost_is_shown_and_can_have_a_new_token(desk: Desk) -> None:
    made = await desk.made()
    desk.forget_the_key()
    lost = await desk.webhooks.get(made.id)
    assert (lost.token, lost.readable) == (None, False)
    rotated = await desk.webhooks.rotate(made.id, LATER)
    assert (await desk.webhooks.get(made.id)).token == rotated.token is not None


async def test_a_secret_whose_key_is_lost_has_to_be_given_again(desk: Desk) -> None:
    made = await desk.signed()
    desk.forget_the_key()
    with pytest.raises(UnavailableError, match="the signing secret of 'Items' can't be opened"):
        await desk.webhooks.change(made.id, {"name": "x"}, LATER)
    await desk.webhooks.disable(made.id, LATER)
    assert not (await desk.webhooks.get(made.id)).enabled
    changed = await desk.webhooks.change(made.id, {"signing_secret": SECRET, "enabled": True}, LATER)
    assert (changed.signing_secret, changed.enabled) == (SECRET, True)


async def test_a_token_that_was_moved_to_another_row_is_not_opened(desk: Desk) -> None:
    one, other = await desk.made(), await desk.made()
    await desk.sql(
        "UPDATE webhooks SET secret_token = (SELECT secret_token FROM webhooks WHERE id = :one) WHERE id = :other",
        one=one.id,
        other=other.id,
    )
    assert (await desk.webhooks.get(other.id)).token is None


async def test_what_should_be_the_key_and_is_none_leaves_unsigned_webhooks_usable(tmp_path: Path) -> None:
    async with open_desk(tmp_path, KEYS[0]) as desk:
        await desk.made()
        await desk.signed()
    async with open_desk(tmp_path, "hunter22") as desk:
        with pytest.raises(UnavailableError, match="holds something that is no key"):
            await desk.webhooks.list()
        with logged() as log:
            plain, signed = await desk.webhooks.readable()
        assert log.having("webhooks whose deliveries are signed take none")
    assert (plain.signature, signed.signature, signed.signing_secret) == (None, Signature.GITHUB, None)


@pytest.mark.parametrize(
    ("column", "value"),
    [("plain_fields", "{}"), ("tools", "no JSON"), ("updated_at", "today"), ("created_at", "")],
)
async def test_a_webhook_that_was_spoilt_by_hand_is_named_and_in_nobodys_way(
    desk: Desk, column: str, value: str
) -> None:
    bad, good = await desk.made(), await desk.made()
    await desk.sql(f"UPDATE webhooks SET {column} = :value WHERE id = :id", value=value, id=bad.id)
    with pytest.raises(InvalidError, match=f"webhook {bad.id} was edited by hand"):
        await desk.webhooks.get(bad.id)
    assert [webhook.id for webhook in await desk.webhooks.readable()] == [good.id]


# Deliveries


def delivery(webhook: Webhook, at: datetime, **changes: Any) -> NewDelivery:
    values: dict[str, Any] = {
        "webhook_id": webhook.id,
        "key": None,
        "received_at": at,
        "verdict": Verdict.ACCEPTED,
        "reason": None,
        "headers": "{}",
        "body": b"x",
    }
    return NewDelivery(**values | changes)


async def kept(desk: Desk, deliveries: list[NewDelivery], now: datetime) -> None:
    def write(c: Connection) -> None:
        webhooks.keep(c, deliveries)
        webhooks.forget(c, deliveries[0].webhook_id, now)

    await desk.database.write(write)


async def test_the_newest_bodies_are_kept_and_what_a_delivery_is_known_by_for_longer(desk: Desk) -> None:
    made = await desk.made()
    many = [
        delivery(made, MORNING + timedelta(seconds=number), key=f"k{number}", headers='{"a": "b"}')
        for number in range(BODIES + 20)
    ]
    await kept(desk, many, LATER)
    page = await desk.webhooks.deliveries(made.id, BODIES + 20)
    assert [it.body is None for it in page.deliveries] == [False] * BODIES + [True] * 20
    assert page.deliveries[-1].headers == {}
    assert page.deliveries[-1].key == "k0"
    await kept(desk, [delivery(made, MORNING + KNOWN_FOR)], MORNING + KNOWN_FOR + timedelta(seconds=10))
    page = await desk.webhooks.deliveries(made.id, BODIES + 20)
    assert len(page.deliveries) == BODIES + 11
    assert page.deliveries[-1].key == "k10"


async def test_bodies_together_are_bounded(desk: Desk) -> None:
    made = await desk.made()
    size = 2**20
    most = BODIES_BYTES // size
    many = [
        delivery(made, MORNING + timedelta(seconds=number), body=bytes(size)) for number in range(most + 3)
    ]
    await kept(desk, many, LATER)
    [row] = await desk.sql("SELECT count(*), count(body) FROM webhook_deliveries")
    assert row == (most + 3, most)


async def test_old_deliveries_stay_where_they_are_few(desk: Desk) -> None:
    made = await desk.made()
    await kept(desk, [delivery(made, MORNING)], MORNING + timedelta(days=1000))
    [it] = (await desk.webhooks.deliveries(made.id, 10)).deliveries
    assert it.body == b"x"


async def test_of_refused_deliveries_the_newest_are_kept_and_no_accepted_one_goes_for_them(
    desk: Desk,
) -> None:
    made, other = await desk.made(), await desk.made()
    refused = [
        delivery(made, MORNING + timedelta(seconds=number), verdict=verdict, reason="why")
        for number in range(REFUSALS)
        for verdict in (Verdict.BAD_SIGNATURE, Verdict.MALFORMED, Verdict.DISABLED)
    ]
    await kept(desk, [delivery(other, MORNING, verdict=Verdict.DISABLED)], MORNING)
    await kept(desk, [delivery(made, MORNING), *refused], LATER)
    rows = await desk.sql("SELECT verdict = 'accepted', count(*) FROM webhook_deliveries GROUP BY 1")
    assert rows == [(0, REFUSALS + 1), (1, 1)]


async def test_the_deliveries_of_a_webhook_go_with_it(desk: Desk) -> None:
    made, other = await desk.made(), await desk.made()
    await kept(desk, [delivery(made, MORNING)], MORNING)
    await kept(desk, [delivery(other, MORNING)], MORNING)
    await desk.webhooks.remove(made.id)
    assert await desk.sql("SELECT webhook_id FROM webhook_deliveries") == [(other.id,)]


async def test_a_delivery_that_was_spoilt_by_hand_is_named(desk: Desk) -> None:
    made = await desk.made()
    await kept(desk, [delivery(made, MORNING)], MORNING)
    await desk.sql("UPDATE webhook_deliveries SET headers = '['")
    with pytest.raises(InvalidError, match="was edited by hand"):
        await desk.webhooks.deliveries(made.id, 1)


async def test_a_cursor_that_no_page_gave_is_refused(desk: Desk) -> None:
    made = await desk.made()
    with pytest.raises(InvalidError, match="was not given by list_webhook_deliveries"):
        await desk.webhooks.deliveries(made.id, 1, "x")


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "proxy-authorization", "cookie", "x-hub-signature", "x-hub-signature-256", "stripe-signature",
        "x-slack-signature", "x-gitlab-token", "x-shopify-hmac-sha256", "webhook-signature", "x-api-key", "apikey",
        "x-auth-token", "x-amz-security-token", "x-secret", "x-password", "x-csrf-token", "x-session-id",
    ],
)  # fmt: skip
def test_a_header_that_may_let_somebody_in_is_not_kept(name: str) -> None:
    text = kept_headers({name.encode(): b"hidden", b"x-github-event": b"push"})
    assert "hidden" not in text
    assert NOT_KEPT in text
    assert '"x-github-event": "push"' in text


def test_of_headers_so_much_is_kept_as_people_read() -> None:
    text = kept_headers({f"x-{number}".encode(): b"\xff" * 5000 for number in range(200)})
    assert len(text) < 60 * 7000
