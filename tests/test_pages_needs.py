"""What needs the owner, on the overview and for programs."""

import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner import holds, jobs, runs
from claude_runner.holds import HoldKind
from claude_runner.jobs import Pause, PausedBy
from claude_runner.notifications import Delivery
from claude_runner.runs import NewRun, Trigger
from claude_runner.views.needs import NeedKind, needs
from claude_runner.webhooks import WebhookDraft
from tests.pages import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Where nothing needs anybody at first, not even the server of mail its credentials."""
    async with open_site(tmp_path) as site:
        for server in await site.app.servers.enabled():
            await site.app.servers.enable(server.name, False, site.clock.now())  # noqa: FBT003 - off
        yield site


async def test_that_everything_is_paused_is_said_and_ended_there(site: Site) -> None:
    await site.app.pausing.pause_all(reason="moving house")
    page = await site.see("/")
    assert "Everything is paused" in page
    assert "moving house" in page
    await site.send("/resume-all")
    assert await site.app.pausing.held() == ()
    assert "Everything is paused" not in await site.see("/")


async def test_a_usage_limit_says_until_when_runs_wait(site: Site) -> None:
    now = site.app.clock.now()
    until = now + timedelta(hours=3)
    await site.app.database.write(
        lambda c: holds.hold(c, HoldKind.USAGE_LIMIT, until, "Claude's usage limit is reached", now)
    )
    page = await site.see("/")
    assert "Runs wait" in page
    assert "usage limit is reached" in page


async def test_a_job_that_paused_itself_says_why_and_one_that_its_owner_paused_does_not(site: Site) -> None:
    now = site.app.clock.now()
    failing, resting = await site.job(name="Failing"), await site.job(name="Resting")
    pause = Pause(now, None, PausedBy.FAILURES, "3 runs in a row have failed")
    await site.app.database.write(lambda c: jobs.pause(c, failing.id, pause))
    await site.app.pause_job(resting.id, reason="holidays")
    needs = (await site.see("/")).partition('id="needs"')[2].partition("</section>")[0]
    assert "paused: 3 runs in a row have failed" in needs
    assert f"/jobs/{failing.id}/resume" in needs
    assert "Resting" not in needs


async def ended(site: Site, error: str | None = None, cost_usd: float = 0, **whose: str) -> None:
    """Let a run be over that has cost so much, as far as the tables go."""
    now = site.clock.now()
    new = NewRun("go", Trigger.WEBHOOK, **whose)  # type: ignore[arg-type]
    state = "finished" if error is None else "error"

    def write(c: sqlite3.Connection) -> None:
        values = {"id": runs.insert(c, new, now), "state": state, "error": error, "cost": cost_usd}
        c.execute(
            "UPDATE runs SET state = :state, error = :error, reason = iif(:error IS NULL, NULL, 'timeout'),"
            " cost_usd = :cost, started_at = created_at, finished_at = created_at WHERE id = :id",
            values,
        )

    await site.app.database.write(write)


async def test_a_job_that_paused_itself_is_not_told_as_failing_as_well(site: Site) -> None:
    job = await site.job()
    pause = Pause(site.clock.now(), None, PausedBy.FAILURES, "3 runs in a row have failed")
    await ended(site, "the disk was full", job_id=job.id)
    assert [need.kind for need in await needs(site.app)] == [NeedKind.FAILING]
    await site.app.database.write(lambda c: jobs.pause(c, job.id, pause))
    assert [need.kind for need in await needs(site.app)] == [NeedKind.JOB_PAUSED]


async def test_budgets_are_told_once_most_of_them_is_used(site: Site) -> None:
    hook = await site.app.webhooks.add(WebhookDraft("Orders", "go"), site.clock.now())
    budgets = {"day_usd": 10, "month_usd": 1000, "webhook_day_usd": 8}
    await site.app.stored.change({"budgets": budgets})
    await ended(site, cost_usd=7.9, webhook_id=hook.id)
    page = await site.see("/")
    assert "Orders: today's budget" in page
    assert "$7.90 of $8.00 are spent" in page
    assert f'href="/webhooks/{hook.id}/edit"' in page
    assert "Today's budget" not in page
    await ended(site, cost_usd=2.2)
    day, webhook = await needs(site.app)
    assert (day.title, day.urgent, day.words) == ("Today's budget", True, "$10.10 of $10.00 are spent")
    assert not webhook.urgent


async def test_budgets_that_can_not_be_read_are_told(site: Site) -> None:
    update = """UPDATE settings SET value = '{"day_usd": "much"}' WHERE key = 'budgets'"""
    await site.app.database.write(lambda c: c.execute(update).rowcount)
    assert "the budgets can't be read, so nothing may be spent" in await site.see("/")


async def test_a_channel_that_takes_nothing_is_told_until_it_takes_something(site: Site) -> None:
    channel = await site.app.channels.add("phone", "json://127.0.0.1:9/x", site.clock.now())
    assert (await site.app.channels.test(channel.id, site.clock.now())).state is Delivery.FAILED
    [need] = await needs(site.app)
    assert (need.kind, need.channel_id, need.title) == (
        NeedKind.NOTIFICATIONS,
        channel.id,
        "Channel phone",
    )
    assert "what there is to tell is not taken" in await site.see("/")
    update = "UPDATE outbox SET state = 'sent', error = NULL"
    await site.app.database.write(lambda c: c.execute(update).rowcount)
    assert await needs(site.app) == []


async def test_a_run_that_waits_for_a_usage_limit_is_told_where_no_hold_tells_of_it(site: Site) -> None:
    job, now = await site.job(name="Digest"), site.clock.now()
    new = NewRun(
        "go", Trigger.SCHEDULE, job_id=job.id, not_before=now + timedelta(hours=3), reason="usage_limit"
    )
    run_id = await site.app.runs.add(new, now)
    [need] = await needs(site.app)
    assert (need.kind, need.run_id, need.title) == (NeedKind.PARKED, run_id, "Digest")
    assert f'href="/runs/{run_id}"' in await site.see("/")
    await site.app.database.write(lambda c: holds.hold(c, HoldKind.USAGE_LIMIT, None, "a limit", now))
    assert [each.kind for each in await needs(site.app)] == [NeedKind.HELD]


async def test_programs_are_told_just_what_the_page_tells(site: Site) -> None:
    await site.app.pausing.pause_all(reason="moving house")
    told = (await site.client.get("/api/overview")).json()["needs"]
    assert [(it["kind"], it["words"]) for it in told] == [("paused_all", "moving house")]
    assert "moving house" in await site.see("/")
