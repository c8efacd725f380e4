"""Endpoints about webhooks and what was posted to them."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError
from claude_runner.views.decisions import ChosenSignature, decided
from claude_runner.views.deletions import Deleted
from claude_runner.views.webhooks import (
    DeliveryList,
    DeliveryView,
    Replayed,
    WebhookList,
    WebhookTrial,
    WebhookView,
    delivery_list,
    delivery_view,
    trial_view,
    webhook_list,
    webhook_view,
)
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._seen import Seen, tag_of
from claude_runner.web.api._types import Commands, Cursor, Enabled, Minutes, Model, Profile, Tools
from claude_runner.webhooks import MAX_WAIT_SECONDS, WebhookDraft

PageSize = Annotated[int, Field(ge=1, le=100, description="How many at the most.")]
Template = Annotated[str, Field(description="The prompt, with `{{payload.a.b}}` where values are to stand.")]
SigningSecret = Annotated[
    str | None,
    Field(
        description="What sender and webhook share; it is sealed and never shown.",
        json_schema_extra={"format": "password", "writeOnly": True},
    ),
]


class _Optional(TypedDict, total=False):
    description: Annotated[str, Field(description="What it is for.")]
    tools: Tools
    profile: Profile
    commands: Commands
    model: Model
    timeout_minutes: Minutes
    signature: Annotated[
        ChosenSignature | None, Field(description="How the sender signs; `none` or null: not at all.")
    ]
    signing_secret: SigningSecret
    filter: Annotated[
        str | None,
        Field(description='Run only if this holds, such as `payload.action == "opened"`; null takes all.'),
    ]
    plain_fields: Annotated[
        list[str] | None, Field(description="Fields whose values stand in the prompt without marks.")
    ]
    max_per_minute: Annotated[
        int, Field(ge=1, le=1_000_000, strict=True, description="How many deliveries are taken in a minute.")
    ]
    max_wait_seconds: Annotated[
        int,
        Field(
            ge=0, le=MAX_WAIT_SECONDS, strict=True, description="How long a sender may wait for the output."
        ),
    ]
    max_cost_usd: Annotated[
        float | None,
        Field(
            ge=0, strict=True, description="What one of its runs may cost in US dollars; null for no bound."
        ),
    ]
    max_cost_per_day_usd: Annotated[
        float | None,
        Field(
            ge=0,
            strict=True,
            description="What its runs of one day may cost together in US dollars; null for no bound.",
        ),
    ]
    enabled: Enabled


class NewWebhook(_Optional):
    """A webhook that is to be made."""

    name: Annotated[str, Field(description="What it is called.")]
    prompt_template: Template


class WebhookChanges(_Optional, total=False):
    """What is to be changed of a webhook; what is left out stays as it is."""

    name: Annotated[str, Field(description="What it is called.")]
    prompt_template: Template


class Trying(TypedDict, total=False):
    """What is to be tried: a payload, or a delivery that came before."""

    payload: Annotated[Any, Field(description="What would be posted.")]
    delivery_id: Annotated[str | None, Field(description="Take the payload of this delivery instead.")]
    prompt_template: Annotated[str | None, Field(description="Take this in place of the webhook's template.")]


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of a list."""

    limit: PageSize = 20
    cursor: Cursor = None


@dataclass(frozen=True, slots=True)
class WholeDelivery(DeliveryView):
    """A delivery with its whole body, as a text and, where it is JSON, as that."""

    webhook_id: str
    payload: Any


def _version(webhook: WebhookView) -> str:
    return webhook.updated_at


