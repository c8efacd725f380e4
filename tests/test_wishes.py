"""What people wish of a job: each rule is set by tools alone, shown on the job's page, and seen to do what it says."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from aiosmtpd.controller import Controller
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner.config import SystemClock
from tests.pages import BROWSER
from tests.scripted_model import ScriptedModel, Step, script, scripted_model
from tests.served import SERVER
from tests.shipped import StandIn, free_port, open_stand_in
from tests.support import content
from tests.test_story import Postbox

Found = TypeVar("Found")
PATIENCE = 60.0  # seconds
EACH_SECOND = "* * * * * *"
ONCE_A_YEAR = "0 9 1 1 *"
HANG: Step = {"hang": True}
LOOK: Step = {"tool": "Read", "input": {"file_path": "none.txt"}}


@dataclass(frozen=True)
class Owner:
    """Somebody who talks to Claude, which has the server's tools, and who looks at the dashboard."""

    client: Client[Any]
    browser: httpx2.AsyncClient

    async def say(self, called: str, **arguments: Any) -> dict[str, Any]:
        return dict(content(await self.client.call_tool(called, arguments)))

    async def job(self, prompt: str, cron: str = ONCE_A_YEAR, /, **policy: Any) -> str:
        made = await self.say(
            "create_job", name="Watch", cron=cron, prompt=prompt, tools=["Read"], policy=policy
        )
        assert set(made["policy"]["own"]) == set(policy)
        return str(made["id"])

    async def wish(self, job_id: str, /, **policy: Any) -> None:
        await self.say("update_job", job_id=job_id, policy=policy)

    async def page(self, job_id: str) -> str:
        """What the job's page says, as it is read."""
        answer = await self.browser.get(f"/jobs/{job_id}")
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


@dataclass(frozen=True)
class Machine:
    """Where the server runs whenever it is switched on.

    Attributes:
        home: The folder that is kept meanwhile.
        model: What its Claude Code asks.
        more: What else the server is started with.
    """

    home: Path
    model: ScriptedModel
    more: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def on(self) -> AsyncIterator[Owner]:
        """Start the server and talk to it; it ends with the conversation."""
        (self.home / "owner").mkdir(parents=True, exist_ok=True)
        port = free_port()
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home / "owner"),
            "RUNNER_HOME": str(self.home),
            "ANTHROPIC_BASE_URL": self.model.base_url,
            "ANTHROPIC_API_KEY": self.model.api_key,
            "MCP_TRANSPORT": "both",
            "PORT": str(port),
            "SHUTDOWN_GRACE_SECONDS": "0",
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE")},
            **self.more,
        }
        log = self.home / "server.log"
        transport = StdioTransport(
            sys.executable, [str(SERVER)], env=variables, keep_alive=False, log_file=log
        )
        async with (
            Client(transport) as client,
            httpx2.AsyncClient(
                base_url=f"http://localhost:{port}", headers=BROWSER, timeout=PATIENCE
            ) as browser,
        ):
            yield Owner(client, browser)


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest.fixture(scope="module")
async def owner(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Owner]:
    async with Machine(tmp_path_factory.mktemp("runner"), model).on() as owner:
        yield owner


async def test_a_slot_that_comes_while_the_last_run_goes_on_is_left_out_waits_or_takes_its_place(
    owner: Owner,
) -> None:
    job_id = await owner.job(script(HANG), EACH_SECOND, overlap="skip")
    first = await owner.run(job_id, "running")
    assert "had not ended" in (await owner.slot(job_id, "skipped_overlap"))["reason"]
    assert "While a run goes on the slot is skipped" in await owner.page(job_id)

    await owner.wish(job_id, overlap="queue_one")
    assert "While a run goes on one waits" in await owner.page(job_id)
    waits = await owner.run(job_id, "pending")

    await owner.wish(job_id, overlap="cancel_running")
    assert "While a run goes on the older run is stopped" in await owner.page(job_id)
    assert (await owner.ended(first["id"]))["reason"] == "superseded"
    assert (await owner.ended(waits["id"]))["state"] == "cancelled"
    newest = await owner.run(job_id, "running")
    assert newest["id"] not in {first["id"], waits["id"]}
    await owner.say("delete_job", job_id=job_id)


