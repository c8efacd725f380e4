"""Pauses in the dashboard: of a job and of everything, with an end and a reason or without, and back again."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest

from claude_runner.holds import HoldKind
from claude_runner.jobs import Pause, PausedBy
from tests.pages import Site, open_site

HOUR = timedelta(hours=1)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path, "Europe/Berlin") as site:
        yield site


def undo_of(page: str) -> str:
    """Where the button goes that takes back what was done."""
    [path] = re.findall(r'<div class="notice[^>]*>.*?<form method="post" action="([^"]*)".*?Undo', page)
    return unescape(path)


async def test_a_job_is_paused_with_one_click_and_the_notice_takes_it_back(site: Site) -> None:
    job = await site.job()
    assert f'formaction="/jobs/{job.id}/pause?back=' in await site.see("/jobs")

    path = await site.sent(f"/jobs/{job.id}/pause?{urlencode({'back': '/jobs?q=morning'})}", once="1")

    assert path == "/jobs?q=morning"
    page = await site.see(path)
    assert "“Morning” is paused until it is resumed." in page
    assert '<span class="badge skip">paused</span>' in page
    assert ">Resume</button>" in page
    paused = await site.app.jobs.get(job.id)
    assert paused.enabled
    assert paused.is_paused(site.clock.now())
    assert await site.sent(undo_of(page), once="2") == "/jobs?q=morning"
    assert (await site.app.jobs.get(job.id)).pause is None


async def test_a_job_is_paused_until_a_time_on_its_own_clock_for_a_reason(site: Site) -> None:
    job = await site.job(timezone="Asia/Tokyo", cron="0 9 * * *")
    form = await site.see(f"/jobs/{job.id}/pause")
    assert "On the clock of Asia/Tokyo" in form

    typed = {"until": "2026-11-26T18:00", "reason": " the printer\tis away "}
    page = await site.see(await site.sent(f"/jobs/{job.id}/pause", **typed))

    pause = (await site.app.jobs.get(job.id)).pause
    until = datetime(2026, 11, 26, 9, tzinfo=UTC)
    assert pause == Pause(site.clock.now(), until, PausedBy.OWNER, "the printer is away")
    assert "“Morning” is paused until Thu 26 Nov 2026, 18:00:00 JST." in page
    assert "Thu 26 Nov 10:00</time>: the printer is away" in page  # in Berlin
    [first, *_] = re.findall(r"<li><time[^>]*>([^<]*)</time>", page)
    assert first == "Fri 27 Nov 2026, 09:00"

    again = await site.see(f"/jobs/{job.id}/pause")
    assert 'value="2026-11-26T18:00"' in again
    assert 'value="the printer is away"' in again
    page = await site.see(await site.sent(f"/jobs/{job.id}/resume"))
    assert "“Morning” goes on." in page
    await site.sent(undo_of(page))
    assert (await site.app.jobs.get(job.id)).pause == pause
    site.clock.jump(until - site.clock.now())
    assert "Paused" not in await site.see(f"/jobs/{job.id}")


async def test_a_pause_that_can_not_be_is_refused_at_its_field_and_nothing_typed_is_lost(site: Site) -> None:
    job = await site.job()
    for path in (f"/jobs/{job.id}/pause", "/pause-all"):
        for typed, field, sentence in (
            ({"until": "2026-11-23T08:00", "reason": "kept"}, "until", "which is past"),
            ({"until": "next week", "reason": "kept"}, "until", 'until is "next week"; give an instant'),
            ({"until": "", "reason": "kept" * 126}, "reason", "give at most 500"),
        ):
            answer = await site.send(path, **typed)
            page = unescape(answer.text)
            assert answer.status_code == 422
            assert sentence in page
            assert re.search(rf'name="{field}"[^>]* aria-invalid="true"', page)
            assert f'value="{typed["reason"]}"' in page
    assert (await site.app.jobs.get(job.id)).pause is None
    assert await site.app.pausing.held() == ()


async def test_a_shortcut_pauses_for_an_hour_or_until_a_morning(site: Site) -> None:
    job = await site.job(timezone="Europe/Berlin")
    page = await site.see(f"/jobs/{job.id}/pause")
    offered = dict(re.findall(r'<button name="until" value="([^"]*)">([^<]*)</button>', page))
    assert list(offered.values()) == ["For an hour", "Until tomorrow, 08:00", "Until Monday, 08:00"]
    ends = []
    for until in offered:
        await site.send(f"/jobs/{job.id}/pause", until=["", until], reason="")
        pause = (await site.app.jobs.get(job.id)).pause
        assert pause is not None
        ends.append(pause.until)
    seven = datetime(2026, 11, 24, 7, tzinfo=UTC)
    assert ends == [site.clock.now() + HOUR, seven, seven + timedelta(days=6)]


async def test_everything_is_paused_and_goes_on_from_the_overview(site: Site) -> None:
    await site.job(cron="0 * * * *", timezone="Europe/Berlin")
    page = await site.see("/")
    assert 'href="/pause-all"' in page
    assert "Morning, 10:00" in page
    assert "On the clock of Europe/Berlin" in await site.see("/pause-all")

    page = await site.see(await site.sent("/pause-all", until="2026-11-24T09:00", reason="moving house"))

    assert "Everything is paused until Tue 24 Nov 2026, 09:00:00 CET." in page
    coming = page[page.index('id="coming"') :]
    assert re.search(r"all is paused until <time[^>]*>tomorrow 09:00</time>", coming)
    assert "Morning, 10:00" not in coming
    assert "Morning, tomorrow 09:00" in coming
    [hold] = await site.app.pausing.held()
    assert (hold.kind, hold.until, hold.reason) == (
        HoldKind.PAUSED,
        datetime(2026, 11, 24, 8, tzinfo=UTC),
        "moving house",
    )
    page = await site.see(await site.sent("/resume-all"))
    assert "Everything goes on." in page
    assert await site.app.pausing.held() == ()
    await site.sent(undo_of(page))
    assert [(each.until, each.reason) for each in await site.app.pausing.held()] == [
        (hold.until, hold.reason)
    ]


async def test_what_is_not_paused_is_not_resumed(site: Site) -> None:
    job = await site.job()
    assert "is not paused" in await site.see(await site.sent(f"/jobs/{job.id}/resume"))
    assert "Nothing was paused" in await site.see(await site.sent("/resume-all"))


async def test_a_reason_too_long_for_an_address_is_left_out_of_what_undo_brings_back(site: Site) -> None:
    job = await site.job()
    await site.app.pause_job(job.id, site.clock.now() + HOUR, "🙈" * 400)
    page = await site.see(await site.sent(f"/jobs/{job.id}/resume"))
    await site.sent(undo_of(page))
    pause = (await site.app.jobs.get(job.id)).pause
    assert pause is not None
    assert (pause.until, pause.reason) == (site.clock.now() + HOUR, "the owner wanted it")


async def test_the_slots_of_a_pause_are_not_told_as_coming(site: Site) -> None:
    crons = {"Never": "0 10 * * *", "Later": "0 */6 * * *", "Soon": "0 11 * * *"}
    never, later, _ = [await site.job(name=name, cron=cron) for name, cron in crons.items()]
    await site.app.pause_job(never.id)
    await site.app.pause_job(later.id, datetime(2026, 11, 23, 18, tzinfo=UTC))
    coming = await site.app.jobs.coming(site.clock.now() + timedelta(days=1))
    assert [(each.name, each.next_run_at.hour) for each in coming] == [("Soon", 11), ("Later", 18)]
    assert re.findall(r'<a href="/jobs/\w+">(\w+)</a>', await site.see("/jobs?state=paused")) == [
        "Later",
        "Never",
    ]
