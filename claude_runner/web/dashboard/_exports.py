"""The runs that the list shows, all of them, as files."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import InvalidError
from claude_runner.runs import RunRow
from claude_runner.views.exports import CSV, runs_as_csv, runs_as_json
from claude_runner.web._downloads import download
from claude_runner.web.dashboard._filters import Asked
from claude_runner.web.dashboard._rendering import Pages
from claude_runner.web.dashboard._run_filters import run_query

JSON: Final = "application/json"

Writer = Callable[[AsyncIterator[Sequence[RunRow]], datetime], AsyncGenerator[bytes, None]]


class Exports:
    """The files `/runs.csv` and `/runs.json`, which take the filters of `/runs`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield their routes."""
        yield Route("/runs.csv", self.as_csv)
        yield Route("/runs.json", self.as_json)

    async def as_csv(self, request: Request) -> Response:
        """Send the runs as CSV."""
        return await self._file(request, runs_as_csv, CSV, "csv")

    async def as_json(self, request: Request) -> Response:
        """Send the runs as one list of JSON."""
        return await self._file(request, runs_as_json, JSON, "json")

    async def _file(self, request: Request, write: Writer, media: str, ending: str) -> Response:
        zone, now = await self._pages.zone(), self._app.clock.now()
        asked = Asked(request.query_params, zone)
        query = run_query(asked)
        for name, words in asked.errors.items():
            raise InvalidError(f"{name}: {words}", field=name)
        name = f"runs-{now.astimezone(zone):%Y-%m-%d}.{ending}"
        return await download(write(self._app.runs.export(query), now), media, name)
