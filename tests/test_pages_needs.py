"""What needs the owner on the overview: what holds runs back, and jobs that paused themselves."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner import holds, jobs
from claude_runner.holds import HoldKind
from claude_runner.jobs import Pause, PausedBy
from tests.pages import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
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
