"""What people wish of a job: each rule is set by tools alone, shown on the job's page, and seen to do what it says."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiosmtpd.controller import Controller
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from claude_runner.agent import Listener, Order, Stop
from claude_runner.config import Settings, SystemClock
from claude_runner.runs import Ending, State, Tokens
from tests.pages import BROWSER
from tests.scripted_model import ScriptedModel, Step, script, scripted_model
from tests.served import SERVER, variables
from tests.shipped import StandIn, open_stand_in
from tests.sites import free_port
from tests.support import FakeAgent, FakeClock
from tests.test_story import Postbox
from tests.wishes import PATIENCE, Person, switched_on, there_is

EACH_SECOND = "* * * * * *"
HANG: Step = {"hang": True}
LOOK: Step = {"tool": "Read", "input": {"file_path": "none.txt"}}


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[ScriptedModel]:
    async with scripted_model() as model:
        yield model


@pytest.fixture(scope="module")
async def person(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Person]:
    """Somebody whose server is a process of its own, reached over stdio, with the dashboard on a port."""
    home, port = tmp_path_factory.mktemp("runner"), free_port()
    environment = {"ANTHROPIC_BASE_URL": model.base_url, "ANTHROPIC_API_KEY": model.api_key}
    with_site = {"MCP_TRANSPORT": "both", "PORT": str(port), "SHUTDOWN_GRACE_SECONDS": "0"}
    transport = StdioTransport(
        sys.executable,
        [str(SERVER)],
        env=variables(home, **environment, **with_site),
        keep_alive=False,
        log_file=home / "server.log",
    )
    async with (
        Client(transport) as client,
        httpx2.AsyncClient(base_url=f"http://localhost:{port}", headers=BROWSER, timeout=PATIENCE) as browser,
    ):

        async def is_served() -> bool | None:
            with suppress(httpx2.ConnectError):
                return (await browser.get("/health")).is_success or None
            return None

        await there_is(is_served)
        yield Person(client, browser)


async def test_a_slot_that_comes_while_the_last_run_goes_on_is_left_out_waits_or_takes_its_place(
    person: Person,
) -> None:
    job_id = await person.job(script(HANG), EACH_SECOND, overlap="skip")
    first = await person.run(job_id, "running")
    assert "had not ended" in (await person.slot(job_id, "skipped_overlap"))["reason"]
    assert "While a run goes on the slot is skipped" in await person.page(job_id)

    await person.wish(job_id, overlap="queue_one")
    assert "While a run goes on one waits" in await person.page(job_id)
    waits = await person.run(job_id, "pending")

    await person.wish(job_id, overlap="cancel_running")
    assert "While a run goes on the older run is stopped" in await person.page(job_id)
    assert (await person.ended(first["id"]))["reason"] == "superseded"
    assert (await person.ended(waits["id"]))["state"] == "cancelled"
    newest = await person.run(job_id, "running")
    assert newest["id"] not in {first["id"], waits["id"]}
    await person.say("delete_job", job_id=job_id)


async def test_everything_a_job_and_a_time_of_the_week_are_paused_and_it_is_told_why_nothing_ran(
    person: Person,
) -> None:
    held = await person.say("pause_all", until="2099-11-30", reason="till Monday")
    assert [hold["kind"] for hold in held["holds"]] == ["paused"]
    job_id = await person.job("Look.", EACH_SECOND)
    assert "till Monday" in (await person.slot(job_id, "skipped_paused"))["reason"]
    assert "till Monday" in (await person.say("why_didnt_it_run", job_id=job_id))["answer"]

    today = SystemClock().now()
    days = [f"{today + timedelta(days=more):%a}" for more in (-1, 0, 1)]
    await person.wish(job_id, blackouts=days)
    assert (await person.say("resume_all"))["holds"] == []
    assert (await person.slot(job_id, "skipped_blackout"))["reason"]
    assert f"Not at {'; '.join(days)}" in await person.page(job_id)

    await person.say("pause_job", job_id=job_id, until="2099-12-24T09:00", reason="over the holidays")
    await person.wish(job_id, blackouts=None)
    assert "over the holidays" in await person.page(job_id)
    told = await person.say("why_didnt_it_run", job_id=job_id)
    assert "over the holidays" in told["answer"]
    assert (await person.say("list_runs", job_id=job_id))["runs"] == []
    await person.say("delete_job", job_id=job_id)


async def test_a_run_and_a_day_cost_what_they_may_and_it_is_told_who_spent_it(person: Person) -> None:
    dear: Step = {**LOOK, "output_tokens": 20_000}
    job_id = await person.job(script(dear, HANG), max_cost_usd=0.05)
    assert "A run may cost $0.05" in await person.page(job_id)
    run = await person.carried_out(job_id)
    assert (run["state"], run["reason"]) == ("error", "budget")
    assert run["cost_usd"] > 0.05

    await person.wish(job_id, max_cost_usd=None, max_cost_per_day_usd=0.1)
    await person.say("update_job", job_id=job_id, cron=EACH_SECOND)
    assert "budget" in (await person.slot(job_id, "skipped_budget"))["reason"]
    paused = (await person.say("get_job", job_id=job_id))["paused"]
    assert (paused["by"], paused["until"] is None) == ("budget", False)
    assert "A day may cost $0.10" in await person.page(job_id)
    [spent] = [row for row in (await person.say("get_usage", by="job"))["rows"] if row["key"] == job_id]
    assert spent["cost_usd"] == pytest.approx(run["cost_usd"], rel=0.01)
    await person.say("delete_job", job_id=job_id)


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    postbox = Postbox()
    post = Controller(postbox, hostname="127.0.0.1", port=postbox.port, ready_timeout=60)
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
    person: Person, model: ScriptedModel, postbox: Postbox, web: StandIn
) -> None:
    mail = {"EMAIL_PROVIDER": "smtp", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(postbox.port)}
    for key, value in (mail | {"SMTP_SECURITY": "none", "SENDER_EMAIL": "runner@example.com"}).items():
        await person.say("set_server_credential", server="email", key=key, value=value)
    chat = web.url.replace("http://", "json://")
    for name, url in (("mail", "email:alice@example.com"), ("chat", f"{chat}/chat")):
        await person.say("create_notification_channel", name=name, url=url)
    job_id = await person.job(
        "Report.",
        notify_after_failures=2,
        notify_channels=["mail", "chat"],
        heartbeat_url=f"{web.url}/ping/4711",
    )
    page = await person.page(job_id)
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
        assert (await person.carried_out(job_id))["reason"] == "invalid_request"

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
    assert (await person.carried_out(job_id))["state"] == "finished"
    await there_is(lambda: pinged("/ping/4711"))
    assert "/ping/4711/start" in paths()
    told = (await person.say("list_notifications"))["notifications"]
    assert {"failure", "recovery", "started", "ended"} == {each["event"] for each in told}
    await person.say("delete_job", job_id=job_id)


# What takes minutes or hours, on a clock that is moved: where it is of account, with the real Claude Code


async def test_what_came_while_the_machine_was_off_is_caught_up_and_a_run_that_was_cut_off_goes_on(
    owner: Settings, model: ScriptedModel
) -> None:
    clock, asked = FakeClock(), len(model.requests)
    model.default_script = [{"text": "Caught up."}]
    async with switched_on(owner, clock) as person:
        cut_off = await person.job(script(LOOK, HANG, {"text": "At last."}), on_crash="resume")
        run_id = (await person.say("trigger_job", job_id=cut_off))["run_id"]
        rules = {"overlap": "skip", "catch_up": "all", "catch_up_minutes": 1440}
        each = await person.job("Go.", "0 9,10 * * *", **rules)
        latest = await person.job("Go.", "0 9,10 * * *", catch_up="latest")
        none = await person.job("Go.", "0 9,10 * * *", catch_up="none")
        assert "After an outage all slots of the last 1440 minutes are caught up" in await person.page(each)
        assert "After an outage the latest slot is caught up" in await person.page(latest)
        assert "After an outage nothing is caught up" in await person.page(none)
        assert "If the server dies the run goes on where it was" in await person.page(cut_off)
        async with asyncio.timeout(PATIENCE):
            await model.asked(asked + 2)

    clock.move(timedelta(hours=3))
    async with switched_on(owner, clock) as person:
        done = await person.ended(run_id)
        assert (done["state"], done["output"], done["attempt"]) == ("finished", "At last.", 2)
        of_it = [it for it in model.requests[asked:] if "At last." in str(it.body["messages"])]
        assert {request.session_id for request in of_it} == {done["session_id"]}
        clock.move(timedelta(minutes=1))  # jobs that are caught up together start one after the other
        fates = [await person.fates(job_id, "2026-11-23T10:00") for job_id in (each, latest, none)]
        assert fates == [
            [("caught_up", 1), ("caught_up", 1)],
            [("missed", 1), ("caught_up", 1)],
            [("missed", 2)],
        ]
        for job_id, runs in ((each, 2), (latest, 1), (none, 0)):
            told = (await person.say("list_runs", job_id=job_id))["runs"]
            assert [run["trigger"] for run in told] == ["catch_up"] * runs
            for run in told:
                assert (await person.ended(run["id"]))["output"] == "Caught up."
        assert "want nothing caught up" in (await person.say("why_didnt_it_run", job_id=none))["answer"]


async def test_claude_is_asked_again_when_it_was_overloaded_and_after_a_usage_limit(
    owner: Settings, model: ScriptedModel
) -> None:
    resets = datetime(2030, 3, 17, 18, tzinfo=UTC)
    clock = FakeClock(resets - timedelta(hours=3))
    subscriber = {name: value for name, value in owner.environment.items() if name != "ANTHROPIC_API_KEY"}
    settings = replace(owner, environment=subscriber | {"CLAUDE_CODE_OAUTH_TOKEN": model.api_key})
    async with switched_on(settings, clock) as person:
        job_id = await person.job("Go.", max_retries=3)
        assert "What may pass is tried again, 3 times at most" in await person.page(job_id)
        model.default_script = [{"status": 529, "etype": "overloaded_error", "msg": "Overloaded"}]
        await person.say("trigger_job", job_id=job_id)
        waits = await person.run(job_id, "pending", "overloaded")
        assert "for its next attempt, as the last one failed" in await person.page(waits["id"], "runs")
        model.default_script = [{"text": "Well."}]
        clock.move(datetime.fromisoformat(waits["not_before"]) - clock.now())
        done = await person.ended(waits["id"])
        assert (done["state"], done["output"], done["attempt"]) == ("finished", "Well.", 2)

        limit: Step = {"status": 429, "etype": "rate_limit_error", "msg": "limit reached"}
        limit["headers"] = {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": str(int(resets.timestamp())),
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
        }
        limit |= {"times": 1, "then": {"text": "Went on."}}
        asked = len(model.requests)
        await person.say("update_job", job_id=job_id, prompt=script(LOOK, limit))
        await person.say("trigger_job", job_id=job_id)
        waits = await person.run(job_id, "pending", "usage_limit")
        goes_on = datetime.fromisoformat(waits["not_before"])
        assert resets < goes_on <= resets + timedelta(seconds=61)
        assert "for the end of Claude's usage limit" in await person.page(waits["id"], "runs")
        told = await person.say("get_run", run_id=waits["id"])
        assert told["waits_for"] == "the end of Claude's usage limit"
        clock.move(goes_on - clock.now())
        done = await person.ended(waits["id"])
        assert (done["state"], done["output"], done["attempt"]) == ("finished", "Went on.", 2)
        assert {request.session_id for request in model.requests[asked:]} == {done["session_id"]}


async def test_a_run_that_costs_three_times_the_usual_is_stopped_and_its_job_paused(tmp_path: Path) -> None:
    async def spend(order: Order, listener: Listener, stop: Stop) -> Ending:
        if len(agent.orders) <= 5:
            return await FakeAgent.say_done(order, listener, stop)  # for a cent
        listener.used(Tokens(output=20_000), "claude-sonnet-5-5", 0.2)
        return await FakeAgent.wait_for_stop(order, listener, stop)

    agent = FakeAgent(spend)
    async with switched_on(Settings(home=tmp_path), FakeClock(), agent) as person:
        job_id = await person.job("Go.", cost_breaker=3)
        assert "Stopped and paused above 3 times its usual cost" in await person.page(job_id)
        for _ in range(5):
            assert (await person.carried_out(job_id))["state"] == "finished"
        run = await person.carried_out(job_id)
        assert (run["state"], run["reason"]) == ("error", "budget")
        assert (await person.say("get_job", job_id=job_id))["paused"]["by"] == "cost_breaker"
        assert (await person.say("resume_job", job_id=job_id))["paused"] is None


async def test_a_job_runs_until_the_end_of_the_year_and_never_at_night(tmp_path: Path) -> None:
    new_years_eve = FakeClock(datetime(2026, 12, 31, 20, 30, tzinfo=UTC))
    async with switched_on(Settings(home=tmp_path), new_years_eve, FakeAgent()) as person:
        job_id = await person.job("Go.", "0 * * * *", ends_at="2026-12-31", blackouts=["22:00-06:00"])
        page = await person.page(job_id)
        assert "Until 31 Dec 2026, 23:59" in page
        assert "Not at 22:00-06:00" in page
        assert (await person.say("get_job", job_id=job_id))["next_runs"] == ["2026-12-31T21:00:00+00:00"]
        new_years_eve.move(timedelta(minutes=30))
        assert (await person.slot(job_id, "ran"))["run_id"]
        new_years_eve.move(timedelta(hours=1))
        assert "22:00-06:00" in (await person.slot(job_id, "skipped_blackout"))["reason"]
        new_years_eve.move(timedelta(hours=4))

        async def is_over() -> bool | None:
            return (await person.say("get_job", job_id=job_id))["next_run_at"] is None or None

        await there_is(is_over)
        assert len((await person.say("list_runs", job_id=job_id))["runs"]) == 1


async def test_runs_of_a_job_wait_for_each_other_or_go_on_side_by_side(tmp_path: Path) -> None:
    clock, settings = FakeClock(), Settings(home=tmp_path, max_concurrent_runs=4, shutdown_grace_seconds=0)
    async with switched_on(settings, clock, FakeAgent(FakeAgent.wait_for_stop)) as person:
        waiting = await person.job("Go.", "* * * * *", overlap="queue_all")
        side_by_side = await person.job("Go.", "* * * * *", overlap="allow")
        assert "While a run goes on all wait for their turn" in await person.page(waiting)
        assert "While a run goes on they run side by side" in await person.page(side_by_side)

        async def come_to(job_id: str, *states: str) -> None:
            async def look() -> bool | None:
                runs = (await person.say("list_runs", job_id=job_id))["runs"]
                return sorted(run["state"] for run in runs) == list(states) or None

            await there_is(look)

        clock.move(timedelta(minutes=1))
        await come_to(waiting, "running")
        await come_to(side_by_side, "running")
        clock.move(timedelta(minutes=1))
        await come_to(waiting, "pending", "running")
        await come_to(side_by_side, "running", "running")


async def test_a_job_stops_itself_after_two_failures_in_a_row(tmp_path: Path) -> None:
    async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        return Ending(State.ERROR, reason="agent_crashed", error="Claude Code ended unexpectedly")

    async with switched_on(Settings(home=tmp_path), FakeClock(), FakeAgent(fail)) as person:
        job_id = await person.job("Go.", pause_after_failures=2)
        assert "Pauses itself after 2 failures in a row" in await person.page(job_id)
        await person.carried_out(job_id)
        assert (await person.say("get_job", job_id=job_id))["paused"] is None
        await person.carried_out(job_id)
        assert (await person.say("get_job", job_id=job_id))["paused"]["by"] == "failures"
        assert "paused" in (await person.say("why_didnt_it_run", job_id=job_id))["answer"]


async def test_everything_together_costs_no_more_in_a_day_than_it_may(tmp_path: Path) -> None:
    clock = FakeClock()
    async with switched_on(Settings(home=tmp_path), clock, FakeAgent()) as person:
        await person.say("set_policies", budgets={"day_usd": 0.02})
        one, two = await person.job("Go."), await person.job("Go.", "0 10 * * *")
        for _ in range(2):
            assert (await person.carried_out(one))["cost_usd"] == 0.01
        refused = await person.carried_out(one)
        assert (refused["state"], refused["reason"]) == ("error", "budget")
        clock.move(timedelta(hours=1, minutes=1))
        assert (await person.slot(two, "skipped_budget"))["reason"]
        [today] = (await person.say("get_usage", by="day", **{"from": "2026-11-23"}))["rows"]
        assert today["cost_usd"] == pytest.approx(0.02)
        clock.move(timedelta(days=1))
        assert (await person.carried_out(one))["state"] == "finished"


async def test_what_is_to_be_done_once_or_every_so_often_starts_then_and_a_little_later_by_chance(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with switched_on(Settings(home=tmp_path), clock, FakeAgent()) as person:
        once = await person.job("Go.", "at 2026-11-23 10:00", jitter_seconds=600)
        often = await person.job("Go.", "every 90 minutes")
        assert "Starts up to 600 s later, by chance" in await person.page(once)
        assert (await person.say("get_job", job_id=once))["next_runs"] == ["2026-11-23T10:00:00+00:00"]
        clock.move(timedelta(minutes=60, seconds=31))
        waits = await person.run(once, "pending", "jitter")
        assert datetime.fromisoformat(waits["not_before"]) <= datetime(2026, 11, 23, 10, 10, tzinfo=UTC)
        assert (await person.say("get_job", job_id=once))["next_run_at"] is None
        clock.move(timedelta(minutes=29))
        assert (await person.ended(waits["id"]))["state"] == "finished"
        assert (await person.slot(often, "ran"))["run_id"]
