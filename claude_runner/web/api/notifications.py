"""Endpoints about channels and notifications."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.errors import ConflictError, UnavailableError
from claude_runner.notifications import Delivery
from claude_runner.views.deletions import Deleted
from claude_runner.views.notifications import (
    ChannelList,
    ChannelView,
    NotificationList,
    NotificationView,
    channel_list,
    channel_view,
    notification_list,
    notification_view,
)
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._seen import Seen, tag_of
from claude_runner.web.api._types import Cursor, Enabled, Limit

Name = Annotated[str, Field(description="What it is called; policies name it so.")]
Address = Annotated[
    str,
    Field(
        description="`email:alice@example.com`, or an Apprise URL; it is sealed and never shown.",
        json_schema_extra={"format": "password", "writeOnly": True},
    ),
]


class NewChannel(TypedDict):
    """A channel that is to be made."""

    name: Name
    url: Address


class ChannelChanges(TypedDict, total=False):
    """What is to be changed of a channel; what is left out stays as it is."""

    name: Name
    url: Address
    enabled: Enabled


@dataclass(frozen=True, slots=True)
class Which:
    """Which notifications."""

    state: Annotated[Delivery | None, Field(description="Only those of which this is how they stand.")] = None
    limit: Limit = 50
    cursor: Cursor = None


def _version(channel: ChannelView) -> str:
    return channel.updated_at


class NotificationEndpoints(EndpointGroup):
    """Where notifications go, and what was sent."""

    subject = "Notifications"

    @endpoint("GET /api/channels")
    async def list_channels(self) -> ChannelList:
        """List all channels by name."""
        return channel_list(await self.app.channels.list())

    @endpoint(
        "POST /api/channels",
        ConflictError,
        UnavailableError,
        status=201,
        tag=_version,
        location="/api/channels/{id}",
    )
    async def create_channel(self, body: NewChannel) -> ChannelView:
        """Make a channel: a place where notifications go from now on."""
        return channel_view(await self.app.channels.add(body["name"], body["url"], self.app.clock.now()))

    @endpoint("GET /api/channels/{channel_id}", tag=_version)
    async def get_channel(self, channel_id: str) -> ChannelView:
        """Show a channel; of its address only what is no secret."""
        return channel_view(await self.app.channels.get(channel_id))

    @endpoint("PATCH /api/channels/{channel_id}", ConflictError, UnavailableError, tag=_version)
    async def change_channel(self, channel_id: str, body: ChannelChanges, seen: Seen) -> ChannelView:
        """Change some of a channel; what is left out stays as it is."""
        old = await self.app.channels.get(channel_id)
        minds = seen.holds(tag_of(old.updated_at.isoformat()), f"the channel '{old.name}'")
        now = self.app.clock.now()
        was = old.updated_at if minds else None
        return channel_view(await self.app.channels.change(channel_id, body, now, was=was))

    @endpoint("DELETE /api/channels/{channel_id}")
    async def delete_channel(self, channel_id: str) -> Deleted:
        """Delete a channel; what still waits to be sent there is not sent."""
        await self.app.channels.remove(channel_id, self.app.clock.now())
        return Deleted(deleted=True, id=channel_id)

    @endpoint("POST /api/channels/{channel_id}/test")
    async def test_channel(self, channel_id: str) -> NotificationView:
        """Send a test through a channel at once, and answer what came of it."""
        return notification_view(await self.app.channels.test(channel_id, self.app.clock.now()))

    @endpoint("GET /api/notifications")
    async def list_notifications(self, query: Which) -> NotificationList:
        """List what was told or waits to be, and the pings of heartbeats, newest first."""
        return notification_list(await self.app.outbox.list(query.state, query.limit, query.cursor))
