"""The whole story of a new user, in the browser alone: the demo as a program of its own, the real Claude Code CLI."""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser import Browsing, comes, live
from tests.conftest import need
from tests.served import SERVER, variables
from tests.sites import free_port

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

LONG_MS = 60_000  # a run of the real CLI, on a machine that has much else to do
PATIENCE = 60.0  # seconds
KEY = "SG.of-the-harbour"
# One tool that answers at once, and one that nobody waits for.
CODE = '''import asyncio

from fastmcp import FastMCP

mcp = FastMCP("tides")


@mcp.tool
def high_water(place: str) -> str:
    """Tell when the water is high."""
    return f"In {place}: 04:12 and 16:40."


@mcp.tool
async def slack_water() -> str:
    """Wait until the water stands still."""
    await asyncio.sleep(600)
    return "now"


if __name__ == "__main__":
    mcp.run()
'''


@contextmanager
def demo(home: Path) -> Iterator[str]:
    """Start `make demo` without make, and tell where its pages are."""
    port = free_port()
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, str(SERVER), "--demo"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=variables(home, PORT=str(port)),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert any(b"pages" in line for line in process.stdout), (home / "log").read_text()
            yield f"http://localhost:{port}"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        finally:
            process.kill()


def button(where: "Page | Locator", name: str) -> "Locator":
    return where.get_by_role("button", name=name, exact=True).first


def link(where: "Page | Locator", name: str) -> "Locator":
    return where.get_by_role("link", name=name, exact=True).first


def field(where: "Page | Locator", label: str) -> "Locator":
    return where.get_by_label(label, exact=True).first


async def says(page: "Page", text: str) -> None:
    """Wait until the page says so."""
    await page.locator("main").get_by_text(text).first.wait_for(timeout=LONG_MS)


async def section(page: "Page", name: str) -> None:
    """Go to a section by the bar."""
    before = page.url
    await link(page.get_by_role("navigation", name="Main"), name).click()
    await page.wait_for_url(lambda url: url != before)
    await page.get_by_role("heading", level=1).first.wait_for(state="attached")


async def press(page: "Page", key: str) -> None:
    """Press a key once the page's scripts, which know what it is for, are at work."""
    await page.wait_for_load_state()
    await page.keyboard.press(key)


async def finishes(page: "Page") -> None:
    """Watch a run end in its open page, which is not loaded anew for it."""
    await page.evaluate("() => { globalThis.isTheSame = true; }")
    await page.locator("main .badge").get_by_text("finished").first.wait_for(timeout=LONG_MS)
    assert await page.evaluate("() => globalThis.isTheSame === true")


async def test_a_new_user_finds_his_way_in_the_browser_alone(tmp_path: Path, browsing: Browsing) -> None:
    if shutil.which("curl") is None:
        need("there is no curl")
    browsing.expect("status of 410")  # the page of a job that was deleted: it says how to take it back
    with demo(tmp_path) as origin:
        page = await browsing.page()
        page.set_default_timeout(LONG_MS)
        await _opens(page, origin)
        await _makes_a_job(page)
        await _rehearses_and_runs_it(page)
        await _finds_it_in_the_calendar(page)
        await _makes_a_webhook_and_reads_what_comes(page)
        await _sets_a_credential(page)
        await _makes_a_server_and_calls_its_tool(page)
        await _runs_a_prompt_and_finds_it_by_its_words(page)
        await _stops_a_run(page)
        await _deletes_the_job_and_takes_it_back(page)
        await _settles(page, tmp_path / ".demo")
        await _goes_by_keyboard(page)
        await page.goto("about:blank")  # whose line is not cut by the end of the demo


async def _opens(page: "Page", origin: str) -> None:
    await _reached(page, origin)
    await live(page)
    await page.get_by_text("nothing is paid").wait_for()
    await section(page, "Jobs")
    await button(page, "Pause Look around").click()  # it runs every ten seconds, and would be in the way
    await button(page, "Resume Look around").wait_for()


async def _reached(page: "Page", origin: str) -> None:
    """Open the pages as soon as the demo listens."""
    port = int(origin.rpartition(":")[2])
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
    await page.goto(origin)


