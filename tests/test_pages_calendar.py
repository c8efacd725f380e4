"""The calendar: a month of slots and one day, done and to come."""

import gzip
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from claude_runner import jobs
from claude_runner.jobs import Fate, Job, Occurrence
from tests.pages import Site, open_site
from tests.support import MORNING, ended, until

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TODAY = datetime(2026, 11, 23, tzinfo=UTC)  # a Monday


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
async def still(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """What tests share that change nothing in it."""
    async with open_site(tmp_path_factory.mktemp("still")) as site:
        yield site


async def became(site: Site, job: Job, at: datetime, fate: Fate, **more: Any) -> None:
    """Write down what became of a slot."""
    occurrence = Occurrence(at, fate, **more)
    await site.app.database.write(lambda c: jobs.record(c, job.id, occurrence))


def told(page: str, day: str) -> str:
    """What the month says of a day."""
    match = re.search(rf'<a href="/calendar/{day}" aria-label="[^:"]*: ([^"]*)"', page)
    assert match is not None
    return match[1]


# A month


async def test_a_month_without_jobs_has_nothing_on_any_day(still: Site) -> None:
    page = await still.see("/calendar")
    assert "<h1>November 2026</h1>" in page
    assert page.count('<td data-id="') == 42
    assert told(page, "2026-11-30") == "nothing"


async def test_the_days_to_come_tell_how_often_jobs_fire(site: Site) -> None:
    await site.job(cron="0 9 * * 1-5")
    await site.job(cron="0 9 * * 1-5")
    await site.job(cron="*/10 * * * * *")
    await site.job(cron="0 8 * * *", enabled=False)

    page = await site.see("/calendar")

    assert told(page, "2026-11-24") == "8,642 to come"
    assert told(page, "2026-11-28") == "8,640 to come"  # a Saturday
    assert told(page, "2026-11-23") == f"{2 + 15 * 360:,} to come"  # from the next full minute on
    assert told(page, "2026-11-22") == "nothing"


async def test_the_days_that_have_been_tell_what_became_of_slots_and_what_they_cost(site: Site) -> None:
    job = await site.job()
    await ended(site.app, (await site.app.trigger(job.id)).id)
    await became(site, job, TODAY - DAY, Fate.MISSED, count=3, until=TODAY - HOUR)
    await became(site, job, TODAY - 2 * DAY, Fate.SKIPPED_OVERLAP)

    page = await site.see("/calendar")

    assert told(page, "2026-11-23") == "1 succeeded, 1 to come, $0.01"
    assert told(page, "2026-11-22") == "3 missed"
    assert told(page, "2026-11-21") == "1 skipped"
    assert re.search(r'class=" today"><a href="/calendar/2026-11-23"[^>]* aria-current="date"', page)


async def test_a_day_is_the_owners(site: Site) -> None:
    await site.app.stored.change({"timezone": "Pacific/Auckland"})  # where it is 21:59 on the 23rd
    await site.job(cron="0 11 * * *", timezone="UTC")
    page = await site.see("/calendar")
    assert told(page, "2026-11-23") == "nothing"
    assert told(page, "2026-11-24") == "1 to come"


@pytest.mark.parametrize(
    ("zone", "month", "day", "count"),
    [
        ("Europe/Berlin", "2027-03", "2027-03-28", 23),
        ("Europe/Berlin", "2027-10", "2027-10-31", 25),
        ("Africa/Cairo", "2027-04", "2027-04-30", 23),  # whose midnight the clock skips
        ("Australia/Lord_Howe", "2027-04", "2027-04-04", 25),  # half an hour more
    ],
)
async def test_the_days_that_the_clocks_are_changed_have_their_hours(
    site: Site, zone: str, month: str, day: str, count: int
) -> None:
    await site.app.stored.change({"timezone": zone})
    await site.job(cron="15 * * * *", timezone="UTC")
    await site.job(cron="30 2 * * *", timezone=zone)
    assert told(await site.see(f"/calendar?month={month}"), day) == f"{count + 1} to come"
    chart = await site.see(f"/calendar/{day}")
    assert chart.count('class="slot" href="/calendar/') == count


async def test_one_leafs_from_month_to_month(still: Site) -> None:
    page = await still.see("/calendar?month=2026-12")
    assert "<h1>December 2026</h1>" in page
    assert 'rel="prev" href="/calendar?month=2026-11"' in page
    assert 'rel="next" href="/calendar?month=2027-01"' in page
    assert 'rel="prev"' not in await still.see("/calendar?month=2000-01")
    assert 'rel="next"' not in await still.see("/calendar?month=2100-12")


@pytest.mark.parametrize("month", ["2026-13", "soon", "1999-12", "2101-01", "2026-1", "0000-00", "<b>"])
async def test_a_month_that_is_none_is_said_and_this_one_is_shown(still: Site, month: str) -> None:
    page = await still.see(f"/calendar?{urlencode({'month': month})}", 422)
    assert 'role="alert"' in page
    assert "<h1>November 2026</h1>" in page


async def test_an_open_month_is_asked_for_in_few_bytes(site: Site) -> None:
    await site.job(cron="*/5 * * * *")
    for number in range(42):
        job = await site.job(name=f"Job {number}")
        await became(site, job, MORNING - number * DAY, Fate.MISSED)
        await became(site, job, MORNING - number * DAY + HOUR, Fate.SKIPPED_PAUSED)
    answer = await site.client.get("/calendar", headers={"X-Live": "month"})
    assert len(gzip.compress(answer.content, 3)) <= 5 * 1024


# A day


async def test_a_day_shows_its_slots_in_order_with_what_became_of_them(site: Site) -> None:
    late, early = await site.job(name="Late"), await site.job(name="Early <b>")
    await became(site, late, TODAY - HOUR, Fate.MISSED, reason="no server was at work")
    await became(
        site, early, TODAY - 20 * HOUR, Fate.SKIPPED_OVERLAP, reason="the last run was still going on"
    )

    raw = (await site.client.get("/calendar/2026-11-22")).text
    page = unescape(raw)

    assert re.findall(r'<th scope="row"><a href="/jobs/\w+">([^<]*)', page)[:2] == ["Early ", "Late"]
    assert "Early &lt;b&gt;" in raw
    assert "no server was at work" in page
    assert "the last run was still going on" in page
    assert '<span class="badge warn">missed</span>' in page


async def test_a_slot_that_ran_leads_to_its_run(site: Site) -> None:
    job = await site.job(name="Prompt one", cron="0 9 * * *")
    site.clock.move(MINUTE)

    async def has_run() -> bool:
        return (await site.app.jobs.row(job.id)).runs == 1

    await until(has_run, site.app)
    page = await site.see("/calendar/2026-11-23")
    assert re.search(r'<a class="badge ok" href="/runs/\w+">succeeded</a>', page)
    assert "$0.01" in page


async def test_many_slots_of_an_hour_that_are_alike_are_one_entry(site: Site) -> None:
    job = await site.job(name="Often")
    for number in range(20):
        await became(site, job, TODAY - DAY + number * MINUTE, Fate.MISSED, reason="asleep")
    page = await site.see("/calendar/2026-11-22")
    assert page.count('<th scope="row"><a href="/jobs/') == 1
    assert '<span class="muted">20 times</span>' in page


async def test_several_slots_that_were_written_as_one_say_how_many(site: Site) -> None:
    job = await site.job()
    await became(site, job, TODAY - 2 * DAY, Fate.MISSED, count=None, until=TODAY - HOUR)
    page = await site.see("/calendar/2026-11-22")
    assert "more than 100 times" in page
    assert "21 Nov 00:00" in page


async def test_a_day_with_more_slots_than_are_shown_goes_on_later(site: Site) -> None:
    job = await site.job(name="Often")
    for number in range(700):
        await became(site, job, TODAY - DAY + number * MINUTE, Fate.MISSED, reason=f"reason {number}")
    path, seen = "/calendar/2026-11-22", []
    for _ in range(8):
        page = await site.see(path)
        seen += re.findall(r"reason (\d+)", page)
        found = re.search(r'rel="next" href="(/calendar/2026-11-22\?from=[^"]*)">Later', page)
        if found is None:
            break
        path = found[1]
    assert list(map(int, seen)) == list(range(700))


async def test_hundreds_of_slots_at_one_instant_do_not_hold_the_day_up(site: Site) -> None:
    for number in range(121):
        job = await site.job(name=f"Job {number}")
        await became(site, job, TODAY - DAY + HOUR, Fate.MISSED)
    page = await site.see("/calendar/2026-11-22")
    assert 'href="/calendar/2026-11-22?from=2026-11-22T01%3A00%3A01Z">Later' in page


async def test_what_is_to_come_is_listed_and_what_comes_often_is_one_entry(site: Site) -> None:
    await site.job(name="Daily", cron="0 21 * * *")
    await site.job(name="Ten seconds", cron="*/10 * * * * *")
    await site.job(name="Spoiled", cron="0 22 * * *")
    await site.app.database.write(
        lambda c: c.execute("UPDATE jobs SET cron = 'now and then' WHERE name = 'Spoiled'").rowcount
    )

    page = await site.see("/calendar/2026-11-24")

    assert "8,640 times" in page
    assert re.search(
        r'title="Tue 24 Nov 2026, 21:00:00 UTC">21:00</time></td><th scope="row"><a[^>]*>Daily', page
    )
    assert "Spoiled" not in page
    assert "What became of its slots" not in page


async def test_today_begins_with_what_was_and_goes_on_with_what_comes(site: Site) -> None:
    job = await site.job(name="Hourly", cron="0 * * * *")
    await became(site, job, TODAY + 8 * HOUR, Fate.MISSED)
    page = await site.see("/calendar/2026-11-23")
    assert page.index("What became of its slots") < page.index("To come</h2>")
    assert page.count(">Hourly</a>") == 1 + 15


async def test_an_hour_of_a_day_is_an_address_of_its_own(site: Site) -> None:
    await site.job(name="Hourly", cron="0 * * * *")
    page = await site.see("/calendar/2026-11-24?" + urlencode({"from": "2026-11-24T20:00:00Z"}))
    assert page.count(">Hourly</a>") == 4
    assert "From Tue 24 Nov 2026, 20:00:00 UTC on" in page
    assert 'role="alert"' in await site.see("/calendar/2026-11-24?from=later", 422)


async def test_a_day_with_nothing_says_so(still: Site) -> None:
    assert "No job was due on this day" in await still.see("/calendar/2026-11-01")
    assert "No job is due on this day" in await still.see("/calendar/2026-12-01")


@pytest.mark.parametrize("day", ["2026-02-30", "yesterday", "1999-12-31", "2101-01-01", "2026-11"])
async def test_what_is_no_day_is_not_found(still: Site, day: str) -> None:
    assert "is no day that is shown" in await still.see(f"/calendar/{day}", 404)


@pytest.mark.parametrize("part", ["hours", "slots"])
async def test_each_part_of_a_day_is_asked_for_by_itself(site: Site, part: str) -> None:
    await site.job()
    answer = await site.client.get("/calendar/2026-11-23", headers={"X-Live": part})
    assert answer.status_code == 200
    assert f'id="{part}"' in answer.text


async def test_a_day_leaves_none_out_of_many_that_come_at_one_instant(site: Site) -> None:
    names = {f"Job {number:03}" for number in range(130)}
    made = [await site.job(name=name, cron="0 9 * * *") for name in sorted(names)]
    for job in made:
        await became(site, job, TODAY + 7 * HOUR, Fate.SKIPPED_OVERLAP)
        await became(site, job, TODAY + 8 * HOUR, Fate.MISSED)

    for day in ("2026-11-23", "2026-11-24"):
        seen: list[set[str]] = []
        path: str | None = f"/calendar/{day}"
        while path is not None:
            page = await site.see(path)
            seen.append(set(re.findall(r">(Job \d+)<", page)))
            rest = re.search(r'rel="next" href="([^"]+)">Later', page)
            path = unescape(rest[1]) if rest else None
            assert len(seen) < 5
        assert set().union(*seen) == names
