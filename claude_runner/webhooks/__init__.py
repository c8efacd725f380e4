"""Webhooks: prompts that other services start. Owns the tables webhooks and webhook_deliveries.

A webhook is a template of a prompt behind a token that lets in whoever has it. What is sent is checked, put into the
template as data that the model is told not to obey, and kept, so that it can be looked at and sent again.
"""

from claude_runner.webhooks._bodies import MalformedError, read_payload
from claude_runner.webhooks._collection import Webhooks, count, day_budgets, hash_of, max_costs, reseal, title
from claude_runner.webhooks._deliveries import (
    REFUSALS,
    Delivery,
    DeliveryPage,
    Earlier,
    NewDelivery,
    Verdict,
    earlier,
    forget,
    keep,
    kept_headers,
)
from claude_runner.webhooks._filters import Holds, read_filter
from claude_runner.webhooks._received import Lately, Received, ReceivedPage
from claude_runner.webhooks._records import (
    MAX_PER_MINUTE,
    MAX_PLAIN_FIELDS,
    MAX_WAIT_SECONDS,
    Webhook,
    WebhookDraft,
    checked_fields,
)
from claude_runner.webhooks._signatures import BadSignatureError, Headers, Signature, delivery_key, verify
from claude_runner.webhooks._templates import Origin, Piece, Rendered, Template, read_template, without_fences

__all__ = [
    "MAX_PER_MINUTE",
    "MAX_PLAIN_FIELDS",
    "MAX_WAIT_SECONDS",
    "REFUSALS",
    "BadSignatureError",
    "Delivery",
    "DeliveryPage",
    "Earlier",
    "Headers",
    "Holds",
    "Lately",
    "MalformedError",
    "NewDelivery",
    "Origin",
    "Piece",
    "Received",
    "ReceivedPage",
    "Rendered",
    "Signature",
    "Template",
    "Verdict",
    "Webhook",
    "WebhookDraft",
    "Webhooks",
    "checked_fields",
    "count",
    "day_budgets",
    "delivery_key",
    "earlier",
    "forget",
    "hash_of",
    "keep",
    "kept_headers",
    "max_costs",
    "read_filter",
    "read_payload",
    "read_template",
    "reseal",
    "title",
    "verify",
    "without_fences",
]
