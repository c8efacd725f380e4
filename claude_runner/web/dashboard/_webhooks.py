"""Webhooks: prompts that other services start, and what these have sent."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.views.webhooks import webhook_view
from claude_runner.web.dashboard._deliveries import COLOURS, REPLAYED, DeliveryPages
from claude_runner.web.dashboard._forms import Notice, back_to, go_to, read_form
from claude_runner.web.dashboard._rendering import Pages, wants, with_query
from claude_runner.web.dashboard._visible import visible
from claude_runner.web.dashboard._webhook_editor import WebhookEditor
from claude_runner.webhooks import Lately, Webhook

PAGE: Final = 20  # deliveries
ROWS: Final = 50  # webhooks
LATELY: Final = timedelta(days=7)  # how long a refusal is told
NOTHING: Final = Lately(None, None, None, 0)
REFUSED: Final = "refused"


class Row(NamedTuple):
    """A webhook as the list shows it.

    Attributes:
        lately: What has come to it.
        turned_away: How many deliveries this process did not take because they were too many.
    """

    webhook: Webhook
    lately: Lately
    turned_away: int


class WebhookPages:
    """The pages below `/webhooks`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app
        self._editor = WebhookEditor(pages)
        self._deliveries = DeliveryPages(pages)

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        one = "/webhooks/{webhook_id}"
        yield Route("/webhooks", self.list)
        yield Route("/webhooks/new", self._editor.write)
        yield Route("/webhooks/new", self._editor.create, methods=["POST"])
        yield Route("/webhooks/new/try", self._editor.try_out, methods=["POST"])
        yield Route(one, self.show)
        yield Route(f"{one}/edit", self._editor.write)
        yield Route(f"{one}/edit", self._editor.save, methods=["POST"])
        yield Route(f"{one}/try", self._editor.try_out, methods=["POST"])
        yield Route(f"{one}/enable", self.enable, methods=["POST"])
        yield Route(f"{one}/disable", self.disable, methods=["POST"])
        yield Route(f"{one}/rotate", self.rotate, methods=["POST"])
        yield Route(f"{one}/delete", self.delete, methods=["POST"])
        yield from self._deliveries.routes()

    async def list(self, request: Request) -> Response:
        """Show them all, or those whose names or descriptions have a text."""
        lately = await self._app.webhooks.lately(self._app.clock.now() - LATELY)
        webhooks = sorted(await self._app.webhooks.readable(), key=lambda it: (it.name.casefold(), it.id))
        text = request.query_params.get("q", "").strip().casefold()
        found = [it for it in webhooks if text in f"{it.name}\n{it.description}".casefold()]
        rows = [
            Row(it, lately.get(it.id, NOTHING), self._app.reception.turned_away(it.id)) for it in found[:ROWS]
        ]
        return await self._pages.page(
            request,
            "webhooks.html",
            rows=rows,
            total=len(webhooks),
            not_shown=len(found) - len(rows),
            unreadable=sorted(lately.keys() - {it.id for it in webhooks}),
            colours=COLOURS,
            days=LATELY.days,
            base=await self._app.addresses.base(),
        )

    async def show(self, request: Request) -> Response:
        """Show one with what has come to it."""
        webhook = await self._app.webhooks.get(request.path_params["webhook_id"])
        shown: dict[str, Any] = {}
        if wants(request):
            shown["view"] = await webhook_view(self._app, webhook, ())
            shown["allowed"] = await self._app.stored.allowed_tools()
        if wants(request, "deliveries"):
            shown |= await self._received(request, webhook)
        return await self._pages.page(request, "webhook.html", webhook=webhook, **shown)

    async def enable(self, request: Request) -> Response:
        """Let it take deliveries; to do so twice is no harm."""
        webhook = await self._app.webhooks.get(request.path_params["webhook_id"])
        await self._app.webhooks.change(webhook.id, {"enabled": True}, self._app.clock.now())
        return _switched(request, webhook, "takes deliveries.", "disable")

    async def disable(self, request: Request) -> Response:
        """Let it take none."""
        webhook = await self._app.webhooks.get(request.path_params["webhook_id"])
        await self._app.webhooks.disable(webhook.id, self._app.clock.now())
        return _switched(request, webhook, "takes no more deliveries; its senders are told so.", "enable")

    async def rotate(self, request: Request) -> Response:
        """Give it a new address."""
        webhook_id, form = request.path_params["webhook_id"], await read_form(request)

        async def do() -> str:
            await self._app.webhooks.rotate(webhook_id, self._app.clock.now())
            return f"/webhooks/{webhook_id}"

        path = await self._pages.once.done(form.text("once"), do)
        return go_to(path, Notice("It has a new address, below: tell it to the sender. The old one is dead."))

    async def delete(self, request: Request) -> Response:
        """Delete it with its deliveries."""
        webhook_id, form = request.path_params["webhook_id"], await read_form(request)

        async def do() -> str:
            await self._app.remove_webhook(webhook_id)
            return "/webhooks"

        path = await self._pages.once.done(form.text("once"), do)
        return go_to(
            path, Notice("The webhook is deleted, with its address and its deliveries; its runs stay.")
        )

    async def _received(self, request: Request, webhook: Webhook) -> dict[str, Any]:
        query = request.query_params
        cursor, only_refused = query.get("cursor") or None, query.get("show") == REFUSED
        page = await self._app.webhooks.received(webhook.id, PAGE, cursor, refused=only_refused)
        place = f"/webhooks/{webhook.id}"
        show = REFUSED if only_refused else ""
        return {
            "deliveries": page.deliveries,
            "heads": {it.id: _one_line(it.head) for it in page.deliveries},
            "colours": COLOURS,
            "replayed": REPLAYED,
            "only_refused": only_refused,
            "first": with_query(place, show=show) if cursor else "",
            "next": with_query(place, show=show, cursor=page.next_cursor) if page.next_cursor else "",
        }


def _switched(request: Request, webhook: Webhook, what: str, undo: str) -> Response:
    """Return the answer to a switch that was turned: back to where it is, and a button that turns it back."""
    place = f"/webhooks/{webhook.id}"
    path = back_to(request, place)
    return go_to(
        path, Notice(f"{webhook.name} {what}", "ok", with_query(f"{place}/{undo}", back=path), "Undo")
    )


def _one_line(head: str | None) -> str:
    return "" if head is None else visible(" ".join(head.split()))
