"""What a channel and a notification are."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from claude_runner.db import from_text


class Event(StrEnum):
    """What a notification tells of."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    MISSED = "missed"
    PAUSED = "paused"
    BUDGET = "budget"
    SUCCESS = "success"
    HELD = "held"
    TEST = "test"
    STARTED = "started"
    ENDED = "ended"


class Delivery(StrEnum):
    """What has become of a notification."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Channel:
    """Where notifications go.

    Attributes:
        url: The address, which may hold secrets; `None` where no key opens it.
        shown: What of it may be shown.
    """

    id: str
    name: str
    url: str | None = field(repr=False)
    shown: str
    enabled: bool
    created_at: datetime
    updated_at: datetime


class Where(NamedTuple):
    """A channel that takes what there is to tell."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Notification:
    """What somebody was or is to be told, or the ping of a heartbeat.

    Attributes:
        channel_id: Where it goes; `None` for a ping, and where that channel was deleted.
        channel: Its name.
        ping_url: The address of a ping.
        attempts: How often it was tried.
        error: What was in the way the last time.
    """

    id: str
    channel_id: str | None
    channel: str | None
    ping_url: str | None = field(repr=False)
    event: Event
    job_id: str | None
    run_id: str | None
    title: str
    body: str
    state: Delivery
    attempts: int
    next_attempt_at: datetime | None
    expires_at: datetime
    error: str | None
    created_at: datetime
    finished_at: datetime | None


# The examples that a person is shown where an address is none.
EXAMPLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "email:alice@example.com": "mail, sent by the server 'email'",
        "slack://TokenA/TokenB/TokenC/#channel": "Slack",
        "tgram://bottoken/chat_id": "Telegram",
        "discord://webhook_id/webhook_token": "Discord",
        "ntfy://topic": "ntfy",
        "jsons://host/path": "a JSON POST",
    }
)


def notification_from(row: sqlite3.Row) -> Notification:
    """Make a notification of its row, which has the name of its channel as `channel`."""
    waits = row["state"] == Delivery.WAITING
    return Notification(
        id=row["id"],
        channel_id=row["channel_id"],
        channel=row["channel"],
        ping_url=row["ping_url"],
        event=Event(row["event"]),
        job_id=row["job_id"],
        run_id=row["run_id"],
        title=row["title"],
        body=row["body"],
        state=Delivery(row["state"]),
        attempts=row["attempts"],
        next_attempt_at=from_text(row["next_attempt_at"]) if waits else None,
        expires_at=from_text(row["expires_at"]),
        error=row["error"],
        created_at=from_text(row["created_at"]),
        finished_at=None if row["finished_at"] is None else from_text(row["finished_at"]),
    )
