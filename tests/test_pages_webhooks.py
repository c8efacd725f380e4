"""The pages of webhooks: what a person sees of them and does with them in a browser."""

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.errors import NotFoundError
from claude_runner.permissions import Profile
from claude_runner.runs import RunFilter
from claude_runner.web.dashboard._deliveries import LONGEST_SHOWN
from claude_runner.webhooks import Signature, Verdict, Webhook
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock
from tests.webhooks import SECRET, Service, signed

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31mred \u202egnp.exe "></textarea></select>'
)
# What the form of a new webhook has where nobody has typed anything into it.
TYPED = {
    "name": "Issues",
    "description": "",
    "prompt_template": "Read {{payload.issue.title}}.",
    "profile": "default",
    "commands": "",
    "model": "",
    "timeout_minutes": "30",
    "signature": "none",
    "signing_secret": "",
    "filter": "",
    "plain_fields": "",
    "max_per_minute": "60",
    "max_wait_seconds": "0",
    "enabled": "1",
    "delivery": "",
    "payload": "{}",
}


class Visitor(Service):
    """A person at the pages, and a service that posts."""

    @property
    def clock(self) -> FakeClock:
        assert isinstance(self.app.clock, FakeClock)
        return self.app.clock

    async def see(self, path: str, status: int = 200, **headers: str) -> str:
        answer = await self.http.get(path, headers={n.replace("_", "-"): v for n, v in headers.items()})
        assert answer.status_code == status, answer.text
        return answer.text

    async def post(self, path: str, **fields: Any) -> httpx2.Response:
        return await self.http.post(path, data=fields)

    async def make(self, **changes: Any) -> Webhook:
        """Make a webhook with the form."""
        answer = await self.post("/webhooks/new", **{**TYPED, **changes})
        assert answer.status_code == 303, answer.text
        return await self.app.webhooks.get(answer.headers["location"].removeprefix("/webhooks/"))

    async def edited(self, webhook: Webhook, **changes: Any) -> httpx2.Response:
        """Send the form of a webhook as its page has it, with some changes."""
        page = await self.see(f"/webhooks/{webhook.id}/edit")
        fields = fields_of(page) | changes
        return await self.http.post(f"/webhooks/{webhook.id}/edit", data=fields)


def fields_of(page: str) -> dict[str, Any]:
    """The fields of the page's form of a webhook, as a browser sends them."""
    [form] = re.findall(r'<form[^>]*id="webhook".*?</form>', page, re.DOTALL)
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name, value = re.search(r'name="(\w+)"', tag), re.search(r'value="([^"]*)"', tag)
        assert name is not None
        if "checkbox" not in tag or " checked" in tag:
            given = unescape(value[1]) if value else ""
            fields.setdefault(name[1], []).append(given)
    for name, text in re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\n?(.*?)</textarea>', form, re.DOTALL):
        fields[name] = unescape(text)
    for name, options in re.findall(r'<select[^>]*name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        [chosen, *_] = re.findall(r'<option value="([^"]*)" selected', options) or re.findall(
            r'value="(.*?)"', options
        )
        fields[name] = chosen
    return fields


def text_of(page: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture
async def visitor(tmp_path: Path) -> AsyncIterator[Visitor]:
    settings = on_free_port(Settings(home=tmp_path))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        looking(app) as http,
    ):
        yield Visitor(app, http)


async def test_where_there_is_none_the_page_says_what_they_are_for(visitor: Visitor) -> None:
    page = await visitor.see("/webhooks")
    assert "No webhook yet" in page
    assert 'href="/webhooks/new"' in page
    assert "curl -X POST" in page


async def test_the_list_tells_how_each_is_doing(visitor: Visitor) -> None:
    webhook = await visitor.webhook(
        name="Issues", signature=Signature.GITHUB, signing_secret=SECRET, description="Of the shop"
    )
    await visitor.webhook(name="Old form", enabled=False)
    await visitor.taken(webhook, b"{}", **signed(b"{}"))
    visitor.clock.move(1)
    await visitor.send(webhook, b"{}", X_Hub_Signature_256="sha256=0")
    said = text_of(await visitor.see("/webhooks"))
    assert "Issues Of the shop enabled Disable github 1 now bad signature 1" in said
    assert "Old form disabled Enable none 0 never 0" in said


