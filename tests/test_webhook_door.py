"""The door of webhooks: what services that post to it are answered, and what becomes of what they have posted."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import State, Trigger
from claude_runner.webhooks import REFUSALS, Signature, Verdict
from tests.support import PATIENCE, FakeAgent, FakeClock, ended
from tests.webhooks import JSON, SECRET, Service, posting_to, refusal, signed

ACCEPTED, FILTERED = Verdict.ACCEPTED, Verdict.FILTERED


@pytest.fixture
async def service(app: App) -> AsyncIterator[Service]:
    async with posting_to(app) as service:
        yield service


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """What tests share that start nothing and change nothing but by a webhook more."""
    home = tmp_path_factory.mktemp("still")
    async with (
        open_app(Settings(home=home), agent=FakeAgent(), clock=FakeClock()) as app,
        posting_to(app) as service,
    ):
        yield service


# What is taken


async def test_what_is_posted_is_run_as_the_webhook_says(service: Service, agent: FakeAgent) -> None:
    webhook = await service.webhook(tools=("Read", "WebSearch"), model="sonnet", timeout_minutes=5)
    answer = await service.send(webhook, b'{"title": "On fire"}')
    assert (answer.status_code, answer.headers["Content-Type"]) == (202, "application/json")
    assert answer.json() == {"run_id": answer.json()["run_id"], "state": "pending"}
    run = await ended(service.app, answer.json()["run_id"])
    assert (run.state, run.trigger, run.webhook_id) == (State.FINISHED, Trigger.WEBHOOK, webhook.id)
    assert (run.tools, run.model, run.timeout_minutes) == (("Read", "WebSearch"), "sonnet", 5)
    [order] = agent.orders
    assert order.prompt == run.prompt
    assert '>{"title": "On fire"}</payload-' in run.prompt


async def test_each_run_has_a_folder_of_its_own_and_is_told_which_webhook_started_it(
    service: Service, agent: FakeAgent
) -> None:
    webhook = await service.webhook(name="Printers")
    for _ in range(2):
        await ended(service.app, (await service.taken(webhook))["run_id"])
    one, other = agent.orders
    assert one.folder != other.folder
    for order in (one, other):
        assert order.folder.parent == service.app.settings.playground
        assert order.folder.stat().st_mode & 0o777 == 0o700
        assert "the webhook 'Printers'" in order.instructions
        assert str(order.folder) in order.instructions


async def test_runs_that_it_started_are_counted(service: Service, clock: FakeClock) -> None:
    webhook = await service.webhook(filter="payload.wanted")
    await service.taken(webhook, b'{"wanted": 1}')
    clock.move(60)
    await service.taken(webhook, b'{"wanted": 1}')
    at = clock.now()
    clock.move(60)
    await service.taken(webhook, b"{}")
    now = await service.app.webhooks.get(webhook.id)
    assert (now.trigger_count, now.last_triggered_at) == (2, at)


async def test_what_the_filter_does_not_want_is_kept_and_not_run(service: Service) -> None:
    webhook = await service.webhook(filter='payload.action == "opened"')
    assert await service.taken(webhook, b'{"action": "closed"}') == {"run_id": None, "state": "filtered"}
    assert (await service.taken(webhook, b'{"action": "opened"}'))["run_id"]
    wanted, unwanted = await service.deliveries(webhook)
    assert {wanted.verdict, unwanted.verdict} == {ACCEPTED, FILTERED}
    assert len(await service.runs(webhook)) == 1


async def test_a_form_with_a_payload_is_read_as_github_and_slack_send_it(service: Service) -> None:
    webhook = await service.webhook(prompt_template="{{payload.action}}", plain_fields=("payload.action",))
    form = "application/x-www-form-urlencoded"
    answer = await service.taken(webhook, b"payload=%7B%22action%22%3A%22opened%22%7D", Content_Type=form)
    assert (await service.app.runs.get(answer["run_id"])).prompt == "opened"


async def test_the_largest_body_is_taken(service: Service) -> None:
    webhook = await service.webhook(prompt_template="{{payload.a}}")
    content = b'{"a": "' + b"x" * (2**20 - 9) + b'"}'
    assert len(content) == 2**20
    await service.taken(webhook, content)


# What is refused


async def test_a_body_that_is_no_payload_is_refused_and_starts_nothing(service: Service) -> None:
    webhook = await service.webhook()
    assert refusal(await service.send(webhook, b"{oops")) == (400, "malformed")
    assert refusal(await service.send(webhook, b"\xff")) == (400, "malformed")
    assert refusal(await service.send(webhook, b"x", Content_Type="image/png")) == (415, "unreadable_type")
    assert refusal(await service.send(webhook, b"{}", Content_Encoding="gzip")) == (415, "unreadable_type")
    assert await service.runs(webhook) == []
    assert [it.verdict for it in await service.deliveries(webhook)] == [Verdict.MALFORMED] * 4


async def test_what_is_not_signed_is_refused_and_starts_nothing(service: Service) -> None:
    webhook = await service.webhook(signature=Signature.GITHUB, signing_secret=SECRET)
    assert refusal(await service.send(webhook)) == (401, "bad_signature")
    assert refusal(await service.send(webhook, b"{} ", **signed(b"{}"))) == (401, "bad_signature")
    assert await service.runs(webhook) == []
    assert [it.verdict for it in await service.deliveries(webhook)] == [Verdict.BAD_SIGNATURE] * 2
    await service.taken(webhook, b"{}", **signed(b"{}"))


async def test_a_disabled_webhook_takes_nothing(service: Service) -> None:
    webhook = await service.webhook(enabled=False)
    assert refusal(await service.send(webhook)) == (403, "disabled")
    assert await service.runs(webhook) == []
    assert [it.verdict for it in await service.deliveries(webhook)] == [Verdict.DISABLED]


async def test_who_can_not_sign_does_not_learn_that_it_is_disabled(service: Service) -> None:
    webhook = await service.webhook(signature=Signature.GITHUB, signing_secret=SECRET, enabled=False)
    assert refusal(await service.send(webhook)) == (401, "bad_signature")
    assert refusal(await service.send(webhook, b"{}", **signed(b"{}"))) == (403, "disabled")


@pytest.mark.parametrize(
    "path", ["", "unknown", "{}/", "{}/x", "/{}", "x{}", "{}%00", "%F0%9F%94%A5", "{}?", "a" * 3_000]
)
async def test_at_any_other_address_there_is_nothing(still: Service, path: str) -> None:
    webhook = await still.webhook()
    unlike = path.format(webhook.token).replace("?", "%3F")
    answer = await still.http.post(f"/webhook/{unlike}", content=b"{}", headers=JSON)
    assert refusal(answer) == (404, "not_found")
    assert webhook.id not in answer.text
    assert await still.deliveries(webhook) == []


@pytest.mark.parametrize("of", ["its hash", "its id", "its token in capitals"])
async def test_what_is_written_of_a_token_opens_nothing(still: Service, of: str) -> None:
    webhook = await still.webhook()
    assert webhook.token is not None
    given = {"its hash": webhook.token_sha256, "its id": webhook.id}.get(of, webhook.token.swapcase())
    assert refusal(await still.http.post(f"/webhook/{given}", content=b"{}")) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_a_webhook_is_posted_to(still: Service, method: str) -> None:
    webhook = await still.webhook()
    answer = await still.http.request(method, f"/webhook/{webhook.token}")
    unknown = await still.http.request(method, "/webhook/unknown")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert (unknown.status_code, unknown.content) == (405, answer.content)
    if method != "HEAD":
        assert refusal(answer) == (405, "method")


async def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    webhook = await service.webhook()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b"x" * 2**16

    assert refusal(await service.send(webhook, b"x" * (2**20 + 1))) == (413, "too_large")
    answer = await service.http.post(f"/webhook/{webhook.token}", content=pieces(), headers=JSON)
    assert refusal(answer) == (413, "too_large")
    assert await service.deliveries(webhook) == []


async def test_a_body_that_does_not_come_is_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await service.webhook()
    monkeypatch.setattr("claude_runner.web._webhook.SLOWEST_SECONDS", 0.05)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with asyncio.timeout(PATIENCE):
        answer = await service.http.post(f"/webhook/{webhook.token}", content=pieces(), headers=JSON)
    assert refusal(answer) == (408, "too_slow")
    assert await service.deliveries(webhook) == []


@pytest.mark.parametrize("wait", ["soon", "-1", "1.5", "1e3", "+1", "٣", "9" * 10, "0x1"])
async def test_a_wait_that_is_no_number_is_refused(still: Service, wait: str) -> None:
    webhook = await still.webhook(max_wait_seconds=10)
    answer = await still.send(webhook, query=f"?wait={wait}")
    assert refusal(answer) == (422, "invalid")
    assert answer.json()["error"]["field"] == "wait"
    assert await still.runs(webhook) == []


async def test_a_webhook_whose_secret_can_not_be_opened_takes_nothing_and_others_do(tmp_path: Path) -> None:
    agent, clock = FakeAgent(), FakeClock()
    async with open_app(Settings(home=tmp_path), agent=agent, clock=clock) as app, posting_to(app) as service:
        guarded = await service.webhook(signature=Signature.GITLAB, signing_secret=SECRET)
        plain = await service.webhook()
        [key] = [
            path for path in app.settings.state.iterdir() if "key" in path.name and "oauth" not in path.name
        ]
        key.unlink()
    async with open_app(Settings(home=tmp_path), agent=agent, clock=clock) as app, posting_to(app) as service:
        answer = await service.send(guarded, X_Gitlab_Token=SECRET)
        assert refusal(answer) == (503, "unavailable")
        assert answer.headers["Retry-After"].isdigit()
        await service.taken(plain)
        assert await service.runs(guarded) == []


# Too many


async def test_no_more_is_taken_than_the_webhook_may_in_a_minute(service: Service, clock: FakeClock) -> None:
    webhook, other = await service.webhook(max_per_minute=3), await service.webhook(max_per_minute=3)
    for _ in range(3):
        await service.taken(webhook)
    answer = await service.send(webhook)
    assert refusal(answer) == (429, "too_many")
    assert answer.headers["Retry-After"] == "20"
    await service.taken(other)
    clock.move(18.5)
    assert (await service.send(webhook)).headers["Retry-After"] == "2"
    clock.move(1.5)
    await service.taken(webhook)
    assert refusal(await service.send(webhook)) == (429, "too_many")
    assert len(await service.runs(webhook)) == 4
    assert len(await service.deliveries(webhook)) == 4
    assert service.app.reception.turned_away(webhook.id) == 3


async def test_a_minute_of_silence_gives_no_more_than_a_minutes_worth(
    service: Service, clock: FakeClock
) -> None:
    webhook = await service.webhook(max_per_minute=3)
    await service.taken(webhook)
    clock.move(3_600)
    statuses = [(await service.send(webhook)).status_code for _ in range(5)]
    assert statuses == [202, 202, 202, 429, 429]


async def test_who_can_not_sign_takes_nothing_from_those_who_can(service: Service) -> None:
    webhook = await service.webhook(max_per_minute=5, signature=Signature.GITHUB, signing_secret=SECRET)
    statuses = [(await service.send(webhook)).status_code for _ in range(20)]
    assert set(statuses) == {401, 429}
    for _ in range(5):
        await service.taken(webhook, b"{}", **signed(b"{}"))


async def test_a_change_gives_no_second_allowance(service: Service) -> None:
    webhook = await service.webhook(max_per_minute=2)
    await service.taken(webhook)
    await service.change(webhook, name="Others")
    await service.taken(webhook)
    assert refusal(await service.send(webhook)) == (429, "too_many")
    await service.change(webhook, max_per_minute=10)
    await service.taken(webhook)


async def test_of_what_is_refused_a_bounded_number_is_kept_and_the_newest_of_them(
    service: Service, clock: FakeClock
) -> None:
    webhook = await service.webhook(max_per_minute=1_000_000, filter="payload.wanted")
    run_id = (await service.taken(webhook, b'{"wanted": 1}'))["run_id"]
    await service.taken(webhook)
    for number in range(3 * REFUSALS + 5):
        clock.move(0.001)
        await service.send(webhook, b"{oops %d" % number)
    kept = await service.deliveries(webhook)
    refused = [it for it in kept if it.verdict is Verdict.MALFORMED]
    assert REFUSALS <= len(refused) <= 2 * REFUSALS
    assert refused[0].body == b"{oops %d" % (3 * REFUSALS + 4)
    assert {it.run_id for it in kept if it.verdict is ACCEPTED} == {run_id}
    assert len([it for it in kept if it.verdict is FILTERED]) == 1


async def test_of_a_refused_body_the_beginning_is_kept(service: Service) -> None:
    webhook = await service.webhook()
    await service.send(webhook, b"{" + b"x" * 500_000)
    [delivery] = await service.deliveries(webhook)
    assert delivery.body is not None
    assert delivery.body.startswith(b"{xxx")
    assert len(delivery.body) < 50_000
    assert delivery.reason


# The same delivery again


@pytest.mark.parametrize(
    "header", ["Idempotency-Key", "X-GitHub-Delivery", "webhook-id", "X-Shopify-Webhook-Id"]
)
async def test_the_same_delivery_is_answered_with_the_same_run(service: Service, header: str) -> None:
    webhook = await service.webhook()
    first = await service.taken(webhook, **{header: "one"})
    assert "duplicate" not in first
    await ended(service.app, first["run_id"])
    again = await service.taken(webhook, b'{"changed": 1}', **{header: "one"})
    assert again == {"run_id": first["run_id"], "state": "finished", "duplicate": True}
    other = await service.taken(webhook, **{header: "two"})
    assert other["run_id"] != first["run_id"]
    assert len(await service.runs(webhook)) == len(await service.deliveries(webhook)) == 2


@pytest.mark.parametrize(
    "header", ["Idempotency-Key", "X-GitHub-Delivery", "webhook-id", "X-Shopify-Webhook-Id"]
)
async def test_the_same_delivery_many_times_at_once_starts_one_run(service: Service, header: str) -> None:
    webhook, other = await service.webhook(), await service.webhook(name="Others")
    posts = [service.taken(it, **{header: "one"}) for _ in range(20) for it in (webhook, other)]
    answers = await asyncio.gather(*posts)
    assert len({answer["run_id"] for answer in answers}) == 2
    assert sum("duplicate" not in answer for answer in answers) == 2
    for it in (webhook, other):
        assert len(await service.runs(it)) == len(await service.deliveries(it)) == 1
        assert (await service.app.webhooks.get(it.id)).trigger_count == 1


async def test_many_deliveries_at_once_start_a_run_each(service: Service) -> None:
    webhook = await service.webhook(filter="payload.wanted")
    posts = [service.taken(webhook, b'{"wanted": %s}' % (b"true", b"false")[n % 2]) for n in range(40)]
    answers = await asyncio.gather(*posts)
    run_ids = [answer["run_id"] for answer in answers]
    assert [run_id is None for run_id in run_ids] == [False, True] * 20
    assert {run.id for run in await service.runs(webhook)} == set(run_ids[::2])
    assert len(set(run_ids[::2])) == 20


async def test_what_was_refused_or_not_wanted_is_taken_when_it_comes_again(service: Service) -> None:
    webhook = await service.webhook(filter="payload.wanted")
    assert (await service.send(webhook, b"{oops", Idempotency_Key="one")).status_code == 400
    assert (await service.taken(webhook, b"{}", Idempotency_Key="one"))["state"] == "filtered"
    await service.change(webhook, filter=None)
    taken = await service.taken(webhook, b"{}", Idempotency_Key="one")
    assert taken["run_id"] is not None
    assert "duplicate" not in taken


async def test_a_signed_id_goes_before_one_that_anybody_can_change(
    service: Service, clock: FakeClock
) -> None:
    webhook = await service.webhook(signature=Signature.STRIPE, signing_secret=SECRET)
    at, content = str(int(clock.now().timestamp())), b'{"id": "evt_1"}'
    digest = hmac.new(SECRET.encode(), at.encode() + b"." + content, hashlib.sha256).hexdigest()
    answers = [
        await service.taken(webhook, content, Stripe_Signature=f"t={at},v1={digest}", Idempotency_Key=key)
        for key in ("one", "two")
    ]
    assert answers[0]["run_id"] == answers[1]["run_id"]


async def test_what_is_replayed_is_run_again_and_its_key_is_still_its_own(service: Service) -> None:
    webhook = await service.webhook()
    first = await service.taken(webhook, Idempotency_Key="one")
    [delivery] = await service.deliveries(webhook)
    replayed = await service.app.reception.replay(delivery.id)
    assert replayed.run_id not in {None, first["run_id"]}
    assert (await service.taken(webhook, Idempotency_Key="one"))["run_id"] == first["run_id"]
