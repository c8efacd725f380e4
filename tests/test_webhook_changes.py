"""What the owner changes counts for the next delivery, in whichever process of the home it was changed."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.hub import Change, Topic
from claude_runner.webhooks import Signature, Webhook, WebhookDraft
from tests.support import PATIENCE, FakeAgent, FakeClock
from tests.webhooks import SECRET, Service, posting_to, refusal


@pytest.fixture
async def service(app: App) -> AsyncIterator[Service]:
    async with posting_to(app) as service:
        yield service


@pytest.fixture(params=["here", "in another process"])
async def owner(service: Service, request: pytest.FixtureRequest) -> AsyncIterator[App]:
    """Where the owner changes webhooks: in the process that takes deliveries, or in another of the home."""
    if request.param == "here":
        yield service.app
        return
    async with open_app(
        Settings(home=service.app.settings.home), agent=FakeAgent(), clock=FakeClock()
    ) as other:
        yield other


async def noticed(service: Service, changing: Coroutine[Any, Any, Webhook]) -> Webhook:
    """Change a webhook and wait until the process that takes deliveries has heard of it; return it as it is now."""
    with service.app.hub.subscribe(Topic.WEBHOOKS) as changes:
        webhook = await changing
        async with asyncio.timeout(PATIENCE):
            while Change(Topic.WEBHOOKS, webhook.id) not in changes.take():
                await changes.changed.wait()
    return webhook


async def test_a_disabled_webhook_takes_nothing_from_then_on(service: Service, owner: App) -> None:
    webhook = await service.webhook()
    await service.taken(webhook)
    await owner.webhooks.disable(webhook.id, owner.clock.now())
    assert refusal(await service.send(webhook)) == (403, "disabled")
    await noticed(service, owner.webhooks.change(webhook.id, {"enabled": True}, owner.clock.now()))
    await service.taken(webhook)


async def test_a_deleted_webhook_is_gone_from_then_on(service: Service, owner: App) -> None:
    webhook = await service.webhook()
    await service.taken(webhook)
    await owner.webhooks.remove(webhook.id)
    assert refusal(await service.send(webhook)) == (404, "not_found")


async def test_an_old_token_lets_nothing_in_from_then_on(service: Service, owner: App) -> None:
    webhook = await service.webhook()
    await service.taken(webhook)
    rotated = await noticed(service, owner.webhooks.rotate(webhook.id, owner.clock.now()))
    assert refusal(await service.send(webhook)) == (404, "not_found")
    await service.taken(rotated)
    newest = await owner.webhooks.rotate(webhook.id, owner.clock.now())
    assert refusal(await service.send(rotated)) == (404, "not_found")
    assert newest.token not in {webhook.token, rotated.token}


async def test_what_is_changed_counts_from_then_on(service: Service, owner: App) -> None:
    webhook = await service.webhook(prompt_template="old")
    await service.taken(webhook)
    await owner.webhooks.change(
        webhook.id, {"prompt_template": "new", "filter": "payload.a"}, owner.clock.now()
    )
    assert (await service.taken(webhook, b"{}"))["state"] == "filtered"
    answer = await service.taken(webhook, b'{"a": 1}')
    assert (await service.app.runs.get(answer["run_id"])).prompt == "new"
    signing = {"signature": Signature.GITLAB, "signing_secret": SECRET}
    await owner.webhooks.change(webhook.id, signing, owner.clock.now())
    assert refusal(await service.send(webhook, b'{"a": 1}')) == (401, "bad_signature")
    await service.taken(webhook, X_Gitlab_Token=SECRET)


async def test_a_new_webhook_takes_what_comes(service: Service, owner: App) -> None:
    assert (
        await service.http.post("/webhook/unknown")
    ).status_code == 404  # all that there are have been read
    draft = WebhookDraft("New", "go")
    await service.taken(await noticed(service, owner.webhooks.add(draft, owner.clock.now())))


async def test_changes_while_deliveries_come_lose_none_that_was_taken(service: Service) -> None:
    webhook = await service.webhook(max_per_minute=1_000)

    async def change() -> None:
        for number in range(10):
            await service.change(webhook, description=str(number))

    posts = [service.send(webhook, b"%d" % number) for number in range(60)]
    *answers, _ = await asyncio.gather(*posts, change())
    taken = [it.json()["run_id"] for it in answers if it is not None and it.status_code == 202]
    for answer in answers:
        if answer is not None and answer.status_code != 202:
            assert refusal(answer) == (503, "unavailable")
            assert answer.headers["Retry-After"].isdigit()
    assert len(set(taken)) == len(taken)
    assert {run.id for run in await service.runs(webhook)} == set(taken)
    assert (await service.app.webhooks.get(webhook.id)).trigger_count == len(taken)
    await service.taken(webhook)