class WebhookEndpoints(EndpointGroup):
    """Prompts that other services start."""

    subject = "Webhooks"

    @endpoint("GET /api/webhooks")
    async def list_webhooks(self) -> WebhookList:
        """List all webhooks, oldest first."""
        return await webhook_list(self.app)

    @endpoint("POST /api/webhooks", ConflictError, status=201, tag=_version, location="/api/webhooks/{id}")
    async def create_webhook(self, body: NewWebhook) -> WebhookView:
        """Make a webhook: an address that other services post to, each time starting a prompt of its own."""
        new = await decided(self.app, body)
        webhook = await self.app.webhooks.add(WebhookDraft(**new.values), self.app.clock.now())
        return await webhook_view(self.app, webhook, new.warnings)

    @endpoint("GET /api/webhooks/{webhook_id}", tag=_version)
    async def get_webhook(self, webhook_id: str) -> WebhookView:
        """Show a webhook whole."""
        return await webhook_view(self.app, await self.app.webhooks.get(webhook_id))

    @endpoint("PATCH /api/webhooks/{webhook_id}", ConflictError, tag=_version)
    async def change_webhook(self, webhook_id: str, body: WebhookChanges, seen: Seen) -> WebhookView:
        """Change some of a webhook; what is left out stays as it is."""
        old = await self.app.webhooks.get(webhook_id)
        minds = seen.holds(tag_of(old.updated_at.isoformat()), f"the webhook '{old.name}'")
        changes = await decided(self.app, body, old)
        webhook = await self.app.webhooks.change(
            webhook_id, changes.values, self.app.clock.now(), was=old.updated_at if minds else None
        )
        return await webhook_view(self.app, webhook, changes.warnings)

    @endpoint("DELETE /api/webhooks/{webhook_id}", ConflictError)
    async def delete_webhook(self, webhook_id: str) -> Deleted:
        """Delete a webhook with its address and its deliveries; its runs stay, those going on are ended."""
        await self.app.remove_webhook(webhook_id)
        return Deleted(deleted=True, id=webhook_id)

    @endpoint("POST /api/webhooks/{webhook_id}/rotate", ConflictError, tag=_version)
    async def rotate_webhook(self, webhook_id: str, seen: Seen) -> WebhookView:
        """Give a webhook a new address; the old one lets nothing in from then on."""
        old = await self.app.webhooks.get(webhook_id)
        seen.check(tag_of(old.updated_at.isoformat()), f"the webhook '{old.name}'")
        return await webhook_view(self.app, await self.app.webhooks.rotate(webhook_id, self.app.clock.now()))

    @endpoint("POST /api/webhooks/{webhook_id}/try-out", ConflictError)
    async def try_webhook(self, webhook_id: str, body: Trying) -> WebhookTrial:
        """Show what a payload would come to: the prompt, and which fields are missing. Nothing is run."""
        return trial_view(
            await self.app.reception.try_out(
                webhook_id, body.get("payload"), body.get("delivery_id"), body.get("prompt_template")
            )
        )

    @endpoint("GET /api/webhooks/{webhook_id}/deliveries")
    async def list_deliveries(self, webhook_id: str, query: Paging) -> DeliveryList:
        """List what was posted to a webhook, newest first, and what became of each."""
        return delivery_list(await self.app.webhooks.deliveries(webhook_id, query.limit, query.cursor))

    @endpoint("GET /api/deliveries/{delivery_id}")
    async def get_delivery(self, delivery_id: str) -> WholeDelivery:
        """Show a delivery with its whole body, as far as that is kept."""
        delivery = await self.app.webhooks.delivery(delivery_id)
        view = delivery_view(delivery)
        whole = None if delivery.body is None else delivery.body.decode("utf-8", "replace")
        return WholeDelivery(
            id=view.id,
            received_at=view.received_at,
            verdict=view.verdict,
            reason=view.reason,
            run_id=view.run_id,
            replay_of=view.replay_of,
            headers=view.headers,
            body=whole,
            body_length=view.body_length,
            webhook_id=delivery.webhook_id,
            payload=_read(whole),
        )

    @endpoint("POST /api/deliveries/{delivery_id}/replay", ConflictError, status=202)
    async def replay_delivery(self, delivery_id: str) -> Replayed:
        """Start a run for a delivery that came before, with the webhook as it is now."""
        delivery = await self.app.webhooks.delivery(delivery_id)
        receipt = await self.app.reception.replay(delivery_id)
        return Replayed(receipt.run_id, receipt.state, delivery.webhook_id)


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