async def test_everything_a_job_and_a_time_of_the_week_are_paused_and_it_is_told_why_nothing_ran(
    owner: Owner,
) -> None:
    held = await owner.say("pause_all", until="2099-11-30", reason="till Monday")
    assert [hold["kind"] for hold in held["holds"]] == ["paused"]
    job_id = await owner.job("Look.", EACH_SECOND)
    assert "till Monday" in (await owner.slot(job_id, "skipped_paused"))["reason"]
    assert "till Monday" in (await owner.say("why_didnt_it_run", job_id=job_id))["answer"]

    today = SystemClock().now()
    days = [f"{today + timedelta(days=more):%a}" for more in (-1, 0, 1)]
    await owner.wish(job_id, blackouts=days)
    assert (await owner.say("resume_all"))["holds"] == []
    assert (await owner.slot(job_id, "skipped_blackout"))["reason"]
    assert f"Not at {'; '.join(days)}" in await owner.page(job_id)

    await owner.say("pause_job", job_id=job_id, until="2099-12-24T09:00", reason="over the holidays")
    await owner.wish(job_id, blackouts=None)
    assert "over the holidays" in await owner.page(job_id)
    told = await owner.say("why_didnt_it_run", job_id=job_id)
    assert "over the holidays" in told["answer"]
    assert (await owner.say("list_runs", job_id=job_id))["runs"] == []
    await owner.say("delete_job", job_id=job_id)


async def test_a_run_and_a_day_cost_what_they_may_and_it_is_told_who_spent_it(owner: Owner) -> None:
    dear: Step = {**LOOK, "output_tokens": 20_000}
    job_id = await owner.job(script(dear, HANG), max_cost_usd=0.05)
    assert "A run may cost $0.05" in await owner.page(job_id)
    run = await owner.carried_out(job_id)
    assert (run["state"], run["reason"]) == ("error", "budget")
    assert run["cost_usd"] > 0.05

    await owner.wish(job_id, max_cost_usd=None, max_cost_per_day_usd=0.1)
    await owner.say("update_job", job_id=job_id, cron=EACH_SECOND)
    assert "budget" in (await owner.slot(job_id, "skipped_budget"))["reason"]
    paused = (await owner.say("get_job", job_id=job_id))["paused"]
    assert (paused["by"], paused["until"] is None) == ("budget", False)
    assert "A day may cost $0.10" in await owner.page(job_id)
    [spent] = [row for row in (await owner.say("get_usage", by="job"))["rows"] if row["key"] == job_id]
    assert spent["cost_usd"] == pytest.approx(run["cost_usd"], rel=0.01)
    await owner.say("delete_job", job_id=job_id)


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    postbox = Postbox()
    post = Controller(postbox, hostname="127.0.0.1", port=postbox.port, ready_timeout=20)
    post.start()
    yield postbox
    post.stop()


@pytest.fixture
async def web() -> AsyncIterator[StandIn]:
    """The chat's webhook and the monitor that watches heartbeats."""
    async with open_stand_in() as web:
        web.answers("ok")
        yield web


async def test_two_failures_in_a_row_are_mailed_and_posted_and_a_monitor_hears_each_run(
    owner: Owner, model: ScriptedModel, postbox: Postbox, web: StandIn
) -> None:
    mail = {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(postbox.port)}
    for key, value in (mail | {"SMTP_SECURITY": "none", "SENDER_EMAIL": "runner@example.com"}).items():
        await owner.say("set_server_credential", server="email", key=key, value=value)
    chat = web.url.replace("http://", "json://")
    for name, url in (("mail", "email:alice@example.com"), ("chat", f"{chat}/chat")):
        await owner.say("create_notification_channel", name=name, url=url)
    job_id = await owner.job(
        "Report.",
        notify_after_failures=2,
        notify_channels=["mail", "chat"],
        heartbeat_url=f"{web.url}/ping/4711",
    )
    page = await owner.page(job_id)
    assert "Failures are told from number 2 in a row on" in page
    assert "By mail, chat" in page
    assert "Heartbeat 127.0.0.1 is pinged" in page

    def paths() -> list[str]:
        return [request.url.path for request, _ in web.requests]

    async def pinged(path: str) -> bool | None:
        return path in paths() or None

    model.default_script = [{"status": 400, "etype": "invalid_request_error", "msg": "The script says so."}]
    for _ in range(2):
        assert (postbox.mail, "/chat" in paths()) == ([], False)
        assert (await owner.carried_out(job_id))["reason"] == "invalid_request"

    async def posted() -> dict[str, Any] | None:
        return next((json.loads(body) for it, body in web.requests if it.url.path == "/chat"), None)

    async def mailed() -> Any:
        return postbox.mail or None

    assert "in a row" in str(await there_is(posted))
    [arrived] = await there_is(mailed)
    assert arrived["To"] == "alice@example.com"
    assert "Watch failed" in arrived["Subject"]
    await there_is(lambda: pinged("/ping/4711/fail"))

    model.default_script = [{"text": "Well again."}]
    assert (await owner.carried_out(job_id))["state"] == "finished"
    await there_is(lambda: pinged("/ping/4711"))
    assert "/ping/4711/start" in paths()
    told = (await owner.say("list_notifications"))["notifications"]
    assert {"failure", "recovery", "started", "ended"} == {each["event"] for each in told}
    await owner.say("delete_job", job_id=job_id)