async def test_a_webhook_that_was_edited_by_hand_is_not_hidden(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    broken = "UPDATE webhooks SET tools = '7' WHERE id = :id"
    await visitor.app.database.write(lambda c: c.execute(broken, {"id": webhook.id}).rowcount)
    assert f"Webhook {webhook.id} was edited by hand" in await visitor.see("/webhooks")


async def test_webhooks_are_found_by_their_names(visitor: Visitor) -> None:
    for number in range(7):
        await visitor.webhook(name=f"Hook {number}", description="of seven")
    page = await visitor.see("/webhooks?q=HOOK+3")
    assert "Hook 3" in page
    assert "Hook 4" not in page
    assert "No webhook is called that" in await visitor.see("/webhooks?q=nothing")


async def test_one_click_disables_and_enables_and_leads_back(visitor: Visitor) -> None:
    webhook = await visitor.webhook(name="Issues")
    answer = await visitor.post(f"/webhooks/{webhook.id}/disable?back=/webhooks")
    assert (answer.status_code, answer.headers["location"]) == (303, "/webhooks")
    assert not (await visitor.app.webhooks.get(webhook.id)).enabled
    page = await visitor.see("/webhooks")
    assert "Issues takes no more deliveries" in page
    assert f'action="/webhooks/{webhook.id}/enable?back=%2Fwebhooks"' in page  # the undo beside what is said
    answer = await visitor.post(f"/webhooks/{webhook.id}/enable")
    assert answer.headers["location"] == f"/webhooks/{webhook.id}"
    assert (await visitor.app.webhooks.get(webhook.id)).enabled


async def test_a_webhook_is_made_with_every_field_of_the_form(visitor: Visitor) -> None:
    webhook = await visitor.make(
        description="Of the shop",
        tools=["Read", "WebFetch"],
        profile="rules",
        commands="git status\r\n npm test \r\n",
        model="sonnet",
        timeout_minutes="5",
        signature="github",
        signing_secret=SECRET,
        filter='payload.action == "opened"',
        plain_fields="action, payload.number",
        max_per_minute="7",
        max_wait_seconds="30",
    )
    assert (webhook.name, webhook.description, webhook.prompt_template) == (
        "Issues",
        "Of the shop",
        "Read {{payload.issue.title}}.",
    )
    assert (webhook.tools, webhook.profile, webhook.commands) == (
        ("Read", "WebFetch"),
        Profile.RULES,
        ("git status", "npm test"),
    )
    assert (webhook.model, webhook.timeout_minutes) == ("sonnet", 5)
    assert (webhook.signature, webhook.signing_secret) == (Signature.GITHUB, SECRET)
    assert (webhook.filter, webhook.plain_fields) == (
        'payload.action == "opened"',
        ("payload.action", "payload.number"),
    )
    assert (webhook.max_per_minute, webhook.max_wait_seconds, webhook.enabled) == (7, 30, True)


async def test_a_webhook_whose_box_is_not_ticked_takes_nothing_yet(visitor: Visitor) -> None:
    answer = await visitor.post("/webhooks/new", **{k: v for k, v in TYPED.items() if k != "enabled"})
    webhook = await visitor.app.webhooks.get(answer.headers["location"].removeprefix("/webhooks/"))
    assert not webhook.enabled


async def test_the_new_webhooks_page_gives_its_address_and_a_command_that_works(visitor: Visitor) -> None:
    webhook = await visitor.make()
    page = await visitor.see(f"/webhooks/{webhook.id}")
    assert "Webhook made" in page
    url = f"http://localhost:{visitor.app.settings.port}/webhook/{webhook.token}"
    assert f"<code>{url}</code>" in page
    [command] = re.findall(r"<code>(curl .*?)</code>", page, re.DOTALL)
    body = re.search(r"-d '(.*)'", unescape(command))
    assert body is not None
    answer = await visitor.http.post(
        url, content=body[1].encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 202
    assert json.loads(body[1]) == {"issue": {"title": "example"}}


async def test_the_command_of_a_signed_webhook_signs_and_does_not_tell_the_secret(visitor: Visitor) -> None:
    webhook = await visitor.make(signature="github", signing_secret=SECRET)
    page = await visitor.see(f"/webhooks/{webhook.id}")
    assert "openssl dgst -sha256 -hmac" in page
    assert unescape(page).count(SECRET) == 0
    stripe = await visitor.make(signature="stripe", signing_secret=SECRET)
    assert "have the service send a test delivery" in await visitor.see(f"/webhooks/{stripe.id}")


async def test_a_form_that_is_sent_twice_makes_one_webhook(visitor: Visitor) -> None:
    answers = [await visitor.post("/webhooks/new", **TYPED, once="o1") for _ in range(2)]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(await visitor.app.webhooks.list()) == 1


REFUSED = {
    "prompt_template": ("{{oops", "can't be filled in"),
    "filter": ("payload.a = 1", "a filter is like"),
    "timeout_minutes": ("soon", "'soon' is no whole number"),
    "max_per_minute": ("0", "give 1 to 1,000,000"),
    "max_wait_seconds": ("301", "give 0 to 300"),
    "signature": ("github", "needs a signing_secret"),
    "plain_fields": ("payload..a", "two dots"),
    "commands": ("rm -rf /; ls", "is not the beginning of one plain command"),
    "model": ("no such model!", "is not the name of a model"),
    "profile": ("full", "sandbox_mode"),
    "tools": ("Grep", "not among the allowed tools"),
    "name": (" ", "name is 1 to"),
}


async def test_what_is_refused_is_said_at_its_field_and_all_that_was_typed_stays(visitor: Visitor) -> None:
    for field, (typed, sentence) in REFUSED.items():
        answer = await visitor.post("/webhooks/new", **TYPED | {"description": "Kept <b>", field: typed})
        assert answer.status_code == 422
        assert sentence in unescape(answer.text), field
        at = "signing_secret" if field == "signature" else field
        assert f'<p class="error" id="h-{at}">' in answer.text
        kept = fields_of(answer.text)
        assert kept["description"] == ["Kept <b>"]
        assert kept[field] in (typed, [typed])
    assert await visitor.app.webhooks.list() == []


async def test_a_choice_that_there_is_not_is_refused(visitor: Visitor) -> None:
    answer = await visitor.post("/webhooks/new", **TYPED | {"signature": "hmac"})
    assert answer.status_code == 422
    assert "'hmac' is not one of none, github" in unescape(answer.text)


async def test_a_secret_that_was_typed_is_asked_for_again_and_never_sent_back(visitor: Visitor) -> None:
    answer = await visitor.post(
        "/webhooks/new", **TYPED | {"signature": "github", "signing_secret": SECRET, "filter": "(("}
    )
    assert answer.status_code == 422
    assert "Type it again" in answer.text
    assert SECRET not in unescape(answer.text)


async def test_a_form_that_is_saved_as_it_is_changes_nothing(visitor: Visitor) -> None:
    webhook = await visitor.make(
        tools=["Read"],
        signature="github",
        signing_secret=SECRET,
        filter="payload.a",
        plain_fields="payload.a",
        description='"quoted" <b>',
        prompt_template="\nFirst line empty {{payload}}\n",
    )
    answer = await visitor.edited(webhook)
    assert answer.status_code == 303, answer.text
    after = await visitor.app.webhooks.get(webhook.id)
    decided = {name: getattr(webhook, name) for name in TYPED if name not in {"delivery", "payload"}}
    assert {name: getattr(after, name) for name in decided} == decided


async def test_an_empty_secret_keeps_the_one_there_is_and_none_takes_it_away(visitor: Visitor) -> None:
    webhook = await visitor.make(signature="github", signing_secret=SECRET)
    await visitor.edited(webhook, name="Renamed")
    after = await visitor.app.webhooks.get(webhook.id)
    assert (after.name, after.signing_secret) == ("Renamed", SECRET)
    await visitor.edited(webhook, signature="none")
    after = await visitor.app.webhooks.get(webhook.id)
    assert (after.signature, after.signing_secret) == (None, None)


async def test_a_stale_edit_says_what_differs_keeps_what_was_typed_and_may_be_saved_anyway(
    visitor: Visitor,
) -> None:
    webhook = await visitor.make()
    mine = fields_of(await visitor.see(f"/webhooks/{webhook.id}/edit")) | {"name": "My name"}
    visitor.clock.move(60)
    await visitor.change(webhook, name="Their name", filter="payload.a")
    answer = await visitor.http.post(f"/webhooks/{webhook.id}/edit", data=mine)
    assert answer.status_code == 409
    said = text_of(answer.text)
    assert "Somebody else has changed this webhook" in said
    assert "Name Their name My name" in said
    assert "Filter payload.a (nothing)" in said
    assert (await visitor.app.webhooks.get(webhook.id)).name == "Their name"
    anyway = fields_of(answer.text)
    assert anyway["name"] == ["My name"]
    assert (await visitor.http.post(f"/webhooks/{webhook.id}/edit", data=anyway)).status_code == 303
    after = await visitor.app.webhooks.get(webhook.id)
    assert (after.name, after.filter) == ("My name", None)


async def test_an_edit_of_a_webhook_that_is_gone_keeps_what_was_typed(visitor: Visitor) -> None:
    webhook = await visitor.make()
    mine = fields_of(await visitor.see(f"/webhooks/{webhook.id}/edit")) | {"name": "My name"}
    await visitor.app.remove_webhook(webhook.id)
    answer = await visitor.http.post(f"/webhooks/{webhook.id}/edit", data=mine)
    assert answer.status_code == 404
    assert "saving it makes a new one" in answer.text
    kept = fields_of(answer.text) | {"enabled": "1"}
    assert (await visitor.http.post("/webhooks/new", data=kept)).status_code == 303
    assert [it.name for it in await visitor.app.webhooks.list()] == ["My name"]


async def test_a_new_address_ends_the_old_one_and_is_asked_about_before(visitor: Visitor) -> None:
    webhook = await visitor.make()
    page = await visitor.see(f"/webhooks/{webhook.id}")
    assert re.search(r"<details>\s*<summary>Give it a new address…</summary>", page)
    await visitor.post(f"/webhooks/{webhook.id}/rotate", once="o1")
    await visitor.post(f"/webhooks/{webhook.id}/rotate", once="o1")  # the second click
    assert (await visitor.send(webhook)).status_code == 404
    after = await visitor.app.webhooks.get(webhook.id)
    assert after.token != webhook.token
    await visitor.taken(after)


async def test_a_deleted_webhook_is_gone_with_its_deliveries_and_its_runs_stay(visitor: Visitor) -> None:
    webhook = await visitor.make()
    await visitor.taken(webhook)
    answer = await visitor.post(f"/webhooks/{webhook.id}/delete", once="o1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/webhooks")
    with pytest.raises(NotFoundError):
        await visitor.app.webhooks.get(webhook.id)
    assert len(await visitor.runs(webhook)) == 1
    await visitor.see(f"/webhooks/{webhook.id}", 404)


async def test_deliveries_are_listed_with_their_verdicts_a_page_at_a_time(visitor: Visitor) -> None:
    webhook = await visitor.webhook(filter="payload.a")
    for number in range(22):
        await visitor.taken(webhook, json.dumps({"a": number + 1}).encode())
        visitor.clock.move(1)
    await visitor.taken(webhook, b'{"a": null}')
    await visitor.send(webhook, b"{oops")
    page = await visitor.see(f"/webhooks/{webhook.id}")
    assert page.count("data-id=") == 20
    said = text_of(page)
    assert "malformed the body is not JSON" in said
    assert 'filtered {"a": null}' in said
    assert f'href="/runs/{(await visitor.runs(webhook))[0].id}"' in page
    [older] = re.findall(r'rel="next" href="([^"]+)"', page)
    after = await visitor.see(unescape(older))
    assert after.count("data-id=") == 4
    assert "Newest" in after
    refused = await visitor.see(f"/webhooks/{webhook.id}?show=refused")
    assert refused.count("data-id=") == 1
    assert "None was refused" in await visitor.see(f"/webhooks/{(await visitor.webhook()).id}?show=refused")
    await visitor.see(f"/webhooks/{webhook.id}?cursor=nonsense", 422)


async def test_an_open_page_can_ask_for_its_parts_alone(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    await visitor.taken(webhook)
    part = await visitor.see(f"/webhooks/{webhook.id}", X_Live="deliveries top")
    assert "<html" not in part
    assert "accepted" in part
    assert 'id="top"' in part
    assert 'id="hooks"' in await visitor.see("/webhooks", X_Live="hooks")
    [delivery] = await visitor.deliveries(webhook)
    assert 'id="fate"' in await visitor.see(f"/webhooks/{webhook.id}/deliveries/{delivery.id}", X_Live="fate")


async def test_a_delivery_is_shown_whole_and_without_secrets(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    answer = await visitor.taken(webhook, b'{"a":{"b":[1,2]}}', X_Api_Key="open-sesame", X_Event="opened")
    [delivery] = await visitor.deliveries(webhook)
    page = await visitor.see(f"/webhooks/{webhook.id}/deliveries/{delivery.id}")
    assert unescape(page).count('{\n  "a": {\n    "b": [\n      1,\n      2\n    ]\n  }\n}') == 1
    assert f'href="/runs/{answer["run_id"]}"' in page
    assert "open-sesame" not in page
    assert "x-api-key secret, so not kept" in text_of(page)
    assert "x-event opened" in text_of(page)
    body = await visitor.http.get(f"/webhooks/{webhook.id}/deliveries/{delivery.id}/body")
    assert body.content == b'{"a":{"b":[1,2]}}'
    assert body.headers["content-disposition"].startswith("attachment")
    assert body.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_hostile_body_is_shown_and_does_nothing(visitor: Visitor, kind: str) -> None:
    webhook = await visitor.webhook()
    content = json.dumps({"a": HOSTILE}, ensure_ascii=False) if kind == "application/json" else HOSTILE
    await visitor.send(webhook, content.encode(), Content_Type=kind, X_Header="<script>alert(2)</script>")
    [delivery] = await visitor.deliveries(webhook)
    for path in (
        f"/webhooks/{webhook.id}",
        f"/webhooks/{webhook.id}/deliveries/{delivery.id}",
        f"/webhooks/{webhook.id}/edit?delivery={delivery.id}",
        "/webhooks",
    ):
        page = await visitor.see(path)
        assert "<script>" not in page
        assert "<img" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
    shown = unescape(await visitor.see(f"/webhooks/{webhook.id}/deliveries/{delivery.id}"))
    assert "<script>alert(1)</script>" in shown or kind.endswith("urlencoded")


async def test_of_a_large_body_the_beginning_is_shown(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    await visitor.taken(webhook, json.dumps({"a": "x" * 1_000_000}).encode())
    [delivery] = await visitor.deliveries(webhook)
    page = await visitor.see(f"/webhooks/{webhook.id}/deliveries/{delivery.id}")
    assert len(page) < LONGEST_SHOWN + 10_000
    assert "more characters are not shown" in page
    assert len(await visitor.see(f"/webhooks/{webhook.id}")) < 20_000
    assert len(await visitor.see(f"/webhooks/{webhook.id}/edit?delivery={delivery.id}")) < 40_000


async def test_a_delivery_is_replayed_once_for_each_click_and_leads_to_its_run(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    await visitor.taken(webhook, b'{"a": 1}')
    [delivery] = await visitor.deliveries(webhook)
    path = f"/webhooks/{webhook.id}/deliveries/{delivery.id}/replay"
    assert f'action="{path}"' in await visitor.see(f"/webhooks/{webhook.id}")
    visitor.clock.move(1)
    answers = [await visitor.post(path, once="o1") for _ in range(2)]
    [again, first] = (await visitor.app.runs.list(RunFilter(webhook_id=webhook.id), 10)).runs
    assert [answer.headers["location"] for answer in answers] == [f"/runs/{again.id}"] * 2
    assert again.prompt != ""
    assert again.id != first.id
    [replay, _] = await visitor.deliveries(webhook)
    assert replay.replay_of == delivery.id
    assert f"/deliveries/{delivery.id}" in await visitor.see(f"/webhooks/{webhook.id}/deliveries/{replay.id}")


async def test_a_refused_delivery_has_no_button_and_can_be_tried(visitor: Visitor) -> None:
    webhook = await visitor.webhook(enabled=False)
    await visitor.send(webhook, b'{"a": "what came"}')
    [delivery] = await visitor.deliveries(webhook)
    assert delivery.verdict is Verdict.DISABLED
    path = f"/webhooks/{webhook.id}/deliveries/{delivery.id}"
    page = await visitor.see(path)
    assert "/replay" not in page
    assert "It was refused, so it is not run" in page
    assert (await visitor.post(f"{path}/replay")).status_code == 409
    assert "what came" in await visitor.see(f"/webhooks/{webhook.id}/edit?delivery={delivery.id}")


async def test_a_delivery_belongs_to_its_webhook(visitor: Visitor) -> None:
    webhook, other = await visitor.webhook(), await visitor.webhook()
    await visitor.taken(webhook)
    [delivery] = await visitor.deliveries(webhook)
    for path in ("", "/body"):
        await visitor.see(f"/webhooks/{other.id}/deliveries/{delivery.id}{path}", 404)
    assert (await visitor.post(f"/webhooks/{other.id}/deliveries/{delivery.id}/replay")).status_code == 404
    await visitor.see(f"/webhooks/{webhook.id}/deliveries/nothing", 404)


async def tried(visitor: Visitor, path: str = "/webhooks/new/try", **fields: Any) -> str:
    """What an open page is shown as one types."""
    answer = await visitor.http.post(path, data=TYPED | fields, headers={"X-Live": "preview"})
    assert answer.status_code == 200, answer.text
    assert "<html" not in answer.text
    return str(answer.text)


async def test_the_prompt_is_shown_with_what_is_missing_and_what_is_there_by_default(
    visitor: Visitor,
) -> None:
    shown = await tried(
        visitor,
        prompt_template='A {{payload.a}} B {{payload.b}} C {{payload.c | "none"}} D {{payload.d}}',
        plain_fields="d",
        payload='{"a": "from outside", "d": "plain"}',
    )
    assert '<mark class="bad">(payload.b is missing)</mark>' in shown
    assert '<mark class="warn">none</mark>' in shown
    assert "<mark>plain</mark>" in shown
    assert re.search(r"<mark>&lt;payload-\w+ path=&#34;payload.a&#34;&gt;from outside&lt;", shown)
    said = text_of(shown)
    assert "starts a run 1 missing 1 by default" in said
    assert "Not in the body: payload.b" in said
    assert "By default: payload.c" in said


async def test_the_filters_verdict_is_told_as_it_is_typed(visitor: Visitor) -> None:
    assert "starts a run" in await tried(visitor, filter="payload.a", payload='{"a": 1}')
    assert "starts no run" in await tried(visitor, filter="payload.a", payload='{"b": 1}')
    unread = unescape(await tried(visitor, filter="payload.a ==", payload="{}"))
    assert "the filter can" in unread
    assert "a filter is like" in unread
    assert "(payload.issue.title is missing)" in unread  # the prompt is shown all the same


async def test_what_cannot_be_tried_is_said(visitor: Visitor) -> None:
    for fields, sentence in (
        ({"payload": "{oops"}, "the body is not JSON"),
        ({"prompt_template": "{{oops"}, "can't be filled in"),
        ({"plain_fields": "payload..a"}, "two dots"),
        ({"payload": "a text"}, "(payload.issue.title is missing)"),
        ({"payload": "[" * 200}, "the body"),
    ):
        assert sentence in unescape(await tried(visitor, **fields))


async def test_a_prompt_is_tried_with_a_delivery_and_nothing_comes_of_it(visitor: Visitor) -> None:
    webhook = await visitor.webhook(prompt_template="Read {{payload.a}}.")
    await visitor.taken(webhook, b'{"a": "the first"}')
    visitor.clock.move(1)
    await visitor.taken(webhook, b'{"a": "the last"}')
    before = await visitor.deliveries(webhook)
    assert "the last" in await visitor.see(f"/webhooks/{webhook.id}/edit")
    path = f"/webhooks/{webhook.id}/try"
    assert "the first" in await tried(visitor, path, delivery=before[1].id, prompt_template="{{payload.a}}")
    assert "no longer" not in await tried(visitor, path, delivery="")
    assert "there is no delivery" in unescape(await tried(visitor, path, delivery="gone"))
    assert await visitor.deliveries(webhook) == before
    assert len(await visitor.runs(webhook)) == 2
    assert (await visitor.app.webhooks.get(webhook.id)).prompt_template == "Read {{payload.a}}."


async def test_without_script_the_button_shows_the_page_with_all_that_was_typed(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    typed = TYPED | {"name": "Typed", "payload": '{"issue": {"title": "Pasted"}}', "signing_secret": SECRET}
    for path in ("/webhooks/new/try", f"/webhooks/{webhook.id}/try"):
        answer = await visitor.http.post(path, data=typed)
        assert answer.status_code == 200
        assert "<html" in answer.text
        kept = fields_of(answer.text)
        assert (kept["name"], kept["payload"]) == (["Typed"], '{"issue": {"title": "Pasted"}}')
        assert "Pasted&lt;/payload-" in answer.text
        assert SECRET not in unescape(answer.text)
    assert (await visitor.app.webhooks.get(webhook.id)).name == "Items"


async def test_a_webhook_whose_key_is_lost_says_what_to_do(visitor: Visitor) -> None:
    webhook = await visitor.webhook()
    spoil = "UPDATE webhooks SET secret_token = 'v1.AAAA' WHERE id = :id"
    await visitor.app.database.write(lambda c: c.execute(spoil, {"id": webhook.id}).rowcount)
    page = await visitor.see(f"/webhooks/{webhook.id}")
    assert "No key on this machine opens its address" in page
    assert "sealed" in await visitor.see("/webhooks")
    await visitor.post(f"/webhooks/{webhook.id}/rotate")
    await visitor.taken(await visitor.app.webhooks.get(webhook.id))


async def test_unknown_webhooks_have_no_pages(visitor: Visitor) -> None:
    for path in ("", "/edit", "?show=refused"):
        await visitor.see(f"/webhooks/nothing{path}", 404)
    for action in ("edit", "try", "enable", "disable", "rotate", "delete"):
        assert (await visitor.post(f"/webhooks/nothing/{action}", **TYPED)).status_code == 404


async def test_the_tools_a_webhook_has_are_ticked_and_stay(visitor: Visitor) -> None:
    webhook = await visitor.make(tools=["Read", "mcp__runner__*"])
    assert fields_of(await visitor.see(f"/webhooks/{webhook.id}/edit"))["tools"] == list(webhook.tools)


async def test_the_pages_are_small(visitor: Visitor) -> None:
    for path in ("/webhooks", "/webhooks/new"):
        answer = await visitor.http.get(path, headers={"Accept-Encoding": "gzip"})
        assert int(answer.headers["content-length"]) < 6_000
