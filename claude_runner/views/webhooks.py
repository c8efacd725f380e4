"""What is told of webhooks and of what was sent to them."""

from dataclasses import dataclass
from typing import Final

from claude_runner.app import App
from claude_runner.errors import InvalidError
from claude_runner.permissions import Profile
from claude_runner.reception import Trial
from claude_runner.views._curl import curl_of, example_of
from claude_runner.views.instants import iso
from claude_runner.webhooks import Delivery, DeliveryPage, Verdict, Webhook

__all__ = [
    "DeliveryList",
    "DeliveryView",
    "Replayed",
    "WebhookList",
    "WebhookSummary",
    "WebhookTrial",
    "WebhookView",
    "delivery_list",
    "delivery_view",
    "example_of",
    "trial_view",
    "webhook_list",
    "webhook_view",
]

HEAD: Final = 2_000  # characters of a delivery's body that a list shows


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook as callers see it; `curl` posts an example to it."""

    id: str
    name: str
    description: str
    url: str | None
    curl: str | None
    enabled: bool
    prompt_template: str
    tools: list[str]
    profile: Profile
    profile_is_default: bool
    commands: list[str]
    timeout_minutes: int
    model: str | None
    signature: str | None
    filter: str | None
    plain_fields: list[str]
    max_per_minute: int
    max_wait_seconds: int
    max_cost_usd: float | None
    max_cost_per_day_usd: float | None
    trigger_count: int
    turned_away: int
    last_triggered_at: str | None
    created_at: str
    updated_at: str
    tool_warnings: list[str]


@dataclass(frozen=True, slots=True)
class WebhookSummary:
    """A webhook as a list shows it."""

    id: str
    name: str
    description: str
    url: str | None
    enabled: bool
    signature: str | None
    trigger_count: int
    last_triggered_at: str | None


@dataclass(frozen=True, slots=True)
class WebhookList:
    """All webhooks."""

    webhooks: list[WebhookSummary]
    total: int


@dataclass(frozen=True, slots=True)
class WebhookTrial:
    """What a payload would come to; nothing was run.

    Attributes:
        would_run: Whether the filter wants a run for it.
        missing: Fields of the template that the payload does not have.
        defaulted: Fields in whose place the template's default stands.
        cut: Fields that were too long to be inserted whole.
    """

    would_run: bool
    prompt: str
    missing: list[str]
    defaulted: list[str]
    cut: list[str]


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery: what was posted, and what became of it."""

    id: str
    received_at: str
    verdict: Verdict
    reason: str | None
    run_id: str | None
    replay_of: str | None
    headers: dict[str, str]
    body: str | None
    body_length: int | None


@dataclass(frozen=True, slots=True)
class DeliveryList:
    """A page of deliveries, newest first; `next_cursor` asks for those after them."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """The run that a delivery has started again."""

    run_id: str | None
    state: str
    webhook_id: str


async def webhook_list(app: App) -> WebhookList:
    """Return all webhooks, oldest first."""
    base = await app.addresses.base()
    webhooks = await app.webhooks.list()
    return WebhookList([_summary(webhook, base) for webhook in webhooks], len(webhooks))


async def webhook_view(app: App, webhook: Webhook, warnings: tuple[str, ...] | None = None) -> WebhookView:
    """Return a webhook as callers see it.

    Args:
        app: Whose webhook it is.
        webhook: The webhook.
        warnings: What there is to say about its tools; looked up where it is `None`.
    """
    url = _url(webhook, await app.addresses.base())
    return WebhookView(
        id=webhook.id,
        name=webhook.name,
        description=webhook.description,
        url=url,
        curl=None if url is None else curl_of(webhook, url),
        enabled=webhook.enabled,
        prompt_template=webhook.prompt_template,
        tools=list(webhook.tools),
        profile=webhook.profile or (await app.stored.rights()).default,
        profile_is_default=webhook.profile is None,
        commands=list(webhook.commands),
        timeout_minutes=webhook.timeout_minutes,
        model=webhook.model,
        signature=webhook.signature,
        filter=webhook.filter,
        plain_fields=list(webhook.plain_fields),
        max_per_minute=webhook.max_per_minute,
        max_wait_seconds=webhook.max_wait_seconds,
        max_cost_usd=webhook.max_cost_usd,
        max_cost_per_day_usd=webhook.max_cost_per_day_usd,
        trigger_count=webhook.trigger_count,
        turned_away=app.reception.turned_away(webhook.id),
        last_triggered_at=iso(webhook.last_triggered_at),
        created_at=webhook.created_at.isoformat(),
        updated_at=webhook.updated_at.isoformat(),
        tool_warnings=list(await _warnings(app, webhook) if warnings is None else warnings),
    )


def trial_view(trial: Trial) -> WebhookTrial:
    """Return what a payload would come to."""
    it = trial.rendered
    return WebhookTrial(trial.wanted, it.prompt, list(it.missing), list(it.defaulted), list(it.cut))


def delivery_list(page: DeliveryPage) -> DeliveryList:
    """Return a page of deliveries as a list shows them."""
    return DeliveryList([delivery_view(delivery) for delivery in page.deliveries], page.next_cursor)


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return a delivery as a list shows it: its body cut to the beginning."""
    body = delivery.body
    return DeliveryView(
        id=delivery.id,
        received_at=delivery.received_at.isoformat(),
        verdict=delivery.verdict,
        reason=delivery.reason,
        run_id=delivery.run_id,
        replay_of=delivery.replay_of,
        headers=dict(delivery.headers),
        body=None if body is None else body[: 4 * HEAD].decode("utf-8", "replace")[:HEAD],
        body_length=None if body is None else len(body),
    )


async def _warnings(app: App, webhook: Webhook) -> tuple[str, ...]:
    try:
        return (await app.reach.grant(webhook.tools, webhook.profile, webhook.commands, start=False)).warnings
    except InvalidError as error:
        return (str(error),)


def _url(webhook: Webhook, base: str) -> str | None:
    """Return where it is posted to; `None` where no key opens its token, and only a new one helps."""
    return None if webhook.token is None else f"{base}/webhook/{webhook.token}"


def _summary(webhook: Webhook, base: str) -> WebhookSummary:
    return WebhookSummary(
        id=webhook.id,
        name=webhook.name,
        description=webhook.description,
        url=_url(webhook, base),
        enabled=webhook.enabled,
        signature=webhook.signature,
        trigger_count=webhook.trigger_count,
        last_triggered_at=iso(webhook.last_triggered_at),
    )