async def _makes_a_job(page: "Page") -> None:
    await link(page, "New job").click()
    await page.wait_for_url(re.compile("/jobs/new"))
    await field(page, "Name").fill("Inbox digest")
    await field(page, "Prompt").fill("Say in **three** lines what is in your folder.")
    await field(page, "Schedule").fill("0 12 * * *")
    await page.locator("#preview").get_by_text("At 12:00").wait_for()
    await field(page, "Only these").check()
    for tool in ("Read", "Write"):
        await field(page, tool).check()
    await button(page, "Create").click()
    await says(page, "Job created")


async def _rehearses_and_runs_it(page: "Page") -> None:
    await button(page, "Rehearse it").click()
    await says(page, "How it would run")
    await says(page, "Nothing is in its way")
    await button(page, "Run now").click()
    await page.wait_for_url(re.compile("/runs/[0-9a-f]+$"), timeout=LONG_MS)
    await says(page, "Rehearsal: trying Write.")
    await finishes(page)
    await says(page, "no model was asked")


async def _finds_it_in_the_calendar(page: "Page") -> None:
    await link(page.get_by_role("heading", level=1), "Inbox digest").click()
    await page.wait_for_url(re.compile("/jobs/[0-9a-f]+$"))
    fire = await page.locator("#next time").first.get_attribute("datetime")
    assert fire is not None
    await section(page, "Calendar")
    day = page.locator(f"a[href='/calendar/{fire[:10]}']").first
    if not await day.count():  # on the last day of a month
        await page.get_by_role("link", name="Next month").click()
    await day.click()
    await link(page.locator("main"), "Inbox digest").wait_for()


async def _makes_a_webhook_and_reads_what_comes(page: "Page") -> None:
    await section(page, "Webhooks")
    await link(page, "New webhook").click()
    await page.wait_for_url(re.compile("/webhooks/new"))
    await field(page, "Name").fill("Triage")
    await page.get_by_role("button", name=re.compile("^(Create|Make it)$")).last.click()
    await page.wait_for_url(re.compile("/webhooks/[0-9a-f]{8}$"), timeout=LONG_MS)
    await live(page)
    curl = await page.locator("code").get_by_text(re.compile("^curl")).first.text_content()
    assert curl is not None
    done = await asyncio.to_thread(
        subprocess.run, curl, shell=True, capture_output=True, check=True, timeout=PATIENCE
    )
    assert b"run_id" in done.stdout
    row = page.locator("#deliveries tbody tr")
    await row.get_by_text("accepted").wait_for(timeout=LONG_MS)
    await row.get_by_text("finished").wait_for(timeout=LONG_MS)
    await page.get_by_text("1 run", exact=True).first.wait_for()
    await row.get_by_role("link").first.click()
    await says(page, '"title": "example"')


async def _sets_a_credential(page: "Page") -> None:
    await section(page, "Overview")
    await link(page, "Configure it").click()
    await page.wait_for_url(re.compile("/servers/email"))
    await field(page, "SENDER_EMAIL").fill("me@example.org")
    await field(page, "SENDGRID_API_KEY").fill(KEY)
    await button(page, "Save credentials").click()
    notice = page.get_by_role("status").get_by_text("SENDER_EMAIL")
    await notice.wait_for()
    assert await _is_in_sight(notice)
    assert KEY not in await page.content()
    await page.get_by_role("heading", level=1).locator("..").get_by_text("ready").first.wait_for()


async def _is_in_sight(what: "Locator") -> bool:
    seen: bool = await what.evaluate(
        "element => [element.getBoundingClientRect()].every(({top, bottom}) => top >= 0 && bottom <= innerHeight)"
    )
    return seen


async def _makes_a_server_and_calls_its_tool(page: "Page") -> None:
    await section(page, "Servers")
    await link(page, "New server").click()
    await page.wait_for_url(re.compile("/servers/new"))
    await field(page, "Name").fill("tides")
    await field(page, "Code").fill(CODE)
    await button(page, "Start and keep it").click()
    await page.wait_for_url(re.compile("/servers/tides"), timeout=LONG_MS)
    await link(page, "Call high_water").click()
    await field(page, "place").fill("Husum")
    await button(page, "Call").click()
    await page.locator("#answer").get_by_text("In Husum: 04:12 and 16:40.").first.wait_for(timeout=LONG_MS)


