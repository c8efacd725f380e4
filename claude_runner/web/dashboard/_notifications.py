"""Who hears of things, and what was told: channels, and the outbox."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.notifications import Delivery, Event, Notification, NotificationPage
from claude_runner.web.dashboard._channel_editor import ChannelEditor
from claude_runner.web.dashboard._filters import Asked, Tab, given, tidy
from claude_runner.web.dashboard._rendering import Pages, wants, with_query

PLACE: Final = "/notifications"
ROWS: Final = 25  # of a page; what an open page is sent as things are told stays within 5 KB
TRIED: Final = timedelta(days=3)  # how long a notification is tried
MOST: Final = 50  # channels
STATES: Final = {
    Delivery.WAITING: ("waiting", "wait"),
    Delivery.SENT: ("sent", "ok"),
    Delivery.FAILED: ("given up", "bad"),
}  # each with its word and its colour
EVENTS: Final = {
    Event.FAILURE: "failure",
    Event.RECOVERY: "recovery",
    Event.MISSED: "missed",
    Event.PAUSED: "pause",
    Event.BUDGET: "budget",
    Event.SUCCESS: "success",
    Event.HELD: "runs wait",
    Event.TEST: "test",
    Event.STARTED: "heartbeat, begun",
    Event.ENDED: "heartbeat, ended",
}


class NotificationsPage:
    """The pages below `/notifications`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app
        self._editor = ChannelEditor(pages)

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        yield Route(PLACE, self.show)
        yield from self._editor.routes()

    async def show(self, request: Request) -> Response:
        """Show the channels, and what was told or waits to be."""
        if (elsewhere := tidy(request)) is not None:
            return elsewhere
        asked = Asked(request.query_params, await self._pages.zone())
        shown: dict[str, Any] = {"errors": asked.errors}
        if wants(request, "told"):
            shown |= await self._told(request, asked)
        if wants(request, "channels"):
            shown |= await self._channels()
        return await self._pages.page(request, "notifications.html", 422 if asked.errors else 200, **shown)

    async def _channels(self) -> dict[str, Any]:
        troubles = await self._app.outbox.troubles(self._app.clock.now() - TRIED, MOST)
        return {
            "channels": await self._app.channels.list(),
            "troubles": {it.channel_id: it.error for it in troubles if it.channel_id},
        }

    async def _told(self, request: Request, asked: Asked) -> dict[str, Any]:
        page, filters, cursor = await self._found(asked), given(request, "cursor"), asked.text("cursor")
        return {
            "notifications": page.notifications,
            "job_names": await self._job_names(page.notifications),
            "newest": with_query(PLACE, **filters) if cursor else "",
            "older": with_query(PLACE, **filters, cursor=page.next_cursor) if page.next_cursor else "",
            "tabs": _tabs(filters),
            "filters": filters,
            "follows": not cursor,
            "states": STATES,
            "events": EVENTS,
        }

    async def _found(self, asked: Asked) -> NotificationPage:
        state, cursor = asked.one_of("state", Delivery), asked.text("cursor")
        if asked.errors:
            return NotificationPage([], None)
        try:
            return await self._app.outbox.list(state, ROWS, cursor)
        except InvalidError as error:
            asked.errors["cursor"] = str(error)
            return NotificationPage([], None)

    async def _job_names(self, found: Sequence[Notification]) -> Mapping[str, str]:
        """Return what the jobs are called whose heartbeats are among what was found, which have no title."""
        if not any(it.ping_url for it in found):
            return {}
        return dict(await self._app.jobs.names())


def _tabs(filters: Mapping[str, Sequence[str]]) -> list[Tab]:
    chosen = filters.get("state", ())
    every = Tab("All", f"{PLACE}#told", not chosen)
    narrowed = (
        Tab(word.capitalize(), with_query(PLACE, state=state) + "#told", state in chosen)
        for state, (word, _) in STATES.items()
    )
    return [every, *narrowed]
