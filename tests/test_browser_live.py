"""An open page shows what is so now, whatever happens to it, to the server and to the line between them."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_runner.agent import ClaudeAgent
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.jobs import JobDraft
from claude_runner.runs import State
from tests.browser import PATIENCE_MS, Browsing, comes, live
from tests.led import LedSite, led_site
from tests.scripted_model import Step, script
from tests.served import served
from tests.sites import free_port, on_free_port, serving
from tests.support import FakeAgent, ended

if TYPE_CHECKING:
    from playwright.async_api import Page

# What Chromium says of a server that is not there, or not any more.
LIVE_REST = 0.1  # seconds that an open page rests between two looks
GONE = (r"net::ERR_(CONNECTION_\w+|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)",)
STAYS = "window.stays = true"  # until the page is loaded anew


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LedSite]:
    async with led_site(tmp_path) as site:
        yield site


async def opened(browsing: Browsing, url: str) -> "Page":
    """Open a page that follows what happens, and mark it."""
    page = await browsing.page(url)
    await live(page)
    await page.evaluate(STAYS)
    return page


async def stayed(page: "Page") -> bool:
    """Tell whether the page was not loaded anew since it was opened."""
    return bool(await page.evaluate("window.stays === true"))


async def reads(page: "Page", selector: str, text: str) -> None:
    """Wait until there is an element that shows the text."""
    await page.locator(selector).filter(has_text=text).first.wait_for(timeout=PATIENCE_MS)


async def test_a_run_of_claude_code_is_followed_from_its_start_to_its_end(
    owner: Settings, browsing: Browsing
) -> None:
    """By a person at a keyboard: a prompt is typed on the overview, and its output streams in."""
    settings = on_free_port(owner)
    said: Step = {"thinking": "I should look first.", "text": "I look around. " * 20, "tool": "Read"}
    steps: tuple[Step, ...] = (
        said | {"input": {"file_path": "nothing.txt"}, "chunks": 10, "chunk_delay": 0.05},
        {"text": "There is **nothing** here.", "delay": 0.3},
    )
    async with open_app(settings, agent=ClaudeAgent(settings)) as app, serving(app) as origin:
        page = await opened(browsing, origin)
        await page.keyboard.press("q")
        await page.get_by_role("textbox", name="Prompt").fill(f"Look. {script(*steps)}")
        await page.keyboard.press("Control+Enter")
        await page.wait_for_url("**/runs/*")
        await live(page)
        await page.evaluate(STAYS)
        await reads(page, "#transcript .k-text", "I look around.")
        assert await page.locator("#head").get_attribute("data-state") == "running"
        await reads(page, "#transcript .k-tool_use", "Read")
        await page.locator("#head[data-state=finished]").wait_for()
        await reads(page, "#output strong", "nothing")
        await reads(page, "#transcript .k-text strong", "nothing")
        assert await page.locator("#facts").get_by_text("known at the end").count() == 0
        assert await stayed(page)


async def test_a_text_grows_as_it_comes(site: LedSite, browsing: Browsing) -> None:
    run = await site.run()
    page = await opened(browsing, f"{site.origin}/runs/{run.id}")
    run.say("Half a sen")
    await reads(page, "#transcript .k-text", "Half a sen")
    run.say("tence, and **the rest**.")
    await reads(page, "#transcript .k-text", "Half a sentence, and the rest.")
    run.finish("Half a sentence, and **the rest**.")
    await reads(page, "#output strong", "the rest")
    assert await page.locator("#transcript .k-text").count() == 1
    assert await stayed(page)


async def test_what_is_unfolded_stays_so_while_more_comes(site: LedSite, browsing: Browsing) -> None:
    run = await site.run()
    page = await opened(browsing, f"{site.origin}/runs/{run.id}")
    await run.call("t1", "Read", {"file_path": "plan.toml"})
    call = page.locator("#transcript .k-tool_use details")
    await call.locator("summary").click()
    await call.get_by_text("file_path").wait_for()
    await page.locator("#facts details summary").click()
    run.answer("t1", "hosts = 9")
    await call.get_by_text("hosts = 9").wait_for()
    run.use(4_321)
    await reads(page, "#facts", "4.32k")
    run.finish()
    await page.locator("#head[data-state=finished]").wait_for()
    assert await call.get_attribute("open") is not None
    assert await page.locator("#facts details").get_attribute("open") is not None


async def test_a_run_that_fails_says_so_in_an_open_page(site: LedSite, browsing: Browsing) -> None:
    run = await site.run()
    page = await opened(browsing, f"{site.origin}/runs/{run.id}")
    run.fail("Claude's service answered with an error")
    await reads(page, "#head .notice", "Claude's service answered with an error")
    assert await stayed(page)


async def test_the_overview_shows_what_runs_and_stops_it(site: LedSite, browsing: Browsing) -> None:
    page = await opened(browsing, site.origin)
    job = await site.job("Count the stars")
    await site.app.trigger(job.id)
    run = await site.next_run()
    row = page.locator(f"#running li[data-id='{run.id}']")
    await row.get_by_text("Count the stars").wait_for()
    run.use(12_345)
    await row.get_by_text("12.3k").wait_for()
    elapsed = row.locator("[data-since]")
    was = await elapsed.inner_text()
    await comes(
        page,
        "([selector, was]) => document.querySelector(selector)?.textContent !== was",
        [f"#running li[data-id='{run.id}'] [data-since]", was],
    )
    assert await stayed(page)
    await row.get_by_role("button", name="Stop").click()
    assert (await ended(site.app, run.id)).state is State.CANCELLED
    await page.locator("main > .notice").get_by_text("Stopped.").wait_for()
    assert page.url == f"{site.origin}/"


async def test_figures_follow_a_run_that_ends(site: LedSite, browsing: Browsing) -> None:
    page = await opened(browsing, site.origin)
    run = await site.run()
    run.finish()
    await reads(page, "#tiles .tile", "1 run")
    await reads(page, "#tiles .tile", "$0.02")
    assert await stayed(page)


async def test_five_tabs_at_once_all_follow(site: LedSite, browsing: Browsing) -> None:
    """A browser gives a site six connections, and each tab holds one."""
    first = await opened(browsing, site.origin)
    others = [await first.context.new_page() for _ in range(4)]
    for page, path in zip(others, ("/", "/runs", "/", "/runs"), strict=True):
        await page.goto(site.origin + path)
        await live(page)
    run = await site.run("Count the tabs.")
    for page in (first, *others):
        await page.locator(f"[data-id='{run.id}']").first.wait_for()
    await others[-1].goto(f"{site.origin}/runs/{run.id}")
    run.say("Five of them.")
    await reads(others[-1], "#transcript", "Five of them.")


async def test_an_open_page_comes_back_by_itself_after_the_server_was_killed(
    tmp_path: Path, browsing: Browsing
) -> None:
    browsing.expect(*GONE)
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    with served(home, port) as server:
        page = await opened(browsing, f"{server.origin}/runs")
        overview = await opened(browsing, server.origin)
        server.process.kill()
        server.process.wait()
    for lost in (page, overview):
        await lost.locator("[data-live-status][data-state=lost]").wait_for()
    async with open_app(Settings(home=home), agent=FakeAgent()) as app:  # another process, on the same home
        job = await app.jobs.add(
            JobDraft("Made meanwhile", "0 7 * * *", "Look around.", "UTC"), app.clock.now()
        )
        await ended(app, (await app.trigger(job.id)).id)
    with served(home, port):
        await live(page)
        await live(overview)
        await reads(page, "main", "Made meanwhile")
        await reads(overview, "#tiles .tile", "1 run")
        assert await stayed(page)
        assert await stayed(overview)


async def test_a_page_catches_up_after_its_stream_was_cut(site: LedSite, browsing: Browsing) -> None:
    browsing.expect(*GONE)
    run = await site.run()
    transcript = await opened(browsing, f"{site.origin}/runs/{run.id}")
    overview = await opened(browsing, site.origin)
    run.say("Before. ")
    await reads(transcript, "#transcript", "Before.")
    await site.close()
    for page in (transcript, overview):
        await page.locator("[data-live-status][data-state=lost]").wait_for()
    run.say("Meanwhile. ")
    other = await site.run("Begun meanwhile.")
    await site.open()
    await reads(transcript, "#transcript", "Before. Meanwhile.")
    await overview.locator(f"#running li[data-id='{other.id}']").wait_for()
    run.say("After.")
    await reads(transcript, "#transcript", "Before. Meanwhile. After.")
    assert await transcript.locator("#transcript .k-text").count() == 1
    assert await stayed(transcript)
    assert await stayed(overview)


async def test_a_page_whose_stream_is_refused_tries_again(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 503")
    page = await browsing.page()
    await page.route(re.compile(r"/live(\?|$)"), lambda route: route.fulfill(status=503), times=1)
    await page.goto(site.origin)
    await page.locator("[data-live-status][data-state=lost]").wait_for()
    await live(page)
    run = await site.run()
    await page.locator(f"#running li[data-id='{run.id}']").wait_for()


async def test_a_hidden_tab_holds_no_stream_and_catches_up_when_it_is_shown(
    site: LedSite, browsing: Browsing
) -> None:
    page = await opened(browsing, site.origin)
    async with page.expect_event("requestfailed", lambda request: request.url.endswith("/live")):
        await show(page, hidden=True)
    run = await site.run()
    assert await page.locator(f"#running li[data-id='{run.id}']").count() == 0
    await show(page, hidden=False)
    await page.locator(f"#running li[data-id='{run.id}']").wait_for()
    assert await stayed(page)


async def show(page: "Page", *, hidden: bool) -> None:
    """Hide the tab or show it again, which a browser without a window never does by itself."""
    await page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_what_is_typed_is_not_lost_by_what_happens_meanwhile(site: LedSite, browsing: Browsing) -> None:
    page = await opened(browsing, site.origin)
    await page.keyboard.press("q")
    prompt = page.get_by_role("textbox", name="Prompt")
    await prompt.fill("Half a prom")
    run = await site.run()
    await page.locator(f"#running li[data-id='{run.id}']").wait_for(state="attached")
    assert await prompt.input_value() == "Half a prom"
    assert await prompt.evaluate("field => field === document.activeElement")
    await page.keyboard.type("pt")
    assert await prompt.input_value() == "Half a prompt"


async def test_focus_and_place_stay_while_a_page_is_renewed(site: LedSite, browsing: Browsing) -> None:
    going = await site.run("The first of them.")
    page = await opened(browsing, site.origin)
    stop = page.locator(f"#running li[data-id='{going.id}'] button")
    await stop.focus()
    await page.evaluate("scrollTo(0, 200)")
    was = await page.evaluate("scrollY")
    second = await site.run("The second.")
    await page.locator(f"#running li[data-id='{second.id}']").wait_for()
    assert await stop.evaluate("button => button === document.activeElement")
    assert await page.evaluate("scrollY") == was


async def test_a_form_waits_for_a_store_that_is_locked_for_a_second(
    site: LedSite, browsing: Browsing
) -> None:
    going = await site.run()
    page = await opened(browsing, site.origin)
    stop = page.locator(f"#running li[data-id='{going.id}']").get_by_role("button", name="Stop")
    with closing(sqlite3.connect(site.app.settings.database_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        clicked = asyncio.ensure_future(stop.click())
        await asyncio.sleep(1)  # the second
        other.execute("COMMIT")
    await clicked
    assert (await ended(site.app, going.id)).state is State.CANCELLED
    await page.locator("main > .notice").get_by_text("Stopped.").wait_for()
    assert page.url == f"{site.origin}/"


async def test_many_changes_are_few_looks(site: LedSite, browsing: Browsing) -> None:
    page = await opened(browsing, site.origin)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    clock = asyncio.get_running_loop().time
    began = clock()
    for _ in range(200):
        site.app.hub.publish(Topic.RUNS, "none")
        await asyncio.sleep(0.001)
    run = await site.run()
    await page.locator(f"#running li[data-id='{run.id}']").wait_for()
    assert len(asked) < 6 + (clock() - began) / LIVE_REST
