"""Channels as somebody makes them, changes them, tries them and takes them away."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import ConflictError, NotFoundError, RunnerError
from claude_runner.notifications import EXAMPLES, Channel, Delivery
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._job_form import read_seen_at
from claude_runner.web.dashboard._rendering import Pages
from claude_runner.web.dashboard._visible import visible

PLACE: Final = "/notifications"
FIELDS: Final = frozenset({"name", "url"})
LONGEST_SAID: Final = 700  # characters of a notice, which travels in a cookie
STALE: Final = (
    "Somebody else has changed this channel since you opened it; it is called “{}” now. Nothing that you typed is "
    "lost: save again to store it."
)
GONE: Final = "This channel was deleted meanwhile. What you typed is here: saving it makes a new one."


class TypedChannel(NamedTuple):
    """A channel as it was typed; an address that is empty stays as it is."""

    name: str = ""
    url: str = ""

    @classmethod
    def read(cls, form: Form) -> "TypedChannel":
        """Return what was typed."""
        return cls(form.text("name"), form.text("url").strip())


class ChannelEditor:
    """The forms of channels."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        one = f"{PLACE}/channels/{{channel_id}}"
        yield Route(f"{PLACE}/channels/new", self.write)
        yield Route(f"{PLACE}/channels/new", self.create, methods=["POST"])
        yield Route(f"{one}/edit", self.edit)
        yield Route(f"{one}/edit", self.save, methods=["POST"])
        yield Route(f"{one}/test", self.test, methods=["POST"])
        yield Route(f"{one}/enable", self.enable, methods=["POST"])
        yield Route(f"{one}/disable", self.disable, methods=["POST"])
        yield Route(f"{one}/delete", self.delete, methods=["POST"])

    async def write(self, request: Request) -> Response:
        """Show the form of a new one."""
        return await self._page(request, None, TypedChannel())

    async def create(self, request: Request) -> Response:
        """Make it."""
        form = await read_form(request)
        typed = TypedChannel.read(form)

        async def do() -> str:
            await self._app.channels.add(typed.name, typed.url, self._app.clock.now())
            return PLACE

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._page(request, None, typed, error.status, _errors_of(error))
        return go_to(path, Notice(f"{typed.name.strip()} is told from now on. Send it a test to be sure."))

    async def edit(self, request: Request) -> Response:
        """Show the form of one as it is, but for its address."""
        channel = await self._app.channels.get(request.path_params["channel_id"])
        return await self._page(request, channel, TypedChannel(channel.name))

    async def save(self, request: Request) -> Response:
        """Change it, unless somebody else has meanwhile."""
        form, channel_id = await read_form(request), request.path_params["channel_id"]
        typed, seen = TypedChannel.read(form), read_seen_at(form.text("was"))
        changes: dict[str, Any] = {"name": typed.name} | ({"url": typed.url} if typed.url else {})

        async def do() -> str:
            await self._app.channels.change(channel_id, changes, self._app.clock.now(), was=seen)
            return PLACE

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except NotFoundError:
            return await self._page(request, None, typed, 404, {"": GONE})
        except RunnerError as error:
            return await self._refused(request, channel_id, typed, seen, error)
        return go_to(path, Notice(f"{typed.name.strip()} is saved."))

    async def _refused(
        self,
        request: Request,
        channel_id: str,
        typed: TypedChannel,
        seen: datetime | None,
        error: RunnerError,
    ) -> Response:
        channel = await self._app.channels.get(channel_id)
        errors = _errors_of(error)
        if isinstance(error, ConflictError) and error.field is None:
            return await self._page(request, channel, typed, error.status, {"": STALE.format(channel.name)})
        return await self._page(request, channel, typed, error.status, errors, seen)

    async def test(self, request: Request) -> Response:
        """Send a test through it at once, and tell what came of it."""
        form, said = await read_form(request), list[Notice]()
        channel = await self._app.channels.get(request.path_params["channel_id"])

        async def do() -> str:
            told = await self._app.channels.test(channel.id, self._app.clock.now())
            if told.state is Delivery.SENT:
                said.append(Notice(f"{channel.name} took the test: look whether it has come."))
            else:
                words = f"{channel.name} did not take the test: {visible(told.error or '')}"
                said.append(Notice(words[:LONGEST_SAID], "bad"))
            return PLACE

        return go_to(await self._pages.once.done(form.text("once"), do), *said)

    async def enable(self, request: Request) -> Response:
        """Have it told again; to do so twice is no harm."""
        return await self._switched(request, on=True)

    async def disable(self, request: Request) -> Response:
        """Have it told nothing."""
        return await self._switched(request, on=False)

    async def delete(self, request: Request) -> Response:
        """Delete it."""
        form, channel_id = await read_form(request), request.path_params["channel_id"]

        async def do() -> str:
            await self._app.channels.remove(channel_id, self._app.clock.now())
            return PLACE

        path = await self._pages.once.done(form.text("once"), do)
        return go_to(path, Notice("The channel is deleted; what still waited for it is not sent."))

    async def _switched(self, request: Request, *, on: bool) -> Response:
        channel = await self._app.channels.get(request.path_params["channel_id"])
        await self._app.channels.change(channel.id, {"enabled": on}, self._app.clock.now())
        what = "is told again" if on else "is told nothing; what waits for it is kept for three days"
        undo = f"{PLACE}/channels/{channel.id}/{'disable' if on else 'enable'}"
        return go_to(PLACE, Notice(f"{channel.name} {what}.", "ok", undo, "Undo"))

    async def _page(
        self,
        request: Request,
        channel: Channel | None,
        typed: TypedChannel,
        status: int = 200,
        errors: Mapping[str, str] = {},
        was: datetime | None = None,
    ) -> Response:
        seen = was or (None if channel is None else channel.updated_at)
        return await self._pages.page(
            request,
            "channel_form.html",
            status,
            channel=channel,
            typed=typed,
            errors=errors,
            was="" if seen is None else seen.isoformat(),
            place=f"{PLACE}/channels/{'new' if channel is None else channel.id + '/edit'}",
            examples=list(EXAMPLES.items()),
        )


def _errors_of(error: RunnerError) -> dict[str, str]:
    return {error.field if error.field in FIELDS else "": str(error)}
