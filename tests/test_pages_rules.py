"""The rules of a job on its pages: shown with what stands for those that it leaves open, typed, refused and kept."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from claude_runner.jobs import CatchUp, NotifyOn, OnCrash, Overlap, Policy
from tests.pages import Site, open_site
from tests.test_pages_jobs import FORM, hidden

WHOLE = Policy(
    overlap=Overlap.QUEUE_ALL,
    catch_up=CatchUp.ALL,
    catch_up_minutes=90,
    jitter_seconds=30,
    starts_at=datetime(2026, 12, 1, 7, tzinfo=UTC),
    ends_at=datetime(2027, 2, 1, 7, 0, 30, tzinfo=UTC),
    blackouts=("Mon-Fri 22:00-06:00", "2026-12-24..2027-01-01"),
    max_retries=0,
    on_crash=OnCrash.RESUME,
    pause_after_failures=3,
    max_cost_usd=0.5,
    max_cost_per_day_usd=2.0,
    cost_breaker=2.5,
    notify_on=(NotifyOn.FAILURE, NotifyOn.SUCCESS),
    notify_after_failures=2,
    notify_channels=(),
    heartbeat_url="https://hc-ping.com/a-uuid",
)
TYPED: dict[str, Any] = {
    "overlap": "queue_all",
    "catch_up": "all",
    "catch_up_minutes": "90",
    "jitter_seconds": " 30 ",
    "starts_at": "2026-12-01T08:00",  # in Berlin
    "ends_at": "2027-02-01T08:00:30",
    "blackouts": "Mon-Fri  22:00-06:00\r\n\r\n2026-12-24..2027-01-01\r\n",
    "max_retries": "0",
    "on_crash": "resume",
    "pause_after_failures": "3",
    "max_cost_usd": "$0.50",
    "max_cost_per_day_usd": "2",
    "cost_breaker": "2.5",
    "notify_on_by": "own",
    "notify_on": ["failure", "success"],
    "notify_after_failures": "2",
    "notify_channels_by": "own",
    "heartbeat_url": "https://hc-ping.com/a-uuid",
}
BERLIN = FORM | {"timezone": "Europe/Berlin", "once": ""}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, "Europe/Berlin") as site:
        yield site


def as_typed(page: str) -> dict[str, Any]:
    """What a browser would send of the rules, had nothing been typed."""
    page = page[page.index('data-id="rules"') :]
    found: dict[str, Any] = dict(
        re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"(?=[^>]*autocomplete)', page)
    )
    found |= dict(re.findall(r'<input type="datetime-local"[^>]* name="(\w+)" value="([^"]*)"', page))
    for name, options in re.findall(r'<select[^>]* name="(\w+)"[^>]*>(.*?)</select>', page):
        found[name] = "".join(re.findall(r'value="(\w+)" selected', options))
    [found["blackouts"]] = re.findall(r'name="blackouts"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    for kind, name, value in re.findall(r'type="(radio|checkbox)" name="(\w+)" value="(\w*)" checked', page):
        found[name] = value if kind == "radio" else [*found.get(name, ()), value]
    return found


async def test_every_rule_is_typed_and_kept_and_shown_again_as_it_was_typed(site: Site) -> None:
    path = await site.sent("/jobs/new", **BERLIN | TYPED)
    job = await site.app.jobs.get(path.removeprefix("/jobs/"))
    assert job.policy == WHOLE

    page = await site.see(f"{path}/edit")

    assert '<details class="card rules-form" data-id="rules" open>' in page
    tidied = {"jitter_seconds": "30", "max_cost_usd": "0.5", "blackouts": "\n".join(WHOLE.blackouts)}
    assert as_typed(page) == TYPED | tidied
    await site.sent(f"{path}/edit", **BERLIN | as_typed(page) | {"name": "Other"})
    assert (await site.app.jobs.get(job.id)).policy == WHOLE


async def test_what_is_emptied_goes_back_to_the_default_and_the_rest_stays(site: Site) -> None:
    job = await site.job(timezone="Europe/Berlin", policy=WHOLE)
    emptied = dict.fromkeys(TYPED, "") | {"overlap": "queue_all", "notify_on_by": "own", "notify_on": ()}

    await site.sent(f"/jobs/{job.id}/edit", **BERLIN | emptied)

    kept = (await site.app.jobs.get(job.id)).policy
    assert kept == Policy(overlap=Overlap.QUEUE_ALL, notify_on=())


async def test_what_the_owner_decided_for_all_jobs_is_shown_where_a_job_decides_nothing(site: Site) -> None:
    rules = {"overlap": "queue_one", "max_retries": 4, "notify_on": ["failure"]}
    await site.app.stored.change({"job_defaults": rules, "budgets": {"run_usd": 3.5}})

    page = await site.see("/jobs/new")

    assert '<details class="card rules-form" data-id="rules">' in page
    assert "Default: one waits, more are skipped</option>" in page
    assert 'name="max_retries" value="" placeholder="default: 4"' in page
    assert 'name="max_cost_usd" value="" placeholder="default: 3.5"' in page
    assert 'name="max_cost_per_day_usd" value="" placeholder="default: no bound"' in page
    assert "Default: failures</span>" in page
    assert "Default: all channels</span>" in page


async def test_all_rules_that_can_not_be_used_are_said_at_their_fields_and_nothing_typed_is_lost(
    site: Site,
) -> None:
    job = await site.job()
    wrong = {
        "jitter_seconds": "soon",
        "max_retries": "11",
        "starts_at": "2026-13-01T08:00",
        "blackouts": "Mon-Fri 22:00-06:00\nnever",
        "max_cost_usd": "0",
        "cost_breaker": "nan",
        "heartbeat_url": "<script>",
        "notify_channels_by": "own",
        "notify_channels": ["pigeons"],
    }
    for path in ("/jobs/new", f"/jobs/{job.id}/edit"):
        answer = await site.send(path, **FORM | wrong | {"name": "Other"})
        page = unescape(answer.text)
        assert answer.status_code == 422
        for name in wrong.keys() - {"notify_channels_by", "notify_channels"}:
            assert re.search(rf'name="{name}"[^>]* aria-invalid="true"', answer.text), name
        assert 'jitter_seconds is "soon"; it must be a whole number' in page
        assert "max_retries is 11; give 0 to 10" in page
        assert "on the clock of UTC" in page
        assert 'there is no channel "pigeons"' in page
        assert 'name="max_retries" value="11"' in page
        assert "22:00-06:00\nnever</textarea>" in page
        assert 'value="pigeons" checked' in page
    assert [each.policy for each in await site.app.jobs.list()] == [Policy()]


@pytest.mark.parametrize(
    ("rules", "field", "sentence"),
    [
        ({"catch_up": "all", "overlap": "cancel_running"}, "catch_up", "choose another overlap"),
        ({"ends_at": "2026-11-20T08:00"}, "ends_at", "is past, so nothing would run"),
        ({"blackouts": "08:00-10:00"}, "blackouts", "every slot to come is in a blackout"),
        ({"max_cost_usd": "3", "max_cost_per_day_usd": "2"}, "max_cost_usd", "let the day's be as much"),
        ({"overlap": "perhaps"}, "overlap", "it must be skip, queue_one"),
    ],
)
async def test_rules_that_do_not_go_together_or_with_the_schedule_are_refused_at_one_of_them(
    site: Site, rules: dict[str, str], field: str, sentence: str
) -> None:
    answer = await site.send("/jobs/new", **FORM | rules)
    page = unescape(answer.text)
    assert answer.status_code == 422
    assert re.search(rf'name="{field}"[^>]* aria-invalid="true"', page)
    assert sentence in page


async def test_times_go_by_the_zone_that_is_typed_with_them(site: Site) -> None:
    job = await site.job(timezone="Europe/Berlin", policy=Policy(starts_at=WHOLE.starts_at))
    assert 'name="starts_at" value="2026-12-01T08:00"' in await site.see(f"/jobs/{job.id}/edit")

    tokyo = FORM | {"timezone": "Asia/Tokyo", "starts_at": "2026-12-01T08:00", "once": ""}
    await site.sent(f"/jobs/{job.id}/edit", **tokyo)

    starts_at = (await site.app.jobs.get(job.id)).policy.starts_at
    assert starts_at == datetime(2026, 11, 30, 23, tzinfo=UTC)


async def test_rules_that_somebody_else_changed_meanwhile_are_taken_over_and_the_typed_stay(
    site: Site,
) -> None:
    job = await site.job(policy=Policy(max_retries=1))
    page = await site.see(f"/jobs/{job.id}/edit")
    mine = FORM | as_typed(page) | {"was": hidden(page, "was"), "seen": hidden(page, "seen"), "once": ""}
    theirs = Policy(max_retries=2, overlap=Overlap.ALLOW, notify_channels=())
    await site.app.jobs.change(job.id, {"policy": theirs}, site.clock.now() + timedelta(minutes=1))

    answer = await site.send(f"/jobs/{job.id}/edit", **mine | {"max_retries": "5"})
    told = unescape(answer.text)

    assert answer.status_code == 409
    assert re.search(r'Try again</th><td><span class="clamp">2</span></td><td>yours', told)
    assert re.search(r'While a run goes on</th><td><span class="clamp">allow</span></td><td>theirs', told)
    assert re.search(r'Where it is told</th><td><span class="clamp">nothing</span></td><td>theirs', told)
    again = {"was": hidden(told, "was"), "seen": hidden(told, "seen")}
    await site.sent(f"/jobs/{job.id}/edit", **FORM | as_typed(told) | again | {"once": ""})
    saved = (await site.app.jobs.get(job.id)).policy
    assert saved == Policy(max_retries=5, overlap=Overlap.ALLOW, notify_channels=())


async def test_channels_are_chosen_by_their_names(site: Site) -> None:
    await site.app.channels.add("phone", "ntfy://alice", site.clock.now())
    page = await site.see("/jobs/new")
    assert 'name="notify_channels" value="phone"> phone' in page
    chosen = {"notify_channels_by": "own", "notify_channels": ["phone"], "once": ""}
    path = await site.sent("/jobs/new", **FORM | chosen)
    job = await site.app.jobs.get(path.removeprefix("/jobs/"))
    assert job.policy == Policy(notify_channels=("phone",))
    assert "<dd>phone</dd>" in await site.see(path)


async def test_the_page_of_a_job_says_all_its_rules_in_words(site: Site) -> None:
    job = await site.job(cron="0 9 * * *", timezone="Europe/Berlin", policy=WHOLE)
    page = await site.see(f"/jobs/{job.id}")
    for words in (
        "all wait for their turn",
        "all slots of the last 90 minutes are caught up",
        "up to 30 s later, by chance",
        "1 Dec 2026, 08:00",
        "1 Feb 2027, 08:00",
        "Mon-Fri 22:00-06:00; 2026-12-24..2027-01-01",
        "is not tried again",
        "the run goes on where it was",
        "after 3 failures in a row",
        "above 2.5 times its usual cost",
        "failures, every success",
        "are told from number 2 in a row on",
        "no channel",
        "hc-ping.com is pinged",
    ):
        assert f"{words}</dd>" in page
    assert "a-uuid" not in page
    assert f'href="/jobs/{job.id}/edit#rules"' in page


async def test_the_page_of_a_job_says_that_a_channel_which_it_names_is_gone(site: Site) -> None:
    channel = await site.app.channels.add("desk", "json://127.0.0.1:9/", site.app.clock.now())
    job = await site.job(policy=Policy(notify_channels=("desk",)))
    assert "desk</dd>" in await site.see(f"/jobs/{job.id}")
    await site.app.channels.remove(channel.id, site.app.clock.now())
    assert "all channels, as there is none called desk any more</dd>" in await site.see(f"/jobs/{job.id}")


async def test_the_preview_leaves_out_what_the_rules_do(site: Site) -> None:
    typed = {
        "cron": "0 9 * * *",
        "timezone": "UTC",
        "blackouts": "Tue,Wed\nnever",
        "starts_at": "2026-11-24T00:00",
    }
    shown = await site.see(f"/jobs/preview?{urlencode(typed | {'ends_at': '2026-11-28T09:00'})}")
    assert re.findall(r">(\w+ \d+ Nov 2026)", shown) == [
        "Thu 26 Nov 2026",
        "Fri 27 Nov 2026",
        "Sat 28 Nov 2026",
    ]
    typed |= {"ends_at": "2026-11-25T00:00"}
    assert "Nothing comes any more" in await site.see(f"/jobs/preview?{urlencode(typed)}")
