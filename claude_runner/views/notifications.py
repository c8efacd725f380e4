"""What is told of channels, and of what was sent through them."""

from collections.abc import Sequence
from dataclasses import dataclass

from claude_runner.notifications import Channel, Delivery, Event, Notification, NotificationPage
from claude_runner.views.instants import iso


@dataclass(frozen=True, slots=True)
class ChannelView:
    """Where notifications go; of its address only what is no secret.

    Attributes:
        readable: Whether its address can still be opened; if not, the url has to be given again.
    """

    id: str
    name: str
    address: str
    enabled: bool
    readable: bool
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class ChannelList:
    """All channels, by name."""

    channels: list[ChannelView]
    total: int


@dataclass(frozen=True, slots=True)
class NotificationView:
    """What somebody was or is to be told.

    Attributes:
        channel: Where it goes; null for the ping of a heartbeat, and where that channel was deleted.
        state: `waiting`, `sent`, or `failed` for what was given up.
        error: What was in the way the last time.
    """

    id: str
    event: Event
    channel: str | None
    channel_id: str | None
    is_ping: bool
    job_id: str | None
    run_id: str | None
    title: str
    body: str
    state: Delivery
    attempts: int
    next_attempt_at: str | None
    error: str | None
    created_at: str
    finished_at: str | None


@dataclass(frozen=True, slots=True)
class NotificationList:
    """A page of notifications, newest first; `next_cursor` asks for those after them."""

    notifications: list[NotificationView]
    next_cursor: str | None


def channel_view(channel: Channel) -> ChannelView:
    """Return a channel as callers see it."""
    return ChannelView(
        id=channel.id,
        name=channel.name,
        address=channel.shown,
        enabled=channel.enabled,
        readable=channel.url is not None,
        created_at=channel.created_at.isoformat(),
        updated_at=channel.updated_at.isoformat(),
    )


def channel_list(channels: Sequence[Channel]) -> ChannelList:
    """Return channels as a list shows them."""
    return ChannelList([channel_view(it) for it in channels], len(channels))


def notification_view(it: Notification) -> NotificationView:
    """Return a notification as callers see it."""
    return NotificationView(
        id=it.id,
        event=it.event,
        channel=it.channel,
        channel_id=it.channel_id,
        is_ping=it.ping_url is not None,
        job_id=it.job_id,
        run_id=it.run_id,
        title=it.title,
        body=it.body,
        state=it.state,
        attempts=it.attempts,
        next_attempt_at=iso(it.next_attempt_at),
        error=it.error,
        created_at=it.created_at.isoformat(),
        finished_at=iso(it.finished_at),
    )


def notification_list(page: NotificationPage) -> NotificationList:
    """Return a page of notifications as a list shows them."""
    return NotificationList([notification_view(it) for it in page.notifications], page.next_cursor)
