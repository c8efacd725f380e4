"""Every call of a tool, of runs and of whoever invokes one directly: what was given, what came of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.grants import BUILT_INS, split_name, tool_name
from claude_runner.runs import CallHits, CallQuery, Origin, ToolCall, Verdict
from claude_runner.servers import RUNNER
from claude_runner.web.dashboard._filters import Asked, Tab, given, is_day, tidy
from claude_runner.web.dashboard._rendering import Pages, live_parts, with_query
from claude_runner.web.dashboard._visible import visible
from claude_runner.web.dashboard._words import span

ROWS: Final = 40  # of a page
LINE: Final = 110  # characters of what a tool was given, in a line
VERDICTS: Final = {
    Verdict.OK: ("ok", "ok"),
    Verdict.ERROR: ("failed", "bad"),
    Verdict.DENIED: ("denied", "warn"),
    Verdict.OPEN: ("going on", "run"),
    Verdict.ABANDONED: ("abandoned", "skip"),
}  # each with its word and its colour
ORIGINS: Final = {Origin.RUN: "Runs", Origin.DIRECT: "Invoked directly"}


class CallLog:
    """The pages at `/calls`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        yield Route("/calls", self.show)
        yield Route("/calls/{call_id}", self.show_one)

    async def show(self, request: Request) -> Response:
        """Show the log."""
        if (elsewhere := tidy(request)) is not None:
            return elsewhere
        asked = Asked(request.query_params, await self._pages.zone())
        hits = await self._found(asked)
        filters, cursor = given(request, "cursor"), asked.text("cursor")
        is_whole = live_parts(request) is None
        shown: dict[str, Any] = {
            "calls": hits.calls,
            "looked_until": hits.looked_until,
            "newest": with_query("/calls", **filters) if cursor else "",
            "older": with_query("/calls", **filters, cursor=hits.next_cursor) if hits.next_cursor else "",
            "filters": filters,
            "errors": asked.errors,
            "follows": not cursor,
            "has_texts": is_whole,  # an open page has those it shows, and asks for the others as they are looked at
            **_WORDS,
        }
        if is_whole:
            shown |= {
                "tabs": _tabs(filters),
                "origins": list(ORIGINS.items()),
                "servers": [(name, name) for name in await self._servers()],
                "is_day": is_day,
            }
        return await self._pages.page(request, "calls.html", 422 if asked.errors else 200, **shown)

    async def show_one(self, request: Request) -> Response:
        """Show a call with all that is kept of it."""
        await self._app.invocations.settled()
        call = await self._app.runs.call(request.path_params["call_id"])
        return await self._pages.page(request, "call.html", call=call, **_WORDS)

    async def _found(self, asked: Asked) -> CallHits:
        query, cursor = _query(asked), asked.text("cursor")
        if asked.errors:
            return CallHits([], None)
        await self._app.invocations.settled()
        try:
            return await self._app.runs.call_log(query, ROWS, cursor)
        except InvalidError as error:
            asked.errors["cursor"] = str(error)
            return CallHits([], None)

    async def _servers(self) -> Sequence[str]:
        names = {server.name for server in await self._app.servers.list()}
        return sorted(names | {RUNNER})


def in_a_line(arguments: Mapping[str, Any]) -> str:
    """Return what a tool was given, as short as it can be told."""
    line = ", ".join(_told(value) for value in arguments.values())
    return line if len(line) <= LINE else line[: LINE - 1].rstrip() + "…"


def written_out(arguments: Mapping[str, Any]) -> str:
    """Return what a tool was given, to be read."""
    return visible(json.dumps(arguments, indent=2, ensure_ascii=False))


def took(call: ToolCall) -> str:
    """Return how long a call took."""
    if call.duration_ms is None or call.duration_ms >= 1000:
        return span(None if call.duration_ms is None else call.duration_ms / 1000)
    return f"{call.duration_ms:.0f} ms"


def short_name(call: ToolCall) -> str:
    """Return a tool's name without its server's."""
    split = split_name(call.tool)
    return call.tool if split is None else split[1]


_WORDS: Final = {
    "verdicts": VERDICTS,
    "in_a_line": in_a_line,
    "written_out": written_out,
    "visible": visible,
    "took": took,
    "short_name": short_name,
}


def _told(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(" ".join(text[: 2 * LINE].split()))


def _query(asked: Asked) -> CallQuery:
    server = asked.text("server")
    return CallQuery(
        run_id=asked.text("run"),
        server=server,
        tool=_full(asked.text("tool"), server),
        verdict=asked.one_of("verdict", Verdict),
        origin=asked.one_of("origin", Origin),
        since=asked.instant("since"),
        until=asked.instant("until"),
    )


def _full(tool: str | None, server: str | None) -> str | None:
    """Return the full name of a tool that was typed in whichever form."""
    if tool is None:
        return None
    if (split := split_name(tool)) is not None:
        return tool_name(*split)
    if server is not None:
        return tool_name(server, tool)
    return next((name for name in BUILT_INS if name.lower() == tool.lower()), tool)


def _tabs(filters: Mapping[str, Sequence[str]]) -> list[Tab]:
    others = {name: values for name, values in filters.items() if name != "verdict"}
    chosen = filters.get("verdict", ())
    every = Tab("All", with_query("/calls", **others), not chosen)
    narrowed = (
        Tab(word.capitalize(), with_query("/calls", **others, verdict=verdict), verdict in chosen)
        for verdict, (word, _) in VERDICTS.items()
    )
    return [every, *narrowed]
