"""What is kept of a delivery, and what is not."""

import json
from collections.abc import AsyncIterator

import pytest

from claude_runner.app import App
from claude_runner.webhooks import Signature, Verdict
from tests.webhooks import Service, posting_to


@pytest.fixture
async def service(app: App) -> AsyncIterator[Service]:
    async with posting_to(app) as service:
        yield service


async def test_a_delivery_is_kept_as_it_came_but_for_what_lets_somebody_in(service: Service) -> None:
    webhook = await service.webhook()
    secrets = {
        "Authorization": "Bearer k1-open-sesame",
        "Proxy-Authorization": "k2-open-sesame",
        "Cookie": "k3-open-sesame",
        "X-Gitlab-Token": "k4-open-sesame",
        "X-Hub-Signature-256": "k5-open-sesame",
        "Stripe-Signature": "k6-open-sesame",
        "X-Api-Key": "k7-open-sesame",
        "X-Shopify-Hmac-Sha256": "k8-open-sesame",
        "X-Password": "k9-open-sesame",
    }
    content = b'{"a":  "\xc3\xbc"}'
    answer = await service.taken(webhook, content, **secrets, X_GitHub_Event="issues")
    [delivery] = await service.deliveries(webhook)
    assert (delivery.verdict, delivery.run_id, delivery.body) == (Verdict.ACCEPTED, answer["run_id"], content)
    assert delivery.received_at == service.app.clock.now()
    assert (delivery.headers["x-github-event"], delivery.headers["content-type"]) == (
        "issues",
        "application/json",
    )
    assert {delivery.headers[name.lower()] for name in secrets} == {"[not kept]"}
    assert "open-sesame" not in str(delivery.headers)
    assert "open-sesame" not in (await service.app.runs.get(answer["run_id"])).prompt


async def test_the_token_is_kept_neither_in_a_proxys_header_nor_in_the_body(service: Service) -> None:
    webhook = await service.webhook()
    assert webhook.token is not None
    path = f"/webhook/{webhook.token}"
    await service.taken(webhook, json.dumps({"at": path}).encode(), X_Original_URI=path, Referer=path)
    [delivery] = await service.deliveries(webhook)
    assert webhook.token not in str(delivery)
    assert delivery.headers["referer"] == "/webhook/[not kept]"


async def test_so_much_of_the_headers_is_kept(service: Service) -> None:
    webhook = await service.webhook()
    await service.taken(webhook, **{f"X-{number}": "v" * 5_000 for number in range(200)})
    [delivery] = await service.deliveries(webhook)
    assert len(json.dumps(dict(delivery.headers))) < 100_000


async def test_a_known_secret_is_kept_neither_in_the_body_nor_in_the_prompt(service: Service) -> None:
    app = service.app
    await app.credentials.set("weather", "API_KEY", "wq8-credential-71", app.clock.now())
    await app.secrecy.refresh()
    webhook = await service.webhook()
    answer = await service.taken(webhook, b'{"a": "wq8-credential-71"}', X_Echo="wq8-credential-71")
    [delivery] = await service.deliveries(webhook)
    assert "wq8-credential-71" not in f"{delivery}{(await app.runs.get(answer['run_id'])).prompt}"


async def test_tokens_and_secrets_are_nowhere_in_the_database_in_clear(service: Service) -> None:
    webhook = await service.webhook(signature=Signature.GITLAB, signing_secret="gl-secret-of-the-test")
    await service.taken(webhook, X_Gitlab_Token="gl-secret-of-the-test")
    await service.send(webhook, X_Gitlab_Token="another")
    await service.change(webhook, signing_secret="gl-another-of-the-test")
    await service.send(webhook, b"{oops", X_Gitlab_Token="gl-another-of-the-test")
    rotated = await service.app.webhooks.rotate(webhook.id, service.app.clock.now())
    await service.taken(rotated, X_Gitlab_Token="gl-another-of-the-test")
    files = list(service.app.settings.database_path.parent.glob("jobs.db*"))
    assert len(files) == 3  # with the log of what is not in it yet, and its index
    written = b"".join(path.read_bytes() for path in files)
    assert rotated.id.encode() in written
    assert rotated.token_sha256.encode() in written
    for secret in (webhook.token, rotated.token, "gl-secret-of-the-test", "gl-another-of-the-test"):
        assert secret is not None
        assert secret.encode() not in written
