"""The reception behind the door: writes that are shared, webhooks that change meanwhile, and deliveries again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from claude_runner.hub import Topic
from claude_runner.reception import DisabledError
from claude_runner.reception._reception import ATTEMPTS
from tests.support import FakeAgent, FakeClock, until
from tests.webhooks import SECRET, Service, posting_to


@pytest.fixture
async def service(app: App) -> AsyncIterator[Service]:
    async with posting_to(app) as service:
        yield service


async def test_a_write_that_fails_for_one_is_made_again_for_each(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await service.webhook()
    taken = (await service.taken(webhook))["run_id"]
    ids = [["a" * 12], [taken, "b" * 12], ["c" * 12], ["d" * 12]]
    monkeypatch.setattr("claude_runner.runs.new_ids", lambda _: ids.pop(0))
    entrance = await service.app.reception.entrance(str(webhook.token))
    receipts = await asyncio.gather(*(service.app.reception.receive(entrance, {}, b"x") for _ in range(3)))
    assert [receipt.run_id for receipt in receipts] == ["a" * 12, "c" * 12, "d" * 12]
    assert len(await service.deliveries(webhook)) == 4


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE webhooks SET enabled = 0", DisabledError),
        (
            "UPDATE webhooks SET token_sha256 = 'x', updated_at = '2026-11-23T10:00:00.000+00:00'",
            NotFoundError,
        ),
        ("DELETE FROM webhooks", NotFoundError),
    ],
)
async def test_what_nobody_told_of_is_seen_before_a_run_is_started(
    service: Service, statement: str, error: type[Exception]
) -> None:
    webhook = await service.webhook()
    entrance = await service.app.reception.entrance(str(webhook.token))
    await service.app.database.write(lambda c: c.execute(statement).fetchall())
    with pytest.raises(error):
        await service.app.reception.receive(entrance, {}, b"x")
    assert await service.runs(webhook) == []


async def test_a_webhook_that_never_is_as_it_was_read_is_given_up(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = await service.webhook()
    times: list[int] = []
    monkeypatch.setattr("claude_runner.webhooks.count", lambda *_: times.append(1))
    entrance = await service.app.reception.entrance(str(webhook.token))
    with pytest.raises(UnavailableError, match="changed all the time"):
        await service.app.reception.receive(entrance, {}, b"x")
    assert len(times) == ATTEMPTS


async def test_the_first_deliveries_of_a_server_are_all_let_in(tmp_path: Path, clock: FakeClock) -> None:
    home = Settings(home=tmp_path)
    async with open_app(home, agent=FakeAgent(), clock=clock) as app, posting_to(app) as service:
        webhook = await service.webhook()
    async with open_app(home, agent=FakeAgent(), clock=clock) as app, posting_to(app) as service:
        answers = await asyncio.gather(*(service.send(webhook) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {202}


async def test_a_delivery_whose_sender_was_cut_off_is_written_and_run(service: Service) -> None:
    webhook = await service.webhook()
    entrance = await service.app.reception.entrance(str(webhook.token))
    post = asyncio.ensure_future(service.app.reception.receive(entrance, {}, b"x"))
    await asyncio.sleep(0)
    post.cancel()

    async def has_ended() -> bool:
        return [run.state.is_final for run in await service.runs(webhook)] == [True]

    await until(has_ended, service.app, Topic.RUNS)


async def test_what_was_taken_before_the_end_is_written(tmp_path: Path, clock: FakeClock) -> None:
    home = Settings(home=tmp_path)
    async with open_app(home, agent=FakeAgent(), clock=clock) as app, posting_to(app) as service:
        webhook = await service.webhook()
        entrance = await app.reception.entrance(str(webhook.token))
        posts = [asyncio.ensure_future(app.reception.receive(entrance, {}, b"x")) for _ in range(5)]
        await asyncio.sleep(0)
    receipts = await asyncio.gather(*posts)
    async with open_app(home, agent=FakeAgent(), clock=clock) as app:
        assert {(await app.runs.get(it.run_id or "")).webhook_id for it in receipts} == {webhook.id}


async def test_what_was_refused_can_be_tried_and_is_not_replayed(service: Service) -> None:
    webhook = await service.webhook()
    await service.send(webhook, b"{")
    [delivery] = await service.deliveries(webhook)
    with pytest.raises(ConflictError, match="was refused"):
        await service.app.reception.replay(delivery.id)
    with pytest.raises(ConflictError, match="can't be read"):
        await service.app.reception.try_out(webhook.id, None, delivery.id, None)


async def test_a_delivery_whose_body_is_gone_is_neither_replayed_nor_tried(service: Service) -> None:
    webhook, other = await service.webhook(), await service.webhook()
    await service.taken(webhook)
    [delivery] = await service.deliveries(webhook)
    reception = service.app.reception
    with pytest.raises(InvalidError, match="came to another webhook"):
        await reception.try_out(other.id, None, delivery.id, None)
    empty = "UPDATE webhook_deliveries SET body = NULL"
    await service.app.database.write(lambda c: c.execute(empty).fetchall())
    with pytest.raises(ConflictError, match="its body is no longer kept"):
        await reception.replay(delivery.id)
    with pytest.raises(ConflictError, match="its body is no longer kept"):
        await reception.try_out(webhook.id, None, delivery.id, None)


async def test_a_webhook_whose_secret_can_not_be_opened_takes_nothing(service: Service) -> None:
    webhook = await service.webhook(signature="github", signing_secret=SECRET)
    (service.app.settings.state / "credentials.key").unlink()
    answer = await service.send(webhook)
    assert answer.status_code == 503
    assert "can't check signatures now" in answer.json()["error"]["message"]
