"""The dashboard as a browser without scripts sees it, served on a port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final

import httpx2
from fastmcp import FastMCP

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import Job
from tests.parts import drafted
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock

BROWSER: Final = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}


@asynccontextmanager
async def looking(app: App, *, follow_redirects: bool = False) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve the pages of an application, whose tools nobody asks for, and look at them."""
    async with (
        serving(app, FastMCP("no tools")) as origin,
        httpx2.AsyncClient(
            base_url=origin, headers=BROWSER, timeout=PATIENCE, follow_redirects=follow_redirects
        ) as client,
    ):
        yield client


@dataclass(frozen=True)
class Site:
    """The dashboard of an application whose clock stands still, at 08:59:30 UTC on a Monday, and who looks at it."""

    app: App
    clock: FakeClock
    client: httpx2.AsyncClient

    async def job(self, **changes: Any) -> Job:
        return await self.app.jobs.add(drafted(**changes), self.clock.now())

    async def see(self, path: str, status: int = 200) -> str:
        """What a page says."""
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return unescape(answer.text)

    async def send(self, path: str, **fields: Any) -> httpx2.Response:
        return await self.client.post(path, data=fields)

    async def sent(self, path: str, **fields: Any) -> str:
        """Send a form that is taken; where the browser goes next."""
        answer = await self.send(path, **fields)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])


@asynccontextmanager
async def open_site(home: Path, zone: str = "UTC", *, agent: FakeAgent | None = None) -> AsyncIterator[Site]:
    """Open an application on whose owner's clock it is the time of a zone, and look at its pages."""
    clock, settings = FakeClock(), on_free_port(Settings(home=home, shutdown_grace_seconds=0.1))
    async with open_app(settings, agent=agent or FakeAgent(), clock=clock) as app, looking(app) as client:
        await app.stored.change({"timezone": zone})
        yield Site(app, clock, client)
