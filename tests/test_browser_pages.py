"""Every page in a real browser: light and dark, on a phone and on a desk, without a flaw, and still while it loads."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from claude_runner.app import App
from claude_runner.hub import Topic
from claude_runner.web.dashboard import Dashboard
from tests.browser import DESK, PHONE, Browsing, Scheme, drawn_bare, flaws, live, overflowing, shifts
from tests.pictures import smaller
from tests.showcase import NOW, Showcase, showcase

if TYPE_CHECKING:
    from playwright.async_api import Page

JOB: Final = "/jobs/{shown.jobs[Check]}"
HOOK: Final = "/webhooks/{shown.webhook}"
# Where each page is seen, by the path of its route.
PAGES: Final[dict[str, list[str]]] = {
    "/": ["/"],
    "/keys": ["/keys"],
    "/quick": ["/quick"],
    "/jobs": ["/jobs", "/jobs?state=failing", "/jobs?q=nothing-has-this-name"],
    "/jobs/new": ["/jobs/new"],
    "/jobs/{job_id}": [JOB, "/jobs/{shown.jobs[Prices]}"],
    "/jobs/{job_id}/edit": [f"{JOB}/edit"],
    "/jobs/{job_id}/pause": [f"{JOB}/pause"],
    "/pause-all": ["/pause-all"],
    "/jobs/{job_id}/rehearse": [f"{JOB}/rehearse"],
    "/calendar": ["/calendar"],
    "/calendar/{day}": ["/calendar/2026-11-25"],
    "/runs": ["/runs", "/runs?q=lease", "/runs?q=nothing-has-these-words"],
    "/runs/{run_id}": ["/runs/{shown.told}", "/runs/{shown.going}", "/runs/{shown.failed}"],
    "/calls": ["/calls"],
    "/calls/{call_id}": ["/calls/{shown.call}"],
    "/webhooks": ["/webhooks"],
    "/webhooks/new": ["/webhooks/new"],
    "/webhooks/{webhook_id}": [HOOK],
    "/webhooks/{webhook_id}/edit": [f"{HOOK}/edit"],
    "/webhooks/{webhook_id}/deliveries/{delivery_id}": [f"{HOOK}/deliveries/{{shown.delivery}}"],
    "/servers": ["/servers"],
    "/servers/new": ["/servers/new"],
    "/servers/{name}": ["/servers/weather", "/servers/email", "/servers/stock-prices"],
    "/servers/{name}/code": ["/servers/weather/code"],
    "/servers/{name}/edit": ["/servers/weather/edit"],
    "/servers/{name}/log": ["/servers/weather/log"],
    "/servers/{name}/call": ["/servers/weather/call?tool=get_weather"],
    "/spending": ["/spending", "/spending?by=model", "/spending?by=day"],
    "/notifications": ["/notifications", "/notifications?state=failed"],
    "/notifications/channels/new": ["/notifications/channels/new"],
    "/notifications/channels/{channel_id}/edit": ["/notifications/channels/{shown.channel}/edit"],
    "/settings": ["/settings"],
    "/settings/rules": ["/settings/rules"],
}
# What answers a GET and is no page.
NO_PAGES: Final = frozenset(
    {
        "/static/{version}/{name}",
        "/live",
        "/palette",
        "/runs.csv",
        "/runs.json",
        "/webhooks/{webhook_id}/deliveries/{delivery_id}/body",
        "/servers/{name}/code.py",
        "/runs/{run_id}/stream",
        "/runs/{run_id}/steps/{seq:int}",
        "/runs/{run_id}/output.txt",
        "/runs/{run_id}/output.md",
        "/runs/{run_id}/transcript.json",
        "/jobs/preview",
    }
)
WIDTHS: Final = (DESK, PHONE)
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
PICTURES: Final = Path(__file__).parent.parent / "docs" / "screenshots"
TALLEST: Final = 1_200  # pixels of a page that are kept
LARGEST: Final = 150_000  # bytes of a picture
RUN: Final = "/runs/{shown.told}"
# Those that are kept, by name: what it shows, how wide, and how. `make screenshots` makes them.
KEPT: Final[dict[str, tuple[str, int, Scheme]]] = {
    "overview": ("/", DESK, "light"),
    "overview-dark": ("/", DESK, "dark"),
    "overview-phone": ("/", PHONE, "light"),
    "quick": ("/quick", DESK, "light"),
    "jobs": ("/jobs", DESK, "light"),
    "jobs-dark": ("/jobs", DESK, "dark"),
    "job": (JOB, DESK, "light"),
    "job-form": (f"{JOB}/edit", DESK, "light"),
    "runs": ("/runs", DESK, "light"),
    "run": (RUN, DESK, "light"),
    "run-dark": (RUN, DESK, "dark"),
    "run-phone": (RUN, PHONE, "light"),
    "calendar": ("/calendar", DESK, "light"),
    "webhook": (HOOK, DESK, "light"),
    "webhook-form": (f"{HOOK}/edit", DESK, "light"),
    "servers": ("/servers", DESK, "light"),
    "server": ("/servers/weather", DESK, "light"),
    "tool": ("/servers/weather/call?tool=get_weather", DESK, "light"),
    "calls": ("/calls", DESK, "light"),
    "spending": ("/spending", DESK, "light"),
    "notifications": ("/notifications", DESK, "light"),
    "settings": ("/settings", DESK, "light"),
    "settings-rules": ("/settings/rules", DESK, "light"),
}


@pytest.fixture(scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Showcase]:
    async with showcase(tmp_path_factory.mktemp("showcase")) as shown:
        yield shown


def seen_at(shown: Showcase, path: str) -> str:
    return shown.origin + path.format(shown=shown)


@pytest.mark.parametrize("path", [path for paths in PAGES.values() for path in paths])
async def test_a_page_is_without_a_flaw(shown: Showcase, browsing: Browsing, path: str) -> None:
    """Wide and narrow, light and dark, folded and unfolded: axe likes it, it fits, and nothing moves while it loads."""
    found = []
    for width in WIDTHS:
        page = await browsing.page(seen_at(shown, path), width=width, now=NOW)
        await live(page)
        found += [f"{width}: moved {it}" for it in await shifts(page)]
        found += [f"{width}: {it}" for it in await overflowing(page)]
        found += ["it was drawn without its style"] if await drawn_bare(page) else []
        for scheme in SCHEMES:
            await keep(page, path, width, scheme)
        await page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        found += [f"{width}, unfolded: {it}" for it in await overflowing(page)]
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme}: {it}" for it in await flaws(page)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [paths[0] for paths in PAGES.values()])
async def test_an_update_that_changes_nothing_touches_nothing(
    shown: Showcase, browsing: Browsing, path: str
) -> None:
    """Nothing blinks: what is asked for again and is as it was stays the very same."""
    page = await browsing.page(seen_at(shown, path), now=NOW)
    await live(page)
    await page.evaluate(WATCH)
    if await page.locator("[data-live]").count() == 0:
        return
    async with page.expect_response(lambda response: "x-live" in response.request.headers) as asked:
        for topic in Topic:
            shown.app.hub.publish(topic, "none")
    assert (await asked.value).status == 200
    await page.evaluate("() => new Promise((done) => setTimeout(done, 50))")  # it is put in by then
    assert await page.evaluate("window.touched") == []


# Hidden tokens of forms are new each time, and nobody sees them.
WATCH: Final = """() => {
  window.touched = [];
  new MutationObserver((records) => records.forEach(({type, target, attributeName}) => {
    const what = `${type} ${attributeName ?? ""} ${target.outerHTML ?? target.data}`;
    if (target.name !== "once") window.touched.push(what);
  })).observe(document.getElementById("main"), {subtree: true, childList: true, attributes: true, characterData: true});
}"""


async def test_every_page_is_looked_at(app: App) -> None:
    served = {route.path for route in Dashboard(app).routes() if "GET" in (route.methods or ())}
    assert served - NO_PAGES == set(PAGES)


async def test_every_section_is_a_click_away(shown: Showcase, browsing: Browsing) -> None:
    page = await browsing.page(shown.origin, now=NOW)
    links = await page.locator("nav[aria-label=Main] a").all()
    names = [await link.inner_text() for link in links]
    for name in names:
        await page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()
        current = page.locator("nav[aria-label=Main] [aria-current=page]")
        assert await current.inner_text() == name
        await page.get_by_role("heading", level=1).wait_for(state="attached")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_theme_that_was_chosen_is_there_before_the_style(
    shown: Showcase, browsing: Browsing, scheme: Scheme
) -> None:
    """Also where the system asks for the other: the page itself says it, so that nothing flashes."""
    other: Scheme = "dark" if scheme == "light" else "light"
    page = await browsing.page(shown.origin, scheme=other, now=NOW)
    was = await ground(page)
    await page.get_by_role("button", name="Switch between light and dark").click()
    now = await ground(page)
    assert now != was
    async with page.expect_response(lambda response: "/runs" in response.url) as coming:
        await page.goto(f"{shown.origin}/runs")
    assert f'data-theme="{scheme}"' in await (await coming.value).text()
    assert await ground(page) == now
    assert await shifts(page) == []


def test_every_picture_is_there_and_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in PICTURES.glob("*.png")}
    assert sizes.keys() == KEPT.keys()
    assert max(sizes.values()) <= LARGEST


async def keep(page: "Page", path: str, width: int, scheme: Scheme) -> None:
    """Write the picture where it is one of those that are kept, and they are wanted."""
    for name, kept in KEPT.items():
        if kept == (path, width, scheme) and os.environ.get("SCREENSHOTS"):
            await page.emulate_media(color_scheme=scheme)
            height = min(TALLEST, await page.evaluate("document.documentElement.scrollHeight"))
            size: Any = {"x": 0, "y": 0, "width": width, "height": height}
            picture = await page.screenshot(full_page=True, clip=size)
            await asyncio.to_thread((PICTURES / f"{name}.png").write_bytes, smaller(picture))


async def ground(page: "Page") -> str:
    colour: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return colour