async def _runs_a_prompt_and_finds_it_by_its_words(page: "Page") -> None:
    await press(page, "q")
    asked = page.get_by_role("dialog")
    await field(asked, "Prompt").fill("A haiku about marmalade and clockwork")
    await page.keyboard.press("Control+Enter")
    await page.wait_for_url(re.compile("/runs/[0-9a-f]+$"), timeout=LONG_MS)
    await finishes(page)
    await section(page, "Runs")
    await press(page, "/")
    await comes(page, "() => document.activeElement.matches('input')")
    await page.keyboard.type("marmalade clock")
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"q=marmalade"))
    hit = page.locator("mark").get_by_text("marmalade").first
    async with asyncio.timeout(PATIENCE):
        while not await hit.count():  # words are taken in a moment after a run has ended
            await page.reload()


async def _stops_a_run(page: "Page") -> None:
    await button(page, "Search").focus()
    await press(page, "q")
    asked = page.get_by_role("dialog")
    await field(asked, "Prompt").fill("Wait for slack water")
    await asked.get_by_text("Tools, permissions, model").click()
    await field(asked, "Only these").check()
    group = asked.get_by_role("group", name="tides", exact=True)
    await group.get_by_text("One by one").click()
    await group.get_by_label("slack_water").check()
    await button(asked, "Run").click()
    await page.wait_for_url(re.compile("/runs/[0-9a-f]+$"), timeout=LONG_MS)
    await (
        page.locator("#transcript, main")
        .get_by_text("slack_water", exact=True)
        .first.wait_for(timeout=LONG_MS)
    )
    await section(page, "Overview")
    row = page.locator("#running li").filter(has_text="Wait for slack water").or_(page.locator("#running li"))
    await button(row.first, "Stop").click()
    await page.get_by_role("status").get_by_text("topped").first.wait_for(timeout=LONG_MS)


async def _deletes_the_job_and_takes_it_back(page: "Page") -> None:
    await section(page, "Jobs")
    await link(page, "Inbox digest").click()
    await button(page, "Delete the job").click()
    await page.get_by_text("Deleted").first.wait_for()
    await page.get_by_role("button", name=re.compile("^(Undo|Take it back|Restore)$")).first.click()
    await says(page, "is back")
    await page.get_by_role("heading", name="Inbox digest").wait_for()


async def _settles(page: "Page", home: Path) -> None:
    await section(page, "Settings")
    await field(page, "Time zone").fill("Pacific/Auckland")
    await field(page, "US dollars a day").fill("2.50")
    await button(page, "Save").click()
    await says(page, "Settings saved")
    await page.get_by_text("Times in Pacific/Auckland").wait_for()
    assert await field(page, "US dollars a day").input_value() == "2.5"
    await button(page, "Back up now").click()
    notice = page.get_by_role("status").get_by_text("backups/jobs-")
    await notice.wait_for()
    assert await _is_in_sight(notice)
    [copy] = (home / "backups").glob("jobs-*.db")
    assert copy.stat().st_mode & 0o777 == 0o600


async def _goes_by_keyboard(page: "Page") -> None:
    await press(page, "?")
    sheet = page.get_by_role("dialog", name="Keyboard")
    await sheet.get_by_text("Run a prompt").wait_for()
    await page.keyboard.press("Escape")
    await sheet.wait_for(state="hidden")
    await press(page, "Control+k")
    await comes(page, "() => document.activeElement.matches('input')")
    await page.keyboard.type("inbox")
    await page.get_by_role("option", name=re.compile("Inbox digest")).wait_for()
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile("/jobs/[0-9a-f]+$"))
    await press(page, "g")
    await page.keyboard.press("o")
    await page.wait_for_url(re.compile(r"^http://localhost:\d+/$"))
    assert await page.locator("#needs").get_by_text("Nothing.").count() == 1
