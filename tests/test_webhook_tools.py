"""Webhooks through the tools, and what comes of posting to the address that they tell."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import State
from claude_runner.tools import build_mcp
from claude_runner.web import build_site
from tests.support import FakeAgent, FakeClock, content, ended, settings_in

WORK_ITEM = {"resource": {"fields": {"System.Title": "Printer on fire", "System.Id": 7}}, "action": "created"}
TEMPLATE = 'A new item: {{payload.resource.fields.System.Title}}. By {{payload.author | "nobody"}}.'


class Clients:
    """Claude, who calls tools, and a service that posts."""

    def __init__(self, app: App, mcp: Client[Any], http: httpx2.AsyncClient) -> None:
        self.app, self.mcp, self.http = app, mcp, http

    async def call(self, tool: str, **arguments: Any) -> Mapping[str, Any]:
        return content(await self.mcp.call_tool(tool, arguments))

    async def create(self, **changes: Any) -> Mapping[str, Any]:
        given = {"name": "Items", "prompt_template": TEMPLATE, "tools": ["Read"]} | changes
        return await self.call("create_webhook", **given)

    async def post(self, url: str, payload: object = WORK_ITEM, **headers: str) -> httpx2.Response:
        return await self.http.post(
            url, content=json.dumps(payload), headers={"Content-Type": "application/json"} | headers
        )


@pytest.fixture
async def clients(app: App) -> AsyncIterator[Clients]:
    mcp = await build_mcp(app)
    transport = httpx2.ASGITransport(build_site(app, mcp))
    async with Client(mcp) as client, httpx2.AsyncClient(transport=transport) as http:
        yield Clients(app, client, http)


async def refused(clients: Clients, tool: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as error:
        await clients.mcp.call_tool(tool, arguments)
    return str(error.value)


async def test_what_is_posted_to_the_address_told_starts_the_prompt(clients: Clients) -> None:
    webhook = await clients.create()
    answer = await clients.post(webhook["url"])
    assert answer.status_code == 202
    run = await ended(clients.app, answer.json()["run_id"])
    assert run.state is State.FINISHED
    assert run.webhook_id == webhook["id"]
    assert "Printer on fire</payload-" in run.prompt
    assert run.prompt.endswith("By nobody.")
    assert run.tools == ("Read",)
    shown = await clients.call("get_webhook", webhook_id=webhook["id"])
    assert (shown["trigger_count"], shown["last_triggered_at"]) == (1, clients.app.clock.now().isoformat())


async def test_the_address_begins_as_every_address_that_leaves_the_machine(
    tmp_path: Path, clock: FakeClock
) -> None:
    settings = settings_in(tmp_path, public_url="https://runner.example.org")
    async with (
        open_app(settings, agent=FakeAgent(), clock=clock) as app,
        Client(await build_mcp(app)) as client,
    ):
        made = content(await client.call_tool("create_webhook", {"name": "n", "prompt_template": "hello"}))
        listed = content(await client.call_tool("list_webhooks"))
    assert made["url"].startswith("https://runner.example.org/webhook/")
    assert [webhook["url"] for webhook in listed["webhooks"]] == [made["url"]]
    assert listed["total"] == 1


async def test_the_curl_line_posts_every_field_of_the_template(clients: Clients) -> None:
    webhook = await clients.create(
        prompt_template="{{payload.a.b}} {{payload.items.1.name}} {{payload.items.0}} {{payload.a}}"
    )
    line: str = webhook["curl"]
    assert line.startswith(f"curl -X POST {webhook['url']} -H 'Content-Type: application/json' -d '")
    payload = json.loads(line.rpartition("-d ")[2].strip("'"))
    trial = await clients.call("test_webhook", webhook_id=webhook["id"], payload=payload)
    assert trial["missing"] == []


async def test_the_curl_line_of_a_signed_webhook_signs(clients: Clients) -> None:
    webhook = await clients.create(signature="github", signing_secret="It's a Secret to Everybody")
    assert (await clients.post(webhook["url"])).status_code == 401
    body = webhook["curl"].partition("BODY='")[2].partition("'; curl")[0]
    digest = hmac.new(b"It's a Secret to Everybody", body.encode(), hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}
    assert (await clients.http.post(webhook["url"], content=body, headers=headers)).status_code == 202
    command = webhook["curl"].partition("sha256=$(")[2].partition(')"')[0]
    process = await asyncio.create_subprocess_shell(
        f"BODY='{body}'; {command}",
        stdout=asyncio.subprocess.PIPE,
        env={"SECRET": "It's a Secret to Everybody", "PATH": "/usr/bin:/bin"},
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == digest


async def test_what_its_runs_may_cost_is_bounded_and_0_takes_a_bound_away(clients: Clients) -> None:
    webhook = await clients.create(max_cost_usd=0.5, max_cost_per_day_usd=2)
    assert (webhook["max_cost_usd"], webhook["max_cost_per_day_usd"]) == (0.5, 2)
    changed = await clients.call("update_webhook", webhook_id=webhook["id"], max_cost_per_day_usd=0)
    assert (changed["max_cost_usd"], changed["max_cost_per_day_usd"]) == (0.5, None)
    assert "all of a day 0.1" in await refused(
        clients, "update_webhook", webhook_id=webhook["id"], max_cost_per_day_usd=0.1
    )


async def test_a_secret_is_never_shown(clients: Clients) -> None:
    webhook = await clients.create(signature="slack", signing_secret="8f742231b10e8888abcd99yyyzzz85a5")
    for answer in (webhook, await clients.call("get_webhook", webhook_id=webhook["id"])):
        assert "8f742231b10e8888abcd99yyyzzz85a5" not in json.dumps(dict(answer))
    assert webhook["signature"] == "slack"
    assert webhook["curl"] is None


async def test_a_trial_runs_nothing_and_names_what_is_missing(clients: Clients) -> None:
    webhook = await clients.create(filter='payload.action == "created"')
    trial = await clients.call("test_webhook", webhook_id=webhook["id"], payload={"action": "closed"})
    assert trial["would_run"] is False
    assert trial["missing"] == ["payload.resource.fields.System.Title"]
    assert trial["defaulted"] == ["payload.author"]
    trial = await clients.call(
        "test_webhook", webhook_id=webhook["id"], payload=WORK_ITEM, prompt_template="{{payload.action}}"
    )
    assert trial["would_run"] is True
    assert ">created</payload-" in trial["prompt"]
    assert (await clients.call("list_runs"))["total"] == 0


async def test_a_delivery_is_listed_tried_against_another_template_and_replayed(clients: Clients) -> None:
    webhook = await clients.create()
    first = (await clients.post(webhook["url"], Authorization="Bearer s3cret")).json()["run_id"]
    [delivery] = (await clients.call("list_webhook_deliveries", webhook_id=webhook["id"]))["deliveries"]
    assert (delivery["verdict"], delivery["run_id"]) == ("accepted", first)
    assert json.loads(delivery["body"]) == WORK_ITEM
    assert "s3cret" not in json.dumps(delivery)
    trial = await clients.call(
        "test_webhook",
        webhook_id=webhook["id"],
        delivery_id=delivery["id"],
        prompt_template="id {{payload.resource.fields.System.Id}}",
    )
    assert ">7</payload-" in trial["prompt"]
    replayed = await clients.call("replay_webhook_delivery", delivery_id=delivery["id"])
    assert replayed["webhook_id"] == webhook["id"]
    assert replayed["run_id"] not in {None, first}
    runs = await clients.call("list_runs", webhook_id=webhook["id"])
    assert {run["id"] for run in runs["runs"]} == {first, replayed["run_id"]}


async def test_deliveries_come_in_pages(clients: Clients, clock: FakeClock) -> None:
    webhook = await clients.create()
    for number in range(5):
        await clients.post(webhook["url"], {"n": number})
        clock.move(1)
    first = await clients.call("list_webhook_deliveries", webhook_id=webhook["id"], limit=3)
    rest = await clients.call(
        "list_webhook_deliveries", webhook_id=webhook["id"], limit=3, cursor=first["next_cursor"]
    )
    numbers = [json.loads(it["body"])["n"] for it in (*first["deliveries"], *rest["deliveries"])]
    assert numbers == [4, 3, 2, 1, 0]
    assert rest["next_cursor"] is None


async def test_what_is_left_out_of_a_change_stays(clients: Clients) -> None:
    webhook = await clients.create(filter="payload.a", description="d", max_per_minute=5)
    changed = await clients.call(
        "update_webhook", webhook_id=webhook["id"], name="Others", filter="", enabled=False
    )
    assert (changed["name"], changed["filter"], changed["enabled"]) == ("Others", None, False)
    assert (changed["description"], changed["max_per_minute"], changed["tools"]) == ("d", 5, ["Read"])
    assert changed["url"] == webhook["url"]
    assert (await clients.post(webhook["url"])).status_code == 403


async def test_what_its_runs_may_do_is_changed_as_a_jobs(clients: Clients) -> None:
    webhook = await clients.create()
    changed = await clients.call(
        "update_webhook",
        webhook_id=webhook["id"],
        tools=["WebSearch"],
        profile="rules",
        commands=["git status"],
        model="sonnet",
    )
    assert (changed["tools"], changed["profile"], changed["model"]) == (["WebSearch"], "rules", "sonnet")
    assert "commands has no effect" in changed["tool_warnings"][0]
    changed = await clients.call(
        "update_webhook", webhook_id=webhook["id"], tools=[], profile="default", model=""
    )
    assert (changed["tools"], changed["profile_is_default"], changed["model"]) == ([], True, None)
    said = await refused(clients, "update_webhook", webhook_id=webhook["id"], tools=["Bash(ls)"])
    assert "is a permission rule" in said


async def test_a_rotated_token_lets_nothing_in_by_the_old_address(clients: Clients) -> None:
    webhook = await clients.create()
    rotated = await clients.call("update_webhook", webhook_id=webhook["id"], rotate_token=True)
    assert rotated["url"] != webhook["url"]
    assert (await clients.post(webhook["url"])).status_code == 404
    assert (await clients.post(rotated["url"])).status_code == 202


async def test_signatures_can_be_asked_for_later_and_given_up(clients: Clients) -> None:
    webhook = await clients.create()
    assert "needs a signing_secret" in await refused(
        clients, "update_webhook", webhook_id=webhook["id"], signature="gitlab"
    )
    signed = await clients.call(
        "update_webhook", webhook_id=webhook["id"], signature="gitlab", signing_secret="token of gitlab"
    )
    assert '-H "X-Gitlab-Token: $SECRET"' in signed["curl"]
    assert (await clients.post(webhook["url"])).status_code == 401
    assert (await clients.post(webhook["url"], **{"X-Gitlab-Token": "token of gitlab"})).status_code == 202
    await clients.call("update_webhook", webhook_id=webhook["id"], signature="none")
    assert (await clients.post(webhook["url"])).status_code == 202


async def test_a_deleted_webhook_is_gone_and_its_runs_stay(clients: Clients) -> None:
    webhook = await clients.create()
    run_id = (await clients.post(webhook["url"])).json()["run_id"]
    await ended(clients.app, run_id)
    deleted = await clients.call("delete_webhook", webhook_id=webhook["id"])
    assert deleted == {"deleted": True, "id": webhook["id"]}
    assert (await clients.post(webhook["url"])).status_code == 404
    assert (await clients.call("get_run", run_id=run_id))["state"] == "finished"
    assert "list_webhooks shows them all" in await refused(clients, "get_webhook", webhook_id=webhook["id"])


async def test_deleting_ends_the_runs_that_are_going_on(tmp_path: Path, clock: FakeClock) -> None:
    agent = FakeAgent(FakeAgent.wait_for_stop)
    async with open_app(Settings(home=tmp_path), agent=agent, clock=clock) as app:
        mcp = await build_mcp(app)
        async with (
            Client(mcp) as client,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(build_site(app, mcp))) as http,
        ):
            clients = Clients(app, client, http)
            webhook = await clients.create()
            run_ids = [(await clients.post(webhook["url"])).json()["run_id"] for _ in range(3)]
            await clients.call("delete_webhook", webhook_id=webhook["id"])
            states = {(await app.runs.get(run_id)).state for run_id in run_ids}
    assert states == {State.CANCELLED}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": " "}, "a webhook's name is 1 to 200 characters"),
        ({"prompt_template": "{{payload.a"}, "can't be filled in"),
        ({"prompt_template": "{{item.a}}"}, "can't be filled in"),
        ({"filter": "payload.a =="}, "filter"),
        ({"signing_secret": "x" * 20}, "a signing_secret needs a signature"),
        ({"signature": "github"}, "needs a signing_secret"),
        ({"signature": "bitbucket"}, 'signature is "bitbucket"; it must be none'),
        ({"max_per_minute": 0}, "max_per_minute is 0; it must be a whole number from 1 to 1000000"),
        ({"plain_fields": ["a..b"]}, "a..b"),
        ({"plain_fields": "payload"}, "plain_fields is a text that is not JSON"),
        ({"tools": ["Bash(ls)"]}, "is a permission rule"),
        ({"max_wait_seconds": 301}, "it must be a whole number from 0 to 300"),
    ],
)
async def test_what_cannot_be_kept_is_refused_in_a_sentence(
    clients: Clients, given: dict[str, Any], sentence: str
) -> None:
    said = await refused(clients, "create_webhook", **{"name": "n", "prompt_template": "p"} | given)
    assert sentence in said
    assert "\n" not in said
    assert (await clients.call("list_webhooks"))["total"] == 0
