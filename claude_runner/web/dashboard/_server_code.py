"""A server's code: the versions there are, what differs between them, going back to one, and changing it."""

import asyncio
import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import ConflictError, InvalidError, RunnerError
from claude_runner.servers import Kind, Server, Version
from claude_runner.web.dashboard._filters import whole
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._markdown import readable
from claude_runner.web.dashboard._rendering import SECURE, Pages
from claude_runner.web.dashboard._server import standing_of
from claude_runner.web.dashboard._server_forms import refusal

MOST_LINES: Final = 3_000  # of code that are shown; the file has all
MOST_COMPARED: Final = 2_000  # lines that are neither in both at the beginning nor at the end
MOST_VERSIONS: Final = 50
CONTEXT: Final = 3  # lines around a change

_CLASSES: Final = {"+": "added", "-": "gone", "@": "place"}
_PLACE: Final = re.compile(r"@@ -(\d+)")


class Line(NamedTuple):
    """A line of code, or of what differs."""

    css: str
    text: str


class ServerCode:
    """The pages at `/servers/{name}/code` and `/servers/{name}/edit`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        path = "/servers/{name}"
        yield Route(f"{path}/code", self.show)
        yield Route(f"{path}/code.py", self.file)
        yield Route(f"{path}/back", self.go_back, methods=["POST"])
        yield Route(f"{path}/edit", self.edit)
        yield Route(f"{path}/edit", self.change, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show the code of a version, or what differs between it and the current one."""
        return await self._page(request)

    async def file(self, request: Request) -> Response:
        """Answer with the code of a version as a file."""
        server = await self._server(request)
        version = _version_asked(request)
        code = await self._app.servers.code(server.name, version)
        name = server.name if version is None else f"{server.name}-{version}"
        headers = SECURE | {"Content-Disposition": f'attachment; filename="{name}.py"'}
        return Response(code.encode("utf-8", "replace"), headers=headers, media_type="text/x-python")

    async def go_back(self, request: Request) -> Response:
        """Make an earlier version the current one; where it does not start, everything stays as it is."""
        server, form = await self._server(request), await read_form(request)
        version = form.number("version")

        async def do() -> str:
            await self._app.workshop.change(server.name, version=version)
            return f"/servers/{server.name}/code"

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._page(request, error.status, version=version, problem=str(error))
        return go_to(path, Notice(f"{server.name} has the code of version {version} again."))

    async def edit(self, request: Request) -> Response:
        """Show the form that changes the code."""
        server = await self._server(request)
        await self._app.servers.versions(server.name)  # refuses what is not made here
        code = await self._app.servers.code(server.name)
        shown = [("code", code), ("description", server.description), ("was", server.fingerprint)]
        return await self._form(request, server, Form(shown))

    async def change(self, request: Request) -> Response:
        """Change the code and the description, unless somebody else did meanwhile."""
        server, form = await self._server(request), await read_form(request)

        async def do() -> str:
            code = form.text("code")
            is_new = code != await self._app.servers.code(server.name)
            description = form.text("description").strip()
            await self._app.workshop.change(
                server.name, code=code if is_new else None, description=description
            )
            return f"/servers/{server.name}"

        try:
            if form.text("was") != server.fingerprint and not form.ticked("anyway"):
                raise _StaleError("its code was changed since you opened this page")
            path = await self._pages.once.done(form.text("once"), do)
        except RunnerError as error:
            return await self._form(request, server, form, error)
        return go_to(path, Notice(f"{server.name} is changed."))

    async def _server(self, request: Request) -> Server:
        return await self._app.servers.get(request.path_params["name"])

    async def _page(
        self, request: Request, status: int = 200, *, version: int | None = None, problem: str | None = None
    ) -> Response:
        standing = await standing_of(self._pages, request)
        server = standing.server
        version = version or _version_asked(request)
        versions: Sequence[Version] = ()
        if server.kind is Kind.DYNAMIC and server.folder is not None:
            versions = await self._app.servers.versions(server.name)
        current = versions[-1].number if versions else None
        if version == current:
            version = None
        code = await self._app.servers.code(server.name, version)
        compared = version is not None and "diff" in request.query_params
        lines: list[Line] | None
        if compared:
            now = await self._app.servers.code(server.name)
            lines = await asyncio.to_thread(differing, now, code)
        else:
            lines = [Line("line", line) for line in _split(code)]
        return await self._pages.page(
            request,
            "server_code.html",
            status,
            standing=standing,
            versions=versions[::-1][:MOST_VERSIONS],
            current=current,
            number=version,
            compared=compared,
            lines=None if lines is None else lines[:MOST_LINES],
            left=0 if lines is None else max(len(lines) - MOST_LINES, 0),
            problem=problem,
        )

    async def _form(
        self, request: Request, server: Server, form: Form, error: RunnerError | None = None
    ) -> Response:
        return await self._pages.page(
            request,
            "server_edit.html",
            200 if error is None else error.status,
            server=server,
            form=form,
            stale=isinstance(error, _StaleError),
            **refusal(error, {"code", "description"}),
        )


class _StaleError(ConflictError):
    """Somebody else was first."""


def differing(one: str, other: str) -> list[Line] | None:
    """Return what differs between two texts, as a unified diff; `None` where too much does to be compared."""
    ones, others = _split(one), _split(other)
    first = _in_common(ones, others)
    last = _in_common(ones[first:][::-1], others[first:][::-1])
    if max(len(ones), len(others)) - first - last > MOST_COMPARED:
        return None
    begin = max(first - CONTEXT, 0)
    tail = max(last - CONTEXT, 0)
    found = difflib.unified_diff(
        ones[begin : len(ones) - tail], others[begin : len(others) - tail], n=CONTEXT, lineterm=""
    )
    return [_line(line, begin) for line in list(found)[2:]]


def _line(line: str, skipped: int) -> Line:
    """Return a line of a unified diff; of the place of a change, what people call it."""
    css = _CLASSES.get(line[:1], "same")
    if css == "place" and (at := _PLACE.match(line)) is not None:
        return Line(css, f"from line {int(at[1]) + skipped}")
    return Line(css, line)


def _in_common(ones: Sequence[str], others: Sequence[str]) -> int:
    """Return how many lines two texts have in common at their beginning."""
    pairs = enumerate(zip(ones, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ones), len(others)))


def _split(code: str) -> list[str]:
    return [readable(line) for line in code.removesuffix("\n").split("\n")]


def _version_asked(request: Request) -> int | None:
    asked = request.query_params.get("version", "")
    if not asked:
        return None
    version = whole(asked, 6)
    if version is None:
        raise InvalidError(f"{asked[:40]!r} is no version", field="version")
    return version
