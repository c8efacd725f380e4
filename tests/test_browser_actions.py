"""What a person does in the browser, by mouse and by keyboard, and what comes of it."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_runner.jobs import NotifyOn, Overlap, Policy
from claude_runner.runs import NewRun, State, Trigger
from claude_runner.servers import examine
from claude_runner.webhooks import Webhook, WebhookDraft
from tests.browser import PHONE, Browsing, comes, live
from tests.led import LedSite, led_site
from tests.support import PATIENCE, ended

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

# A tool server of one file that needs nothing but what the house has.
CODE = '''import os

from fastmcp import FastMCP

mcp = FastMCP("tides")
KEY = os.environ["TIDES_KEY"]


@mcp.tool
def high_water(place: str, days: int = 1) -> str:
    """Tell when the water is high."""
    return f"In {place}, for {days} days: 04:12 and 16:40."


if __name__ == "__main__":
    mcp.run()
'''


# A program that the owner has agreed to.
LET_IN = (
    "INSERT INTO oauth_clients (client_id, client_name, source, redirect_uris, created_at)"
    """ VALUES ('c1', 'Laptop', 'registered', '["http://localhost:9/cb"]', '2026-11-01T00:00:00.000+00:00')""",
    "INSERT INTO oauth_grants (id, client_id, subject, scope, issuer, resource, created_at) VALUES"
    " ('g1', 'c1', 'owner', 'mcp', 'http://localhost', 'http://localhost/mcp', '2026-11-01T00:00:00.000+00:00')",
    "INSERT INTO oauth_refresh_tokens (token_sha256, grant_id, created_at, expires_at)"
    " VALUES ('none', 'g1', '2026-11-01T00:00:00.000+00:00', '2099-11-01T00:00:00.000+00:00')",
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LedSite]:
    async with led_site(tmp_path) as site:
        yield site


async def focused(page: "Page") -> str:
    """The text of what has the focus."""
    text: str = await page.evaluate("document.activeElement.textContent.trim()")
    return text


def button(where: "Page | Locator", name: str) -> "Locator":
    return where.get_by_role("button", name=name, exact=True)


def link(where: "Page | Locator", name: str) -> "Locator":
    return where.get_by_role("link", name=name, exact=True)


def field(page: "Page", label: str) -> "Locator":
    return page.get_by_label(label, exact=True)


async def says(page: "Page", text: str) -> None:
    """Wait until the page says so."""
    await page.locator("main").get_by_text(text).first.wait_for()


# --- The keyboard


async def test_a_prompt_is_run_by_keyboard_alone(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/runs")
    async with page.expect_event("requestfinished", lambda request: request.url.endswith("/quick.js")):
        await page.keyboard.press("q")  # whose style and script come with it
    await page.keyboard.type("Count the stars.", delay=20)
    await page.keyboard.press("Control+Enter")
    await page.wait_for_url("**/runs/*")
    run = await site.next_run()
    assert "Count the stars." in run.order.prompt
    assert page.url.endswith(run.id)


async def test_the_palette_leads_anywhere(site: LedSite, browsing: Browsing) -> None:
    job = await site.job("Count the stars")
    page = await browsing.page(site.origin)
    await page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Go to")
    await palette.get_by_role("option", name=re.compile("Settings")).wait_for()
    await page.keyboard.type("stars")
    await palette.get_by_role("option", name=re.compile("Count the stars")).wait_for()
    assert await palette.get_by_role("option").count() == 1
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/jobs/{job.id}")


async def test_the_sheet_of_keys_opens_and_closes_and_gives_the_focus_back(
    site: LedSite, browsing: Browsing
) -> None:
    page = await browsing.page(site.origin)
    await link(page, "Runs").focus()
    await page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard")
    await sheet.get_by_text("Run a prompt").wait_for()
    await page.keyboard.press("Escape")
    await sheet.wait_for(state="hidden")
    assert await focused(page) == "Runs"


async def test_lists_are_walked_through_with_j_and_k(site: LedSite, browsing: Browsing) -> None:
    for name in ("Alpha", "Beta", "Gamma"):
        await site.job(name)
    page = await browsing.page(f"{site.origin}/jobs?sort=name")
    for key, name in (("j", "Alpha"), ("j", "Beta"), ("j", "Gamma"), ("j", "Gamma"), ("k", "Beta")):
        await page.keyboard.press(key)
        assert await focused(page) == name
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/jobs/*")
    assert await page.get_by_role("heading", level=1).inner_text() == "Beta"


@pytest.mark.parametrize(
    ("letter", "path"),
    [
        ("o", "/"),
        ("j", "/jobs"),
        ("r", "/runs"),
        ("c", "/calendar"),
        ("w", "/webhooks"),
        ("s", "/servers"),
        ("l", "/calls"),
        ("e", "/settings"),
    ],
)
async def test_g_and_a_letter_lead_to_a_section(
    site: LedSite, browsing: Browsing, letter: str, path: str
) -> None:
    page = await browsing.page(f"{site.origin}/keys")
    await page.keyboard.press("g")
    await page.keyboard.press(letter)
    await page.wait_for_url(site.origin + path)


async def test_a_slash_leads_to_the_search_and_keys_are_letters_there(
    site: LedSite, browsing: Browsing
) -> None:
    await site.job("Count the stars")
    await site.job("Quiet night")
    page = await browsing.page(f"{site.origin}/jobs")
    await page.keyboard.press("/")
    await page.keyboard.type("q")
    assert await page.locator("dialog[open]").count() == 0
    await page.keyboard.type("uiet")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/jobs?*q=quiet*")
    assert await page.locator("tbody tr").count() == 1


async def test_the_first_tab_stop_leads_past_the_bar(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(site.origin)
    await page.keyboard.press("Tab")
    assert await focused(page) == "Skip to the content"
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"


async def test_the_theme_is_switched_and_stays(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(site.origin, scheme="light")
    async with page.expect_response("**/theme*"):
        await button(page, "Switch between light and dark").click()
    assert await page.locator("html").get_attribute("data-theme") == "dark"
    await link(page, "Jobs").click()
    await page.wait_for_url("**/jobs")
    assert await page.locator("html").get_attribute("data-theme") == "dark"


# --- Jobs


async def test_a_job_is_made_with_its_schedule_shown_as_it_is_typed(
    site: LedSite, browsing: Browsing
) -> None:
    page = await browsing.page(f"{site.origin}/jobs")
    await page.keyboard.press("n")
    await page.wait_for_url("**/jobs/new")
    await field(page, "Name").fill("Count the stars")
    await field(page, "Prompt").fill("Count the stars and write the number down.")
    preview = page.locator("#preview")
    await field(page, "Schedule").fill("30 2 * * *")
    await field(page, "Time zone").fill("Europe/Berlin")
    await preview.get_by_text("02:30").first.wait_for()
    assert await preview.get_by_role("listitem").count() == 10
    await field(page, "Schedule").fill("61 2 * * *")
    await preview.locator(".error").wait_for()
    await field(page, "Schedule").fill("15 3 * * 1-5")
    await preview.get_by_text("03:15").first.wait_for()
    await button(page, "Create").click()
    await page.wait_for_url(re.compile("/jobs/[0-9a-f]{8}$"))
    [job] = await site.app.jobs.list()
    assert (job.name, job.cron, job.timezone) == ("Count the stars", "15 3 * * 1-5", "Europe/Berlin")


async def test_a_double_click_makes_one_job(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/jobs/new")
    await field(page, "Name").fill("Count the stars")
    await field(page, "Prompt").fill("Count the stars.")
    await field(page, "Schedule").fill("15 3 * * *")
    await button(page, "Create").dblclick()
    await page.wait_for_url(re.compile("/jobs/[0-9a-f]{8}$"))
    assert len(await site.app.jobs.list()) == 1


async def test_what_is_refused_is_said_at_its_field_and_nothing_typed_is_lost(
    site: LedSite, browsing: Browsing
) -> None:
    browsing.expect("status of 422")
    page = await browsing.page(f"{site.origin}/jobs/new")
    await field(page, "Name").fill("Count the stars")
    await field(page, "Prompt").fill("Count\n\nthe stars.")
    await field(page, "Schedule").fill("0 0 31 2 *")
    await button(page, "Create").click()
    wrong = page.locator(".field.wrong")
    await wrong.wait_for()
    assert await wrong.locator("label").inner_text() == "Schedule"
    assert await wrong.locator("input").get_attribute("aria-invalid") == "true"
    assert await field(page, "Prompt").input_value() == "Count\n\nthe stars."
    await field(page, "Schedule").fill("0 0 28 2 *")
    await button(page, "Create").click()
    await page.wait_for_url(re.compile("/jobs/[0-9a-f]{8}$"))


async def test_a_job_is_run_paused_and_resumed(site: LedSite, browsing: Browsing) -> None:
    job = await site.job()
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    await live(page)
    await button(page, "Run now").first.click()
    run = await site.next_run()
    run.finish()
    await ended(site.app, run.id)
    await page.goto(f"{site.origin}/jobs/{job.id}")
    await link(page, "Pause…").click()
    dialog = page.get_by_role("dialog", name="Pause “Look around”")
    await field(page, "Until").fill("2099-12-01T08:00")
    await field(page, "Why").fill("nobody is here")
    await button(dialog, "Pause").click()
    await button(page, "Resume").wait_for()
    await says(page, "nobody is here")
    pause = (await site.app.jobs.get(job.id)).pause
    assert pause is not None
    assert pause.until == datetime(2099, 12, 1, 7, tzinfo=UTC)
    await button(page, "Resume").click()
    await link(page, "Pause…").wait_for()
    await button(page, "Undo").click()
    await says(page, "nobody is here")
    assert (await site.app.jobs.get(job.id)).pause is not None


async def test_everything_is_paused_from_the_overview_and_goes_on(site: LedSite, browsing: Browsing) -> None:
    await site.job()
    page = await browsing.page(site.origin)
    await live(page)
    await link(page, "Pause all…").click()
    await button(page.get_by_role("dialog", name="Pause everything"), "For an hour").click()
    await says(page, "Everything is paused until")
    [hold] = await site.app.pausing.held()
    assert hold.until is not None
    await button(page.locator("#coming"), "Resume").click()
    await link(page, "Pause all…").wait_for()
    assert await site.app.pausing.held() == ()


async def test_a_job_is_given_rules_of_its_own(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 422")
    job = await site.job(policy=Policy(max_retries=1))
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    await link(page, "Change them").click()
    await page.wait_for_url("**/edit#rules")
    await field(page, "While a run goes on").select_option(label="All wait for their turn")
    await field(page, "Not at these times").fill("Sat,Sun\nFri 06:00-08:00")
    await comes(page, "() => !document.querySelector('#preview').textContent.includes('Fri ')")
    await page.get_by_text("Only these, or nothing").click()
    await page.get_by_label("every success").check()
    await field(page, "A run, in $").fill("none")
    await button(page, "Save").click()
    wrong = page.locator(".rules-form .wrong")
    await wrong.wait_for()
    assert await page.evaluate("document.activeElement.id") == "f-max_cost_usd"
    await field(page, "A run, in $").fill("0.50")
    await button(page, "Save").click()
    await page.wait_for_url(f"**/jobs/{job.id}")
    assert (await site.app.jobs.get(job.id)).policy == Policy(
        overlap=Overlap.QUEUE_ALL,
        blackouts=("Sat,Sun", "Fri 06:00-08:00"),
        max_retries=1,
        max_cost_usd=0.5,
        notify_on=(NotifyOn.SUCCESS,),
    )
    await says(page, "all wait for their turn")


async def test_a_job_is_duplicated(site: LedSite, browsing: Browsing) -> None:
    job = await site.job("Count the stars")
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    await button(page, "Duplicate").click()
    await page.wait_for_url(lambda url: not url.endswith(job.id))
    copies = [each for each in await site.app.jobs.list() if each.id != job.id]
    assert [(copy.prompt, copy.cron, copy.enabled) for copy in copies] == [(job.prompt, job.cron, False)]


async def test_a_deleted_job_is_taken_back(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 410")  # of the page that is left
    job = await site.job("Count the stars")
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    await button(page, "Delete the job").click()
    await page.wait_for_url("**/jobs")
    assert await site.app.jobs.list() == []
    notice = page.locator(".notice")
    assert "Count the stars" in await notice.inner_text()
    await notice.get_by_role("button").click()
    await page.wait_for_url(f"**/jobs/{job.id}")
    assert [each.id for each in await site.app.jobs.list()] == [job.id]


async def test_a_job_that_somebody_else_deletes_is_gone_from_its_open_page_too(
    site: LedSite, browsing: Browsing
) -> None:
    browsing.expect("status of 410")
    job = await site.job("Count the stars")
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    await live(page)
    await site.app.discard_job(job.id)
    await button(page, "Restore it").click()
    await page.get_by_role("heading", name="Count the stars", level=1).wait_for()


async def test_a_stale_edit_says_so_and_loses_nothing(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 409")
    job = await site.job("Count the stars")
    page = await browsing.page(f"{site.origin}/jobs/{job.id}/edit")
    await field(page, "Prompt").fill("Mine.")
    await site.app.jobs.change(job.id, {"prompt": "Theirs.", "cron": "5 5 * * *"}, site.app.clock.now())
    await button(page, "Save").last.click()
    await says(page, "Somebody else changed this job while you did.")
    assert await field(page, "Prompt").input_value() == "Mine."
    assert (await site.app.jobs.get(job.id)).prompt == "Theirs."
    await button(page, "Save anyway").click()
    await page.wait_for_url(f"**/jobs/{job.id}")
    changed = await site.app.jobs.get(job.id)
    assert (changed.prompt, changed.cron) == ("Mine.", "5 5 * * *")


async def test_a_job_is_rehearsed(site: LedSite, browsing: Browsing) -> None:
    job = await site.job()
    page = await browsing.page(f"{site.origin}/jobs/{job.id}")
    clicked = asyncio.ensure_future(button(page, "Rehearse").first.click())
    (await site.next_run()).finish()
    await clicked
    await page.get_by_role("heading", name="Rehearsal", exact=True).wait_for()


# --- Runs


async def test_runs_are_found_by_their_words(site: LedSite, browsing: Browsing) -> None:
    for prompt in ("Count the stars.", "Feed the cat."):
        run = await site.run(prompt)
        run.finish(f"Done: {prompt}")
        await ended(site.app, run.id)
    while await site.app.runs.take_words():
        pass
    page = await browsing.page(f"{site.origin}/runs")
    await page.get_by_role("searchbox").fill("cat")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/runs?*q=cat*")
    [row] = await page.locator("tbody tr").all()
    assert "Feed the cat" in await row.inner_text()
    async with page.expect_download() as coming:
        await link(page, "CSV").click()
    rows = Path(await (await coming.value).path()).read_text().splitlines()
    assert len(rows) == 2


async def test_a_run_is_run_again(site: LedSite, browsing: Browsing) -> None:
    first = await site.run("Count the stars.")
    first.fail("It is cloudy.")
    await ended(site.app, first.id)
    page = await browsing.page(f"{site.origin}/runs/{first.id}")
    await button(page, "Run again").click()
    second = await site.next_run()
    await page.wait_for_url(f"**/runs/{second.id}")
    assert second.order.prompt == first.order.prompt


# --- Webhooks


async def test_a_webhook_is_made_posted_to_and_its_delivery_read_and_replayed(
    site: LedSite, browsing: Browsing
) -> None:
    page = await browsing.page(f"{site.origin}/webhooks")
    await link(page, "New webhook").first.click()
    await field(page, "Name").fill("Greenhouse")
    await page.locator("#f-prompt_template").fill("Sensor {{payload.sensor}} says {{payload.value}}.")
    await page.locator("#f-payload").fill('{"sensor": "north"}')
    preview = page.locator("#preview")
    await preview.locator("mark", has_text="north").wait_for()
    await preview.locator("mark.bad").wait_for()
    await button(page, "Make it").last.click()
    await page.wait_for_url(re.compile("/webhooks/[0-9a-f]{8}$"))
    [webhook] = await site.app.webhooks.list()
    await live(page)
    await asyncio.to_thread(post, site, webhook, {"sensor": "north", "value": 3})
    row = page.locator("#deliveries tbody tr")
    await row.get_by_text("accepted").wait_for()
    (await site.next_run()).finish()
    await row.get_by_text("finished").wait_for()
    await row.get_by_role("link").first.click()
    await says(page, '"sensor": "north"')
    await button(page, "Replay").click()
    again = await site.next_run()
    assert "north" in again.order.prompt


def post(site: LedSite, webhook: Webhook, payload: object) -> None:
    """Post to a webhook as any program does."""
    asked = urllib.request.Request(
        f"{site.origin}/webhook/{webhook.token}",
        json.dumps(payload).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        assert answer.status == 202


async def test_a_webhook_is_disabled_and_enabled(site: LedSite, browsing: Browsing) -> None:
    webhook = await site.app.webhooks.add(
        WebhookDraft("Greenhouse", "Read {{payload}}."), site.app.clock.now()
    )
    page = await browsing.page(f"{site.origin}/webhooks/{webhook.id}")
    await button(page, "Disable").click()
    await button(page, "Enable").wait_for()
    assert not (await site.app.webhooks.get(webhook.id)).enabled
    await button(page, "Enable").click()
    await button(page, "Disable").wait_for()
    assert (await site.app.webhooks.get(webhook.id)).enabled


async def test_a_webhook_gets_a_new_address(site: LedSite, browsing: Browsing) -> None:
    webhook = await site.app.webhooks.add(
        WebhookDraft("Greenhouse", "Read {{payload}}."), site.app.clock.now()
    )
    page = await browsing.page(f"{site.origin}/webhooks/{webhook.id}")
    await page.get_by_text("Give it a new address…").click()
    await button(page, "Give it a new address now").click()
    await page.locator(".notice").wait_for()
    rotated = await site.app.webhooks.get(webhook.id)
    assert rotated.token != webhook.token
    await page.get_by_text(f"/webhook/{rotated.token}").first.wait_for()


# --- Servers


async def test_a_credential_is_set_and_a_tool_called(site: LedSite, browsing: Browsing) -> None:
    await tides(site)
    page = await browsing.page(f"{site.origin}/servers")
    card = page.locator("li, article, section").filter(has=link(page, "tides")).last
    await card.get_by_text("needs configuration").wait_for()
    await link(page, "tides").first.click()
    await field(page, "TIDES_KEY").fill("k-of-the-harbour")
    await button(page, "Save credentials").click()
    await page.locator(".notice").wait_for()
    assert await site.app.credentials.of("tides") == {"TIDES_KEY": "k-of-the-harbour"}
    assert "k-of-the-harbour" not in await page.content()
    await button(page, "List its tools").first.click()
    await link(page, "Call high_water").click()
    await page.locator("form[data-call] textarea, form[data-call] input:not([type=hidden])").first.fill(
        "Husum"
    )
    await button(page, "Call").first.click()
    await page.locator("#answer").get_by_text("In Husum, for 1 days: 04:12 and 16:40.").first.wait_for()
    await page.goto(f"{site.origin}/calls")
    await says(page, "high_water")


async def tides(site: LedSite) -> None:
    """A server that needs a key."""
    now = site.app.clock.now()
    staged = await site.app.servers.stage("tides", CODE, "Tells tides.", examine(CODE).variables, now)
    await site.app.servers.keep_new("tides", staged, now)


# --- Settings


async def test_settings_are_saved(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/settings")
    await field(page, "US dollars a day").fill("2.50")
    await field(page, "Time zone").fill("Asia/Tokyo")
    await button(page, "Save").last.click()
    await page.locator(".notice.ok").wait_for()
    owned = await site.app.stored.owned()
    assert (owned.budgets.day_usd, owned.timezone) == (2.5, "Asia/Tokyo")
    await page.locator("footer").get_by_text("Asia/Tokyo").wait_for()


async def test_a_client_is_shown_out(site: LedSite, browsing: Browsing) -> None:
    await site.app.database.write(lambda c: [c.execute(statement).rowcount for statement in LET_IN])
    page = await browsing.page(f"{site.origin}/settings")
    row = page.locator("#clients tr", has_text="Laptop")
    await button(row, "Revoke").click()
    await row.get_by_text("nothing").wait_for()
    [laptop] = [client for client in await site.app.auth.clients() if client.name == "Laptop"]
    assert laptop.grants == 0


async def test_a_backup_is_made(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/settings")
    await button(page, "Back up now").click()
    await page.locator(".notice.ok").wait_for()
    [backup] = (site.app.settings.home / "backups").iterdir()
    assert backup.name in await page.locator(".notice.ok").inner_text()


# --- Without JavaScript


async def test_without_javascript_a_job_is_made_run_found_and_deleted(
    site: LedSite, browsing: Browsing
) -> None:
    page = await browsing.page(f"{site.origin}/jobs", java_script_enabled=False)
    await link(page, "New job").click()
    await field(page, "Name").fill("Count the stars")
    await field(page, "Prompt").fill("Count the stars.")
    await field(page, "Schedule").fill("15 3 * * *")
    await button(page, "Create").click()
    [job] = await site.app.jobs.list()
    await button(page, "Run now").first.click()
    run = await site.next_run()
    run.finish("There are **many**.")
    await ended(site.app, run.id)
    while await site.app.runs.take_words():
        pass
    await page.goto(f"{site.origin}/runs?q=stars")
    await page.locator("tbody tr a[href^='/runs/']").first.click()
    await page.locator("#output strong", has_text="many").wait_for()
    await page.goto(f"{site.origin}/jobs/{job.id}")
    await button(page, "Delete the job").click()
    await page.locator(".notice").get_by_role("button").click()
    assert page.url.endswith(job.id)


async def test_without_javascript_a_prompt_is_run_and_stopped(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(site.origin, java_script_enabled=False)
    await link(page, "Quick run").click()
    await field(page, "Prompt").fill("Count the stars.")
    await button(page, "Run").click()
    run = await site.next_run()
    assert page.url.endswith(run.id)
    await page.reload()
    await button(page, "Stop").click()
    assert (await ended(site.app, run.id)).state is State.CANCELLED


async def test_without_javascript_the_theme_is_switched(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/runs", java_script_enabled=False)
    await button(page, "Switch between light and dark").click()
    assert page.url == f"{site.origin}/runs"
    assert await page.locator("html").get_attribute("data-theme") == "dark"


async def test_without_javascript_a_webhooks_prompt_is_tried(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/webhooks/new", java_script_enabled=False)
    await field(page, "Name").fill("Greenhouse")
    await page.locator("#f-prompt_template").fill("Sensor {{payload.sensor}}.")
    await page.locator("#f-payload").fill('{"sensor": "north"}')
    await button(page, "Try").click()
    await page.locator("#preview mark", has_text="north").wait_for()
    assert await field(page, "Name").input_value() == "Greenhouse"


# --- Where nothing is


async def test_an_unknown_run_has_its_page(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 404")
    page = await browsing.page(f"{site.origin}/runs/nothing")
    await page.get_by_role("heading", name="Nothing is here").wait_for()


async def test_a_run_that_is_deleted_under_an_open_page_says_so(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("status of 404")
    job = await site.job()
    await site.app.runs.add(NewRun("Look.", Trigger.MANUAL, ("Read",), job_id=job.id), site.app.clock.now())
    run = await site.next_run()
    page = await browsing.page(f"{site.origin}/runs/{run.id}")
    await live(page)
    run.finish()
    await ended(site.app, run.id)
    await site.app.remove_job(job.id)
    await page.get_by_role("heading", name="Nothing is here").wait_for()


async def test_a_new_home_says_what_to_do_first(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(site.origin, width=PHONE)
    await link(page, "Create a job").click()
    await page.wait_for_url("**/jobs/new")
    await comes(page, "() => document.activeElement.name === 'name'")
