"""All tool servers on one page, and the page where one is made or added."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import RunnerError
from claude_runner.processes import confinement_problem
from claude_runner.servers import Kind
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._markdown import readable
from claude_runner.web.dashboard._rendering import Pages
from claude_runner.web.dashboard._server import ServerPage
from claude_runner.web.dashboard._server_calls import ServerCalls
from claude_runner.web.dashboard._server_code import ServerCode
from claude_runner.web.dashboard._server_forms import external_draft, refusal, without_secrets
from claude_runner.web.dashboard._server_states import NEW, Standing, State, standings

KINDS: Final = (
    (Kind.DYNAMIC, "Made here", "Python that you or Claude wrote"),
    (Kind.FIXED, "Built in", "They come with Claude Runner"),
    (Kind.EXTERNAL, "External", "Somebody else's: a command on this machine, or an address"),
)
EXTERNAL: Final = "external"
FIELDS: Final = frozenset({"name", "description", "code", "command", "args", "env_vars", "url", "headers"})
TEMPLATE: Final = '''\
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("clock")


@mcp.tool
def time_in(zone: str) -> str:
    """Tell what time it is in a time zone.

    Args:
        zone: Its name, such as Europe/Zurich.
    """
    try:
        now = datetime.now(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        raise ToolError(f"there is no time zone {zone!r}")
    return f"{now:%A, %H:%M}"


# A key is read inside a tool: os.environ.get("WEATHER_API_KEY"). It is then asked for as a credential.
# Files go into the folder DATA_DIR, a Path that is there without an import.
'''


class ServersPage:
    """The pages at `/servers` and `/servers/new`, and with them all that are below `/servers`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        yield Route("/servers", self.show)
        yield Route(f"/servers/{NEW}", self.new)
        yield Route(f"/servers/{NEW}", self.make, methods=["POST"])
        for each in (ServerPage, ServerCode, ServerCalls):
            yield from each(self._pages).routes()

    async def show(self, request: Request) -> Response:
        """Show the servers, or those of a state or with some words."""
        servers = await self._app.servers.list()
        of, problem = await standings(self._app, servers)
        state, words = request.query_params.get("state", ""), request.query_params.get("q", "").strip()
        matching = [it for it in of if _has(it, words)]
        shown = [it for it in matching if state in {"", it.state}]
        return await self._pages.page(
            request,
            "servers.html",
            groups=[(*kind, [it for it in shown if it.server.kind is kind[0]]) for kind in KINDS],
            shown=shown,
            in_all=len(of),
            states=_counted(matching),
            state=state,
            words=words,
            token_sum=sum(it.tokens for it in of if it.server.enabled),
            problem=problem,
            plain=readable,
            unconfined=await asyncio.to_thread(confinement_problem),
        )

    async def new(self, request: Request) -> Response:
        """Show the form for a server."""
        return await self._form(request, Form([("code", TEMPLATE)]))

    async def make(self, request: Request) -> Response:
        """Make a server of code, or add an external one."""
        form = await read_form(request)
        is_external = request.query_params.get("kind") == EXTERNAL
        return await self._made(request, form, self._add if is_external else self._create)

    async def _made(
        self, request: Request, form: Form, make: Callable[[Form], Awaitable[tuple[str, str]]]
    ) -> Response:
        name = form.text("name").strip()
        said = f"{name} is there."

        async def do() -> str:
            nonlocal said
            path, said = await make(form)
            return path

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._form(request, form, error)
        return go_to(path, Notice(said))

    async def _create(self, form: Form) -> tuple[str, str]:
        name = form.text("name").strip()
        made = await self._app.workshop.create(name, form.text("code"), form.text("description").strip())
        tools = f"{len(made.tools)} tool{'s' if len(made.tools) != 1 else ''}"
        return (
            f"/servers/{name}",
            f"{name} is made. It started in {made.start_seconds:.1f} s and has {tools}.",
        )

    async def _add(self, form: Form) -> tuple[str, str]:
        server = await self._app.workshop.add_external(external_draft(form))
        return (
            f"/servers/{server.name}",
            f"{server.name} is added. Have it list its tools to see that it works.",
        )

    async def _form(self, request: Request, form: Form, error: RunnerError | None = None) -> Response:
        kind = EXTERNAL if request.query_params.get("kind") == EXTERNAL else ""
        return await self._pages.page(
            request,
            "server_new.html",
            200 if error is None else error.status,
            kind=kind,
            form=without_secrets(form),
            **refusal(error, FIELDS),
        )


def _has(standing: Standing, words: str) -> bool:
    text = " ".join(
        [
            standing.server.name,
            standing.server.description,
            *(tool.info.name for tool in standing.tools or ()),
        ]
    ).casefold()
    return all(word in text for word in words.casefold().split())


def _counted(shown: Sequence[Standing]) -> list[tuple[State, int]]:
    """Return the states there are, each with how many servers are in it."""
    counts = Counter(it.state for it in shown)
    return [(state, counts[state]) for state in State if counts[state]]
