"""Somebody who wishes something of the server and looks at what comes of it: the tools, and the dashboard's pages."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import Any, TypeVar

import httpx2
from fastmcp import Client

from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock, content

Found = TypeVar("Found")
PATIENCE = 60.0  # seconds
ONCE_A_YEAR = "0 9 1 1 *"


@dataclass(frozen=True)
class Person:
    """Somebody who talks to Claude, which has the server's tools, and who looks at the dashboard."""

    client: Client[Any]
    browser: httpx2.AsyncClient

    async def say(self, called: str, **arguments: Any) -> dict[str, Any]:
        return dict(content(await self.client.call_tool(called, arguments)))

    async def job(self, prompt: str, cron: str = ONCE_A_YEAR, /, **policy: Any) -> str:
        made = await self.say(
            "create_job",
            name="Watch",
            cron=cron,
            prompt=prompt,
            timezone="UTC",
            tools=["Read"],
            policy=policy,
        )
        assert set(made["policy"]["own"]) == set(policy)
        return str(made["id"])

    async def wish(self, job_id: str, /, **policy: Any) -> None:
        await self.say("update_job", job_id=job_id, policy=policy)

    async def page(self, its_id: str, of: str = "jobs") -> str:
        """What a job's or a run's page says, as it is read."""
        answer = await self.browser.get(f"/{of}/{its_id}")
        assert answer.status_code == 200, answer.text
        text = re.sub(r"<script.*?</script>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
        return " ".join(unescape(text).split())

    async def slot(self, job_id: str, fate: str) -> dict[str, Any]:
        """Wait until a slot has this fate."""

        async def look() -> dict[str, Any] | None:
            told = await self.say("why_didnt_it_run", job_id=job_id)
            return next((dict(slot) for slot in told["slots"] if slot["fate"] == fate), None)

        return await there_is(look)

    async def run(self, job_id: str, state: str, reason: str | None = None) -> dict[str, Any]:
        """Wait until a run of the job is in this state, for this reason where one is given; the newest such run."""

        async def look() -> dict[str, Any] | None:
            told = await self.say("list_runs", job_id=job_id, state=state)
            return next((dict(run) for run in told["runs"] if reason in {None, run["reason"]}), None)

        return await there_is(look)

    async def fates(self, job_id: str, around: str) -> list[tuple[str, int]]:
        told = await self.say("why_didnt_it_run", job_id=job_id, around=around)
        return [(slot["fate"], slot["count"]) for slot in told["slots"]]

    async def ended(self, run_id: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            run = await self.say("get_run", run_id=run_id)
            return None if run["state"] in {"pending", "running"} else run

        return await there_is(look)

    async def carried_out(self, job_id: str) -> dict[str, Any]:
        return await self.ended((await self.say("trigger_job", job_id=job_id))["run_id"])


async def there_is(look: Callable[[], Awaitable[Found | None]]) -> Found:
    """Ask another process, which can't tell by itself, until there is what is looked for."""
    async with asyncio.timeout(PATIENCE):
        while (found := await look()) is None:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
        return found


@asynccontextmanager
async def switched_on(
    settings: Settings, clock: FakeClock, agent: FakeAgent | None = None
) -> AsyncIterator[Person]:
    """Run the server on a clock that the test moves, for what takes minutes or hours; it is off afterwards."""
    async with (
        open_app(on_free_port(settings), agent=agent, clock=clock) as app,
        Client(await build_mcp(app)) as client,
        looking(app) as browser,
    ):
        yield Person(client, browser)
