"""Tools that say who hears of what went wrong, and what was sent."""

from typing import Annotated

from pydantic import Field

from claude_runner.notifications import Delivery
from claude_runner.tools._confirmation import Question
from claude_runner.tools._toolbox import ToolGroup, given, tool
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

PageSize = Annotated[int, Field(ge=1, le=200, strict=True)]
Address = Annotated[str, Field(json_schema_extra={"writeOnly": True})]


class NotificationTools(ToolGroup):
    """Who hears of what went wrong."""

    @tool("Create a notification channel", acts_outside=True)
    async def create_notification_channel(self, name: str, url: Address) -> ChannelView:
        """Name a place where notifications go: a mail address, a chat, a phone, a webhook.

        From then on every job tells it of failures and of successes after them, and of what was missed, paused or cost
        too much, unless the job's policy says otherwise (notify_on, notify_after_failures, notify_channels). Ask the
        user for the url, and offer test_notification_channel afterwards.

        Args:
            name: What it is called, such as `phone`; policies name it so.
            url: `email:alice@example.com` is sent by the server 'email', which must be configured. Or an Apprise URL,
                such as `tgram://bottoken/chat_id`, `discord://id/token`, `ntfy://topic`, `mailto://user:password@host`,
                a webhook's own https address at Slack or Discord; `jsons://host/path` posts JSON to any other. It is
                sealed and never shown.
        """
        return channel_view(await self.app.channels.add(name, url, self.app.clock.now()))

    @tool("List notification channels", reads=True)
    async def list_notification_channels(self) -> ChannelList:
        """List the places where notifications go, by name; of their addresses only what is no secret."""
        return channel_list(await self.app.channels.list())

    @tool("Change a notification channel", repeatable=True, acts_outside=True)
    async def update_notification_channel(
        self,
        channel_id: str,
        name: str | None = None,
        url: Address | None = None,
        enabled: bool | None = None,  # noqa: FBT001 - a tool's parameters are passed by name
    ) -> ChannelView:
        """Change some of a notification channel; what is left out stays as it is.

        Args:
            channel_id: The id that list_notification_channels tells.
            name: What it is called. Policies that name it by its old name tell every channel then: change them too.
            url: Where it goes, as in create_notification_channel.
            enabled: Whether it is told anything; what waits for one that is not is kept for three days.
        """
        changes = given(name=name, url=url, enabled=enabled)
        return channel_view(await self.app.channels.change(channel_id, changes, self.app.clock.now()))

    async def _deletion(self, channel_id: str) -> Question:
        channel = await self.app.channels.get(channel_id)
        return Question(
            f'Delete the notification channel "{channel.name}"?',
            f"{channel.id} {channel.updated_at.isoformat()}",
        )

    @tool("Delete a notification channel", destroys=True, asks=_deletion)
    async def delete_notification_channel(self, channel_id: str) -> Deleted:
        """Delete a notification channel; what still waits to be sent there is not sent.

        Policies that name it tell every channel then: change them too. To only silence it, use
        update_notification_channel with enabled=false.

        Args:
            channel_id: The id that list_notification_channels tells.
        """
        await self.app.channels.remove(channel_id, self.app.clock.now())
        return Deleted(deleted=True, id=channel_id)

    @tool("Test a notification channel", acts_outside=True)
    async def test_notification_channel(self, channel_id: str) -> NotificationView:
        """Send a test through a notification channel at once, and answer what came of it: state `sent`, or the error.

        Args:
            channel_id: The id that list_notification_channels tells.
        """
        return notification_view(await self.app.channels.test(channel_id, self.app.clock.now()))

    @tool("List notifications", reads=True)
    async def list_notifications(
        self, state: Delivery | None = None, limit: PageSize = 20, cursor: str | None = None
    ) -> NotificationList:
        """List what was told or waits to be, and the pings of heartbeats, newest first, with what came of each.

        What a service does not take is tried again for three days, ever less often. One that was sent may in rare cases
        have been sent twice.

        Args:
            state: Only those that are `waiting`, were `sent`, or `failed` for good.
            limit: How many, 1 to 200.
            cursor: Where to go on: next_cursor of the page before.
        """
        return notification_list(await self.app.outbox.list(state, limit, cursor))
