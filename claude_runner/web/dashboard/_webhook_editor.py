"""The workbench of a webhook: its form, and beside it what it would make of a delivery."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from claude_runner.errors import ConflictError, NotFoundError, RunnerError
from claude_runner.permissions import IN_SANDBOX_MODE
from claude_runner.views.decisions import ChosenProfile, ChosenSignature, decided
from claude_runner.views.webhooks import example_of
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._job_tools import tool_groups
from claude_runner.web.dashboard._rendering import Pages, wants
from claude_runner.web.dashboard._webhook_form import (
    PAYLOAD,
    SECRET,
    TypedWebhook,
    errors_of,
    with_secret,
)
from claude_runner.web.dashboard._webhook_preview import preview
from claude_runner.webhooks import Received, Webhook, WebhookDraft

TO_TRY: Final = 10  # deliveries that a prompt can be tried with
LONGEST_SAID: Final = 700  # characters of a notice, which travels in a cookie
STALE: Final = "Somebody else has changed this webhook since you opened it. Nothing that you typed is lost."
GONE: Final = "This webhook was deleted meanwhile. What you typed is here: saving it makes a new one."


class Sample(NamedTuple):
    """What a prompt is tried with.

    Attributes:
        delivery: The id of a delivery; empty for what was pasted.
        pasted: A body.
    """

    delivery: str
    pasted: str


class Told(NamedTuple):
    """What a page tells of a form that was refused.

    Attributes:
        errors: Sentences by field; the empty name is for those that are about none.
        differences: Fields that somebody else has changed meanwhile: label, as stored, as typed.
    """

    status: int = 200
    errors: Mapping[str, str] = {}
    differences: Sequence[tuple[str, str, str]] = ()


class WebhookEditor:
    """The pages where webhooks are written."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    async def write(self, request: Request) -> Response:
        """Show the form of a new webhook, or of one as it is."""
        webhook = await self._webhook(request)
        if webhook is None:
            return await self._page(request, None, TypedWebhook(), Sample("", PAYLOAD))
        delivery = request.query_params.get("delivery")
        if delivery is None:
            newest = await self._newest(webhook)
            delivery = newest[0].id if newest else ""
        return await self._page(
            request, webhook, TypedWebhook.of(webhook), Sample(delivery, example_of(webhook))
        )

    async def try_out(self, request: Request) -> Response:
        """Show what the form would make of a delivery; nothing is run and nothing is kept."""
        form = await read_form(request)
        webhook = await self._webhook(request)
        return await self._page(
            request, webhook, TypedWebhook.read(form), _sample(form), Told(errors=with_secret({}, form)), form
        )

    async def create(self, request: Request) -> Response:
        """Make a webhook."""
        form = await read_form(request)
        typed, warnings = TypedWebhook.read(form), list[str]()

        async def do() -> str:
            given = typed.decided() | {SECRET: form.text(SECRET) or None, "enabled": typed.enabled}
            new = await decided(self._app, given)
            webhook = await self._app.webhooks.add(WebhookDraft(**new.values), self._app.clock.now())
            warnings.extend(new.warnings or ())
            return f"/webhooks/{webhook.id}"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            told = Told(error.status, errors_of(error, form))
            return await self._page(request, None, typed, _sample(form), told, form)
        return go_to(path, _said("Webhook made. Post to it: the command below does.", warnings))

    async def save(self, request: Request) -> Response:
        """Change a webhook, unless somebody else has done so since its form was shown."""
        form = await read_form(request)
        typed, warnings = TypedWebhook.read(form), list[str]()
        webhook_id = request.path_params["webhook_id"]

        async def do() -> str:
            old = await self._app.webhooks.get(webhook_id)
            was = _instant(form.text("was"))
            if was not in {None, old.updated_at}:
                raise ConflictError(STALE)
            secret = {SECRET: form.text(SECRET)} if form.text(SECRET) else {}
            new = await decided(self._app, typed.decided() | secret, old)
            await self._app.webhooks.change(webhook_id, new.values, self._app.clock.now(), was)
            warnings.extend(new.warnings or ())
            return f"/webhooks/{webhook_id}"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._refused(request, error, typed, form)
        return go_to(path, _said("Webhook saved.", warnings))

    async def _refused(
        self, request: Request, error: RunnerError, typed: TypedWebhook, form: Form
    ) -> Response:
        """Show the form again, with what is the matter and all that was typed."""
        try:
            webhook = await self._webhook(request)
        except NotFoundError:
            told = Told(404, with_secret({"": GONE}, form))
            return await self._page(request, None, typed, Sample("", form.text("payload")), told, form)
        differences = (
            typed.differences(TypedWebhook.of(webhook))
            if isinstance(error, ConflictError) and webhook is not None
            else ()
        )
        told = Told(error.status, errors_of(error, form), differences)
        return await self._page(request, webhook, typed, _sample(form), told, form)

    async def _page(
        self,
        request: Request,
        webhook: Webhook | None,
        typed: TypedWebhook,
        sample: Sample,
        told: Told | None = None,
        form: Form | None = None,
    ) -> Response:
        told, shown = told or Told(), dict[str, Any]()
        if wants(request, "preview"):
            webhook_id = None if webhook is None else webhook.id
            shown["preview"] = await preview(self._app, typed, webhook_id, *sample)
        if wants(request):
            shown |= await self._choices(webhook, typed, sample)
        place = "/webhooks/new" if webhook is None else f"/webhooks/{webhook.id}"
        return await self._pages.page(
            request,
            "webhook_form.html",
            told.status,
            webhook=webhook,
            typed=typed,
            sample=sample,
            errors=told.errors,
            differences=told.differences,
            save="/webhooks/new" if webhook is None else f"{place}/edit",
            try_out=f"{place}/try",
            # What was seen when typing began; but where the two were compared, what is there now.
            was="" if webhook is None else _was(webhook, told, form),
            **shown,
        )

    async def _choices(self, webhook: Webhook | None, typed: TypedWebhook, sample: Sample) -> dict[str, Any]:
        rights = await self._app.stored.rights()
        newest = [] if webhook is None else await self._newest(webhook)
        return {
            "groups": await tool_groups(self._app, typed.tools),
            "allowed": await self._app.stored.allowed_tools(),
            "profiles": list(ChosenProfile),
            "default_profile": rights.default,
            "full_refused": IN_SANDBOX_MODE if rights.sandbox_mode else None,
            "signatures": list(ChosenSignature),
            "to_try": newest,
            "tries_another": bool(sample.delivery) and all(it.id != sample.delivery for it in newest),
        }

    async def _newest(self, webhook: Webhook) -> list[Received]:
        """Return the newest deliveries that a prompt can be tried with."""
        page = await self._app.webhooks.received(webhook.id, TO_TRY)
        return [it for it in page.deliveries if it.size is not None]

    async def _webhook(self, request: Request) -> Webhook | None:
        """Return the webhook of the address, `None` where that is of a new one."""
        webhook_id = request.path_params.get("webhook_id")
        return None if webhook_id is None else await self._app.webhooks.get(webhook_id)


def _sample(form: Form) -> Sample:
    return Sample(form.text("delivery"), form.text("payload"))


def _was(webhook: Webhook, told: Told, form: Form | None) -> str:
    seen = webhook.updated_at.isoformat()
    return seen if form is None or told.status == ConflictError.status else form.text("was", seen)


def _instant(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    return None


def _said(text: str, warnings: Sequence[str]) -> Notice:
    return Notice(" ".join([text, *warnings])[:LONGEST_SAID], "note" if warnings else "ok")
