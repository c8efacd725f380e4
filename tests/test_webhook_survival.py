"""What the real server has taken is there after it was killed, and what is secret is in none of its lines and files."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.webhooks import Signature, Webhook, WebhookDraft
from tests.served import Served, served
from tests.support import PATIENCE, FakeAgent

POSTERS: Final = 8
ENOUGH: Final = 150  # answers after which the server is killed
SIGNED: Final = "gl-secret-of-the-test"


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[App]:
    """The owner's process, which leads the home: whatever the server takes is executed here, by nobody."""
    async with open_app(
        Settings(home=tmp_path, shutdown_grace_seconds=0.2), agent=FakeAgent(FakeAgent.wait_for_stop)
    ) as app:
        yield app


async def webhook(app: App, **decided: Any) -> Webhook:
    draft = WebhookDraft(
        **{"name": "Items", "prompt_template": "Read {{payload}}.", "max_per_minute": 1_000_000, **decided}
    )
    return await app.webhooks.add(draft, app.clock.now())


def rows(app: App, statement: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(app.settings.database_path)) as connection:
        return connection.execute(statement, values).fetchall()


class Service:
    """What posts to the server all the time, and what it was answered.

    Attributes:
        answered: The run of each delivery that was taken, by the delivery's id.
        sent: The ids of all deliveries.
    """

    def __init__(self, site: Served, webhook: Webhook) -> None:
        self.url = f"{site.origin}/webhook/{webhook.token}"
        self.answered: dict[str, str] = {}
        self.sent: list[str] = []
        self.enough = asyncio.Event()

    async def post(self, http: httpx2.AsyncClient, delivery: str) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery}
        answer = await http.post(self.url, content=json.dumps({"n": delivery}), headers=headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def go_on(self) -> None:
        """Post until the server is gone."""
        async with httpx2.AsyncClient() as http:
            while True:
                delivery = f"delivery {len(self.sent)}"
                self.sent.append(delivery)
                try:
                    self.answered[delivery] = (await self.post(http, delivery))["run_id"]
                except httpx2.TransportError:
                    return
                if len(self.answered) >= ENOUGH:
                    self.enough.set()


async def test_what_was_answered_is_there_once_when_the_server_is_killed_under_load(owner: App) -> None:
    taking = await webhook(owner)
    with served(owner.settings.home) as site:
        service = Service(site, taking)
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as posters:
            for _ in range(POSTERS):
                posters.create_task(service.go_on())
            await service.enough.wait()
            site.process.kill()
    assert len(service.answered) >= ENOUGH
    kept = dict(rows(owner, "SELECT delivery_key, run_id FROM webhook_deliveries"))
    assert kept.items() >= service.answered.items()
    assert kept.keys() <= set(service.sent)
    run_ids = [run_id for (run_id,) in rows(owner, "SELECT id FROM runs WHERE webhook_id = ?", taking.id)]
    assert sorted(run_ids) == sorted(kept.values())
    assert len(rows(owner, "SELECT id FROM webhook_deliveries")) == len(kept)
    assert (await owner.webhooks.get(taking.id)).trigger_count == len(kept)
    # Whoever has no answer sends it again, and so may who has one.
    with served(owner.settings.home) as site:
        again = Service(site, taking)
        async with asyncio.timeout(PATIENCE), httpx2.AsyncClient() as http:
            answers = {it: await again.post(http, it) for it in service.sent[:5] + service.sent[-POSTERS:]}
    for delivery, answer in answers.items():
        if delivery in kept:
            assert (answer["run_id"], answer["duplicate"]) == (kept[delivery], True)
    total = len(kept) + sum(delivery not in kept for delivery in answers)
    assert rows(owner, "SELECT count(*) FROM runs WHERE webhook_id = ?", taking.id) == [(total,)]


async def test_the_run_of_a_single_answer_is_there_when_the_server_is_killed_at_once(owner: App) -> None:
    taking = await webhook(owner)
    with served(owner.settings.home) as site:
        async with httpx2.AsyncClient() as http:
            answer = await Service(site, taking).post(http, "one")
            site.process.kill()
    run = await owner.runs.get(answer["run_id"])
    assert run.webhook_id == taking.id
    assert '{"n": "one"}</payload-' in run.prompt


async def test_tokens_and_secrets_are_in_no_log_and_in_no_file_in_clear(owner: App) -> None:
    plain = await webhook(owner)
    guarded = await webhook(owner, signature=Signature.GITLAB, signing_secret=SIGNED)
    disabled = await webhook(owner, enabled=False)
    tokens = [token for it in (plain, guarded, disabled) if (token := it.token) is not None]
    with served(owner.settings.home, LOG_LEVEL="DEBUG") as site:
        async with httpx2.AsyncClient() as http:
            statuses = []
            for token in (*tokens, f"{plain.token}/", f"{plain.token}%00"):
                url = f"{site.origin}/webhook/{token}"
                for method, content in (
                    ("POST", b"{}"),
                    ("POST", b"{oops"),
                    ("GET", b""),
                    ("POST", b"x" * 2**21),
                ):
                    headers = {"X-Gitlab-Token": SIGNED, "Content-Type": "application/json"}
                    answer = await http.request(method, url, content=content, headers=headers)
                    assert token not in answer.text
                    statuses.append(answer.status_code)
            written = {path: path.read_bytes() for path in site.home.rglob("*") if path.is_file()}
        code, said = await asyncio.to_thread(site.stop)
    assert code == 0
    assert set(statuses) == {202, 400, 403, 404, 405, 413}
    assert {path.name for path in written} >= {"jobs.db", "jobs.db-wal"}
    for secret in (*tokens, SIGNED):
        assert secret not in said
        assert [path for path, content in written.items() if secret.encode() in content] == []
