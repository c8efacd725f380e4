"""A service that posts to webhooks, and ways to look at what became of it."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastmcp import FastMCP

from claude_runner.app import App
from claude_runner.runs import Run, RunFilter
from claude_runner.web import build_site
from claude_runner.webhooks import Delivery, Webhook, WebhookDraft
from tests.support import PATIENCE

JSON = {"Content-Type": "application/json"}
SECRET = "it's a secret to everybody"


class Service:
    """What posts to the webhooks of an application."""

    def __init__(self, app: App, http: httpx2.AsyncClient) -> None:
        self.app, self.http = app, http

    async def webhook(self, **decided: Any) -> Webhook:
        draft = WebhookDraft(**{"name": "Items", "prompt_template": "Read {{payload}}.", **decided})
        return await self.app.webhooks.add(draft, self.app.clock.now())

    async def change(self, webhook: Webhook, **changes: Any) -> Webhook:
        return await self.app.webhooks.change(webhook.id, changes, self.app.clock.now())

    async def send(
        self, webhook: Webhook, content: bytes = b"{}", /, *, query: str = "", **headers: str
    ) -> httpx2.Response:
        sent = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(f"/webhook/{webhook.token}{query}", content=content, headers=sent)

    async def taken(self, webhook: Webhook, content: bytes = b"{}", /, **headers: str) -> dict[str, Any]:
        """Send what is taken, and return the answer."""
        answer = await self.send(webhook, content, **headers)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def runs(self, webhook: Webhook) -> list[Run]:
        return (await self.app.runs.list(RunFilter(webhook_id=webhook.id), 100)).runs

    async def deliveries(self, webhook: Webhook) -> list[Delivery]:
        """What is kept of it, newest first."""
        return (await self.app.webhooks.deliveries(webhook.id, 1_000)).deliveries


def signed(content: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()}


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """The status and the code of an answer, whose body has the shape of every refusal."""
    [(name, error)] = answer.json().items()
    assert name == "error"
    assert set(error) == {"code", "message", "field"}
    assert error["message"]
    assert "\n" not in error["message"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    return answer.status_code, error["code"]


@asynccontextmanager
async def posting_to(app: App) -> AsyncIterator[Service]:
    transport = httpx2.ASGITransport(build_site(app, FastMCP("none")))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield Service(app, http)


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()
