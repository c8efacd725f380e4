"""One delivery: what was posted, what became of it, and sending it again."""

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import NotFoundError
from claude_runner.runs import Run
from claude_runner.web.dashboard._forms import Notice, go_to, read_form
from claude_runner.web.dashboard._rendering import SECURE, Pages
from claude_runner.web.dashboard._visible import visible
from claude_runner.webhooks import Delivery, MalformedError, Verdict, read_payload

LONGEST_SHOWN: Final = 50_000  # characters of a body
LONGEST_LAID_OUT: Final = 256 * 2**10  # bytes of JSON that is laid out over lines
REPLAYED: Final = frozenset({Verdict.ACCEPTED, Verdict.FILTERED})
COLOURS: Final = {
    Verdict.ACCEPTED: "ok",
    Verdict.FILTERED: "skip",
    Verdict.BAD_SIGNATURE: "bad",
    Verdict.MALFORMED: "bad",
    Verdict.DISABLED: "warn",
}


class Body(NamedTuple):
    """A body as a page shows it.

    Attributes:
        laid_out: Whether it is JSON, laid out over lines.
        hidden: Characters that are not shown.
    """

    text: str
    laid_out: bool
    hidden: int


class DeliveryPages:
    """The pages below `/webhooks/{webhook_id}/deliveries`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        place = "/webhooks/{webhook_id}/deliveries/{delivery_id}"
        yield Route(place, self.show)
        yield Route(place + "/body", self.body)
        yield Route(place + "/replay", self.replay, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show one."""
        delivery = await self._delivery(request)
        webhook = await self._app.webhooks.get(delivery.webhook_id)
        return await self._pages.page(
            request,
            "delivery.html",
            delivery=delivery,
            webhook=webhook,
            run=await self._run(delivery),
            colour=COLOURS[delivery.verdict],
            body=None if delivery.body is None else shown_body(delivery),
            headers=[(visible(name), visible(value)) for name, value in delivery.headers.items()],
            can_replay=delivery.verdict in REPLAYED and delivery.body is not None,
        )

    async def body(self, request: Request) -> Response:
        """Give what was posted as a file, byte for byte, that no browser opens as a page."""
        delivery = await self._delivery(request)
        if delivery.body is None:
            raise NotFoundError(f"the body of delivery {delivery.id} is no longer kept")
        headers = SECURE | {"Content-Disposition": f'attachment; filename="delivery-{delivery.id}.txt"'}
        return Response(delivery.body, headers=headers, media_type="application/octet-stream")

    async def replay(self, request: Request) -> Response:
        """Start a run of it again, and go there."""
        delivery = await self._delivery(request)
        form = await read_form(request)

        async def do() -> str:
            receipt = await self._app.reception.replay(delivery.id)
            return f"/runs/{receipt.run_id}"

        path = await self._pages.once.done(form.text("once"), do)
        return go_to(path, Notice("Replayed: this run has the webhook's prompt and tools as they are now."))

    async def _delivery(self, request: Request) -> Delivery:
        webhook_id, delivery_id = request.path_params["webhook_id"], request.path_params["delivery_id"]
        delivery = await self._app.webhooks.delivery(delivery_id)
        if delivery.webhook_id != webhook_id:
            raise NotFoundError(f"delivery {delivery_id[:60]!r} came to another webhook")
        return delivery

    async def _run(self, delivery: Delivery) -> Run | None:
        """Return the run that it started, `None` where there is none, or none any more."""
        if delivery.run_id is None:
            return None
        try:
            return await self._app.runs.get(delivery.run_id)
        except NotFoundError:
            return None


def shown_body(delivery: Delivery) -> Body:
    """Return the body of a delivery as a page shows it: JSON over lines, anything else as it is, and so much of it."""
    body = delivery.body or b""
    laid_out = _laid_out(body, delivery.headers.get("content-type", ""))
    text = body.decode("utf-8", "replace") if laid_out is None else laid_out
    return Body(visible(text[:LONGEST_SHOWN]), laid_out is not None, max(0, len(text) - LONGEST_SHOWN))


def _laid_out(body: bytes, content_type: str) -> str | None:
    """Return a body's payload over lines; `None` where it is large, or is a text already."""
    if len(body) > LONGEST_LAID_OUT:
        return None
    try:
        payload = read_payload(body, content_type)
    except MalformedError:
        return None
    return None if isinstance(payload, str) else json.dumps(payload, indent=2, ensure_ascii=False)
