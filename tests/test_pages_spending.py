"""The page of spending: who spent what, the runs behind it, and how much of each budget is used."""

import json
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from claude_runner import runs
from claude_runner.jobs import Policy
from claude_runner.runs import NewRun, Trigger
from claude_runner.webhooks import WebhookDraft
from tests.pages import Site, open_site

SONNET, HAIKU = "claude-sonnet-5", "claude-haiku-5"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, "Europe/Berlin") as site:
        yield site


async def ended(
    site: Site, cost_usd: float | None, at: datetime | None = None, model: str = SONNET, **whose: Any
) -> str:
    """A run that has ended, as far as the tables go."""
    at = at or site.clock.now()
    new = NewRun("go", Trigger.WEBHOOK if "webhook_id" in whose else Trigger.MANUAL, **whose)
    usage = {model: {"inputTokens": 900, "outputTokens": 100, "costUSD": cost_usd, "costBasis": "list"}}

    def write(c: Any) -> str:
        run_id = runs.insert(c, new, at)
        c.execute(
            "UPDATE runs SET state = 'finished', output = '', cost_usd = :cost, model = :model, model_usage = :usage,"
            " input_tokens = 900, output_tokens = 100, started_at = created_at, finished_at = created_at"
            " WHERE id = :id",
            {"id": run_id, "cost": cost_usd, "model": model, "usage": json.dumps(usage)},
        )
        return run_id

    return str(await site.app.database.write(write))


def rows_of(page: str) -> list[tuple[str, str, str]]:
    """Each row: what it is of, what it cost, and where it leads."""
    table = page.partition("<table")[2].partition("</table>")[0]
    found = re.findall(
        r'<th scope="row"><a[^>]* href="([^"]+)">([^<]+)</a>.*?<td class="num">([^<]+)', table, re.DOTALL
    )
    return [(name, cost, unescape(link)) for link, name, cost in found]


async def test_jobs_webhooks_and_models_are_told_the_dearest_first_with_the_runs_behind_them(
    site: Site,
) -> None:
    cheap, dear = await site.job(name="Cheap"), await site.job(name="Dear")
    hook = await site.app.webhooks.add(WebhookDraft("Orders", "go"), site.clock.now())
    await ended(site, 0.5, job_id=cheap.id)
    expected = await ended(site, 2, job_id=dear.id)
    await ended(site, 0.25, model=HAIKU, webhook_id=hook.id)
    page = await site.see("/spending")
    assert "$2.75" in page
    (first, first_cost, link), (second, second_cost, _) = rows_of(page)
    assert [(first, first_cost), (second, second_cost)] == [("Dear", "$2.00"), ("Cheap", "$0.50")]
    assert "Runs without a job" in page
    assert expected in await site.see(link)
    [(name, cost, link)] = rows_of(await site.see("/spending?by=webhook"))
    assert (name, cost) == ("Orders", "$0.25")
    assert "1 run" in await site.see(link) or "go" in await site.see(link)
    models = rows_of(await site.see("/spending?by=model"))
    assert [(name, cost) for name, cost, _ in models] == [(SONNET, "$2.50"), (HAIKU, "$0.25")]
    behind = await site.see(models[0][2])
    assert expected in behind
    assert "Orders" not in behind.partition('id="found"')[2]


async def test_the_overviews_rate_of_success_leaves_out_what_was_cancelled(site: Site) -> None:
    await ended(site, 0.5)
    assert "0 of 1 failed</dd>" in await site.see("/")
    job = await site.job()
    await site.app.pausing.pause_all()
    await site.app.database.write(
        lambda c: runs.insert(c, NewRun("go", Trigger.SCHEDULE, job_id=job.id), site.clock.now())
    )
    [waits] = (await site.app.runs.list(runs.RunFilter(job_id=job.id), 1)).runs
    await site.app.dispatcher.cancel(waits.id)
    assert "0 of 1 failed, 1 cancelled</dd>" in await site.see("/")


async def test_days_are_those_of_the_owner_and_each_leads_to_its_runs(site: Site) -> None:
    """At 23:30 UTC it is the next day in Berlin."""
    late = site.clock.now().replace(hour=23, minute=30) - timedelta(days=3)
    run_id = await ended(site, 1.5, at=late)
    rows = {name: (cost, link) for name, cost, link in rows_of(await site.see("/spending?by=day"))}
    assert len(rows) == 30
    assert rows["2026-11-21"][0] == "$1.50"
    assert run_id in await site.see(rows["2026-11-21"][1])
    assert run_id not in await site.see(rows["2026-11-20"][1])


async def test_only_what_ended_in_the_time_that_is_asked_for_counts(site: Site) -> None:
    job = await site.job(name="Digest")
    await ended(site, 1, job_id=job.id)
    await ended(site, 4, at=site.clock.now() - timedelta(days=10), job_id=job.id)
    page = await site.see("/spending?since=2026-11-10&until=2026-11-15")
    assert [(name, cost) for name, cost, _ in rows_of(page)] == [("Digest", "$4.00")]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=soon", "give an instant such as"),
        ("since=2026-11-20&until=2026-11-10", "to is not later than from"),
        ("by=mood", "'mood' is none of job, webhook, model, day"),
        ("by=day&since=2001-01-01", "days can't be told one by one"),
    ],
)
async def test_what_can_not_be_told_says_why(site: Site, query: str, said: str) -> None:
    assert said in await site.see(f"/spending?{query}", 422)


async def test_how_much_of_each_budget_is_used_is_told_and_which_are_reached(site: Site) -> None:
    assert "No budget binds a day or a month" in await site.see("/spending")
    budgets = {"day_usd": 5, "month_usd": 100, "run_usd": 2}
    await site.app.stored.change({"budgets": budgets})
    job = await site.job(name="Digest", policy=Policy(max_cost_per_day_usd=2))
    await ended(site, 2, job_id=job.id)
    page = await site.see("/spending")
    budgets_part = page.partition('id="budgets"')[2].partition("</section>")[0]
    told = " ".join(re.sub(r"<[^>]+>", " ", budgets_part).split())
    assert "This month $2.00 of $100.00 Today $2.00 of $5.00 Digest, today reached $2.00 of $2.00" in told
    assert "Nothing more of it is begun until tomorrow 00:00" in told
    assert "Each run is stopped at $2.00" in told


async def test_runs_without_a_price_are_counted_apart(site: Site) -> None:
    await ended(site, None)
    page = await site.see("/spending")
    assert "1 run without a price" in page


async def test_where_nothing_has_run_the_page_says_what_will_be_there(site: Site) -> None:
    assert "No run has ended in this time" in await site.see("/spending")
