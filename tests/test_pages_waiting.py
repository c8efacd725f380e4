"""A run that has not begun says on every page what it waits for, and until when."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from claude_runner.runs import NewRun, Trigger
from tests.pages import Site, open_site
from tests.support import FakeAgent, running

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    agent = FakeAgent(FakeAgent.wait_for_stop)
    async with open_site(tmp_path_factory.mktemp("waiting"), "Europe/Berlin", agent=agent) as site:
        yield site


async def waiting(site: Site, error: str | None = None, **new: Any) -> str:
    """The id of a run that waits."""
    given: dict[str, Any] = {
        "trigger": Trigger.SCHEDULE,
        "tools": ("Read",),
        "not_before": site.clock.now() + HOUR,
    }
    run_id = await site.app.runs.add(NewRun("Look around.", **given | new), site.clock.now())
    if error is not None:
        await site.app.database.write(
            lambda c: (
                c.execute("UPDATE runs SET error = ?, attempt = 1 WHERE id = ?", (error, run_id)).rowcount
            )
        )
    return run_id


def told(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", page)).split())


@pytest.mark.parametrize(
    ("reason", "error", "words"),
    [
        (
            "jitter",
            None,
            "waits until 10:59 for its time, which its job's jitter puts a little after its slot",
        ),
        ("usage_limit", "limit <i>", "waits until 10:59 for the end of Claude's usage limit"),
        (
            "unreachable",
            "gone <i>",
            "waits until 10:59 for its next attempt, as the last one failed: gone <i>",
        ),
    ],
)
async def test_a_run_says_what_it_waits_for_and_until_when(
    site: Site, reason: str, error: str | None, words: str
) -> None:
    job = await site.job(timezone="UTC")
    run_id = await waiting(site, error, job_id=job.id, reason=reason)

    page = (await site.client.get(f"/runs/{run_id}")).text

    assert f"It {words}." in told(page)
    assert ("This will be attempt 2." in page) is (error is not None)
    assert "<i>" not in page
    assert 'class="notice bad"' not in page
    for path in (f"/runs?job={job.id}", f"/jobs/{job.id}", "/"):
        page = (await site.client.get(path)).text
        assert words in told(page), path
        assert "<i>" not in page


async def test_a_run_behind_another_leads_to_it_and_one_that_is_held_says_by_what(site: Site) -> None:
    job = await site.job(timezone="UTC")
    first = await running(site.app, (await site.app.trigger(job.id)).id)
    behind = await waiting(site, job_id=job.id, not_before=None, alone=True)
    link = f'for the end of <a href="/runs/{first.id}">run {first.id}</a>'
    for path in (f"/runs/{behind}", f"/runs?job={job.id}", f"/jobs/{job.id}", "/"):
        assert link in await site.see(path), path

    await site.app.pausing.pause_all(reason="moving house")

    held = "waits for the end of the pause of everything (moving house)"
    assert f"It {held}." in told(await site.see(f"/runs/{behind}"))
    assert held in told(await site.see(f"/runs?job={job.id}"))
    assert "Everything is paused: moving house" in await site.see(f"/jobs/{job.id}")
    await site.app.pausing.resume_all()
