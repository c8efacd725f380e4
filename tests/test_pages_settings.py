"""The page of settings: what a person sees of the server there, and decides about it."""

import json
import re
import stat
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.db import to_text
from claude_runner.permissions import Profile
from claude_runner.settings import Budgets, FollowUpCaps
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock

CLIENT = "https://client.example/with/a/path?and=query"


class Owner:
    """The owner at the page."""

    def __init__(self, app: App, http: httpx2.AsyncClient) -> None:
        self.app, self.http = app, http

    async def see(self, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.get("/settings", headers=named)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def fields(self) -> dict[str, Any]:
        return fields_of(await self.see())

    async def save(self, *left_out: str, **changes: Any) -> httpx2.Response:
        """Send the form as the page has it, with some changes."""
        fields = {name: value for name, value in (await self.fields()).items() if name not in left_out}
        return await self.http.post("/settings", data=fields | changes)


def fields_of(page: str) -> dict[str, Any]:
    """The fields of the form, as a browser sends them."""
    [form] = re.findall(r'<form[^>]*id="settings".*?</form>', page, re.DOTALL)
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name, value = re.search(r'name="(\w+)"', tag), re.search(r'value="([^"]*)"', tag)
        assert name is not None
        assert value is not None
        if not re.search(r"checkbox|radio", tag) or " checked" in tag:
            fields.setdefault(name[1], []).append(unescape(value[1]))
    return fields


def text_of(page: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    environment = {"HOME": str(tmp_path / "owner"), "IS_SANDBOX": "1"}
    settings = on_free_port(Settings(home=tmp_path, environment=environment))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        looking(app) as http,
    ):
        yield Owner(app, http)


async def let_in(app: App, client_id: str = CLIENT, source: str = "registered") -> None:
    """Add a client with a grant to the database."""
    now = to_text(app.clock.now())
    client = {
        "id": client_id,
        "source": source,
        "now": now,
        "uris": json.dumps(["https://client.example/back"]),
    }
    grant = {"id": f"grant of {client_id}", "client": client_id, "now": now}

    def write(c: Any) -> None:
        c.execute(
            "INSERT INTO oauth_clients (client_id, client_name, source, redirect_uris, created_at)"
            " VALUES (:id, 'A <b>client</b>', :source, :uris, :now)",
            client,
        )
        c.execute(
            "INSERT INTO oauth_grants (id, client_id, subject, scope, issuer, resource, created_at)"
            " VALUES (:id, :client, 'owner', 'mcp', 'http://localhost', 'http://localhost/mcp', :now)",
            grant,
        )
        c.execute(
            "INSERT INTO oauth_refresh_tokens (token_sha256, grant_id, created_at, expires_at)"
            " VALUES (:id, :id, :now, '2099-01-01T00:00:00.000Z')",
            grant,
        )

    await app.database.write(write)


async def test_every_setting_is_saved(owner: Owner) -> None:
    answer = await owner.save(
        "sandbox_mode",
        allowed_tools=["Read", "Grep"],
        permission_profile="rules",
        default_model="sonnet",
        timezone="Europe/Berlin",
        install_dependencies="1",
        webhook_base_url="https://runner.example.com/",
        max_depth="1",
        max_runs="2",
        max_cost_usd="$0.50",
        day_usd="2.5",
        month_usd="",
        run_usd="0.5",
        job_day_usd="1",
        webhook_day_usd="2",
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    after = await owner.app.stored.owned()
    assert after.allowed_tools == ("Read", "Grep")
    assert (after.sandbox_mode, after.permission_profile, after.install_dependencies) == (
        False,
        Profile.RULES,
        True,
    )
    assert (after.default_model, after.timezone) == ("sonnet", "Europe/Berlin")
    assert after.webhook_base_url == "https://runner.example.com"
    assert (after.followups, after.budgets) == (FollowUpCaps(1, 2, 0.5), Budgets(2.5, None, 0.5, 1, 2))
    page = await owner.see()
    assert "Settings saved" in page
    assert "Times in Europe/Berlin" in page


async def test_a_page_that_is_saved_as_it_is_changes_nothing(owner: Owner) -> None:
    stored = owner.app.stored
    await stored.change({"budgets": {"day_usd": 0.1, "month_usd": 1234567.5}, "timezone": "Asia/Tokyo"})
    await stored.change({"followups": {"max_depth": 0, "max_runs": 7, "max_cost_usd": 0.333333}})
    before = await stored.owned()
    assert (await owner.save()).status_code == 303
    assert await stored.owned() == before


async def test_what_is_refused_is_said_at_its_field_and_all_that_was_typed_stays(owner: Owner) -> None:
    before = await owner.app.stored.owned()
    for field, typed, sentence in (
        ("default_model", "no such model!", "is not the name of a model"),
        ("timezone", "Mars/Olympus", "Mars/Olympus"),
        ("webhook_base_url", "javascript:alert(1)", "give a URL such as"),
        ("day_usd", "-1", "is no amount"),
        ("month_usd", "many", "is no amount"),
        ("job_day_usd", "0", "with that nothing could run"),
        ("max_depth", "1.5", "is no whole number"),
        ("max_cost_usd", "x", "is no amount"),
        ("permission_profile", "full", "sandbox_mode"),
        ("allowed_tools", "Rm", "is no built-in tool"),
    ):
        answer = await owner.save(**{field: typed, "max_runs": "9"})
        assert answer.status_code == 422, field
        assert sentence in unescape(answer.text), field
        assert 'class="error"' in answer.text, field
        kept = fields_of(answer.text)
        assert kept["max_runs"] == ["9"]
        assert kept[field] == [typed]
    assert await owner.app.stored.owned() == before


async def test_full_is_plainly_warned_of(owner: Owner) -> None:
    assert "nothing holds a run back" in text_of(await owner.see())
    await owner.save("sandbox_mode", permission_profile="full")
    assert (await owner.app.stored.owned()).permission_profile is Profile.FULL


async def test_that_budgets_stop_nothing_is_said(owner: Owner) -> None:
    said = text_of(await owner.see())
    assert "From 80 % on, the overview warns. Once a budget is used up, runs that go on are stopped" in said
    assert "$0.00 spent today" in said


async def test_two_who_change_different_settings_do_not_meet(owner: Owner) -> None:
    mine = await owner.fields() | {"default_model": "opus"}
    await owner.app.stored.change({"timezone": "Asia/Tokyo"})
    assert (await owner.http.post("/settings", data=mine)).status_code == 303
    after = await owner.app.stored.owned()
    assert (after.default_model, after.timezone) == ("opus", "Asia/Tokyo")


async def test_a_stale_edit_says_what_differs_keeps_what_was_typed_and_may_be_saved_anyway(
    owner: Owner,
) -> None:
    mine = await owner.fields() | {"default_model": "opus", "day_usd": "3"}
    await owner.app.stored.change({"default_model": "haiku", "timezone": "Asia/Tokyo"})
    answer = await owner.http.post("/settings", data=mine)
    assert answer.status_code == 409
    said = text_of(answer.text)
    assert "Somebody else has changed some of this" in said
    assert "Model haiku opus" in said
    assert "Save anyway" in said
    assert (await owner.app.stored.owned()).default_model == "haiku"
    anyway = fields_of(answer.text)
    assert (anyway["default_model"], anyway["timezone"]) == (
        ["opus"],
        ["Asia/Tokyo"],
    )  # not touched: as it is now
    assert (await owner.http.post("/settings", data=anyway)).status_code == 303
    after = await owner.app.stored.owned()
    assert (after.default_model, after.timezone, after.budgets.day_usd) == ("opus", "Asia/Tokyo", 3)


async def test_a_form_that_is_sent_twice_is_saved_once(owner: Owner) -> None:
    mine = await owner.fields() | {"default_model": "opus"}
    answers = [await owner.http.post("/settings", data=mine) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]


async def test_a_forged_form_without_what_was_seen_is_read_all_the_same(owner: Owner) -> None:
    for was in ("", "{", "[]", '{"timezone": 7}', "7" * 10_000):
        answer = await owner.save(was=was, default_model="opus", once="")
        assert answer.status_code in {303, 409}, answer.text


async def test_it_says_how_each_surface_of_claudes_is_connected(owner: Owner) -> None:
    page = unescape(await owner.see())
    assert '"mcpServers"' in page
    assert (
        f"claude mcp add --scope user --transport http claude-runner {owner.app.addresses.local}/mcp" in page
    )
    assert f"Remote MCP server URL: {owner.app.addresses.local}/mcp" in page
    assert page.count("data-copy") == 3


async def test_what_to_do_for_claude_to_be_signed_in_is_said(owner: Owner) -> None:
    page = await owner.see()
    assert 'id="claude"' in page
    said = text_of(page)
    assert "not known yet" in said
    assert "ANTHROPIC_API_KEY" in said
    assert "/login" in said


async def test_a_client_is_shown_and_what_it_holds_is_taken_back(owner: Owner) -> None:
    await let_in(owner.app)
    page = await owner.see()
    assert "A &lt;b&gt;client&lt;/b&gt;" in page
    assert "1 login" in page
    answer = await owner.http.post("/settings/clients/revoke", data={"client_id": CLIENT, "once": "o1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings#clients")
    [client] = await owner.app.auth.clients()
    assert client.grants == 0
    said = text_of(await owner.see())
    assert "1 login is taken back" in said
    assert "Revoke" not in said


async def test_clients_of_a_page_that_a_browser_has_kept_are_told_apart(owner: Owner) -> None:
    for name in ("one", "two"):
        await let_in(owner.app, name)
        await owner.http.post("/settings/clients/revoke", data={"client_id": name, "once": "o1"})
    assert [client.grants for client in await owner.app.auth.clients()] == [0, 0]


async def test_a_client_is_forgotten_but_not_the_servers_own(owner: Owner) -> None:
    await let_in(owner.app)
    await let_in(owner.app, "own", "auto")
    page = await owner.see(X_Live="clients claude")
    assert "<html" not in page
    assert page.count('action="/settings/clients/forget"') == 1
    assert (await owner.http.post("/settings/clients/forget", data={"client_id": CLIENT})).status_code == 303
    assert [client.client_id for client in await owner.app.auth.clients()] == ["own"]
    assert (await owner.http.post("/settings/clients/forget", data={"client_id": "own"})).status_code == 409
    assert (await owner.http.post("/settings/clients/revoke", data={"client_id": "none"})).status_code == 404


async def test_a_backup_is_made_and_where_it_is_is_told(owner: Owner, tmp_path: Path) -> None:
    answers = [await owner.http.post("/settings/backup", data={"once": "o1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    [copy] = (tmp_path / "backups").iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    owner.http.cookies.update(answers[0].cookies)
    assert f"The copy is {copy}" in text_of(await owner.see())


async def test_it_says_how_the_server_is(owner: Owner) -> None:
    said = text_of(await owner.see())
    assert "Database ok" in said
    assert "Scheduler ok" in said
    assert "Leads this process" in said
