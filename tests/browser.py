"""A real browser: one Chromium for the tests of a file, a context of its own for each, and no mishap that goes unseen.

A message on the console (also what a page's policy forbade), an uncaught error and a request that leaves the machine
each fail the test, unless it says beforehand that it brings it about.
"""

import asyncio
import importlib.util
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import pytest

from tests.conftest import need

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request, WebError

Scheme = Literal["light", "dark"]

DESK: Final = 1280  # pixels wide
PHONE: Final = 390
PATIENCE_MS: Final = 60_000.0
LOCAL: Final = frozenset({"localhost", "127.0.0.1"})
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Networks are out of reach: what a page would fetch from elsewhere is not there, and the test hears of it.
ARGUMENTS: Final = [
    "--no-sandbox",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]


class Browsing:
    """Somebody who looks at pages, in as many windows as it takes.

    Attributes:
        mishaps: What went wrong in them, unless it was expected.
    """

    def __init__(self, browser: "Browser", stack: AsyncExitStack) -> None:
        self._browser = browser
        self._stack = stack
        self._expected = [re.compile("Autofocus processing was blocked")]  # who was quicker has the focus
        self.mishaps: list[str] = []

    def expect(self, *patterns: str) -> None:
        """Let mishaps pass that a pattern is found in."""
        self._expected += map(re.compile, patterns)

    async def page(
        self,
        url: str | None = None,
        /,
        *,
        width: int = DESK,
        height: int = 900,
        scheme: Scheme = "light",
        now: datetime | None = None,
        **options: Any,
    ) -> "Page":
        """Open a page in a context of its own.

        Args:
            url: Where it goes first.
            width: Of the window, in pixels.
            height: Of the window, in pixels.
            scheme: What the system asks pages for.
            now: What its clock shows, for ever; without one it goes.
            options: Of Playwright's `new_context`.
        """
        given = {"reduced_motion": "reduce", "locale": "en-GB"} | options
        size: Any = {"width": width, "height": height}
        context = await self._browser.new_context(viewport=size, color_scheme=scheme, **given)
        self._stack.push_async_callback(context.close)
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", self._said)
        context.on("weberror", self._erred)
        context.on("request", self._asked)
        if now is not None:
            await context.add_init_script(_STANDING % {"now": now.timestamp() * 1_000})
        page = await context.new_page()
        if url is not None:
            await page.goto(url)
        return page

    def _said(self, message: "ConsoleMessage") -> None:
        self._note(f"console, {message.type}: {message.text} ({message.location['url']})")

    def _erred(self, error: "WebError") -> None:
        self._note(f"uncaught: {error.error}")

    def _asked(self, request: "Request") -> None:
        where = urlsplit(request.url)
        if where.scheme not in {"data", "blob", "about"} and where.hostname not in LOCAL:
            self._note(f"asked {request.url}")

    def _note(self, mishap: str) -> None:
        if not any(pattern.search(mishap) for pattern in self._expected):
            self.mishaps.append(mishap)


@asynccontextmanager
async def open_chromium() -> AsyncIterator["Browser"]:
    """Start Chromium; skips the test where there is none."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - most tests need none

    if (chromium := shutil.which("chromium")) is None:
        need("there is no chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


@asynccontextmanager
async def open_browsing(chromium: "Browser") -> AsyncIterator[Browsing]:
    """Somebody at a browser; closing it fails the test where there was a mishap."""
    async with AsyncExitStack() as stack:
        browsing = Browsing(chromium, stack)
        yield browsing
        await asyncio.sleep(0)  # what the driver has already told is heard
    assert browsing.mishaps == []


# Of a module, not of the session: then the loop that it keeps open is not that of all other tests too.
@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator["Browser"]:
    async with open_chromium() as browser:
        yield browser


@pytest.fixture
async def browsing(chromium: "Browser") -> AsyncIterator[Browsing]:
    """Somebody at a browser."""
    async with open_browsing(chromium) as browsing:
        yield browsing


@pytest.fixture
async def page(browsing: Browsing) -> "Page":
    """An empty page on a desk."""
    return await browsing.page()


async def flaws(page: "Page") -> list[str]:
    """Return what axe finds wrong with the page as it is, a line for each element."""
    await page.evaluate(_axe())
    found = await page.evaluate(
        "rules => axe.run({runOnly: rules, resultTypes: ['violations']}).then(({violations}) => violations)",
        RULES,
    )
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {_why(node)} {node['html'][:160]}"
        for rule in found
        for node in rule["nodes"]
    ]


def _why(node: dict[str, Any]) -> str:
    reasons = [check["message"] for kind in ("any", "all", "none") for check in node[kind]]
    return "; ".join(reasons)


@cache
def _axe() -> str:
    """Return axe-core, from the wheel that brings it."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()


async def comes(page: "Page", condition: str, argument: object = None) -> None:
    """Wait until a JavaScript function of the argument is true in the page, whose policy lets no expression be."""
    await page.wait_for_function(condition, arg=argument, polling=30)


async def live(page: "Page") -> None:
    """Wait until the page follows what happens."""
    await page.locator("[data-live-status][data-state=open]").wait_for()


async def shifts(page: "Page") -> list[str]:
    """Return what has moved, and how far, since the page began to load; two frames are waited for."""
    found: list[str] = await page.evaluate(_SHIFTS)
    return found


async def overflowing(page: "Page") -> list[str]:
    """Return what reaches beyond the window, and what is cut off without a sign of it."""
    found: list[str] = await page.evaluate(_OVERFLOWING)
    return found


async def drawn_bare(page: "Page") -> bool:
    """Tell whether something was drawn before the page's style had come."""
    bare: bool = await page.evaluate(_DRAWN_BARE)
    return bare


# Playwright's own clock puts out of action what measures a page, too.
_STANDING: Final = """globalThis.Date = class extends Date {
  constructor(...given) { given.length ? super(...given) : super(%(now)d); }
  static now() { return %(now)d; }
}"""

_SHIFTS: Final = """() => new Promise((done) => {
  const seen = [];
  const place = ({x, y, width, height}) => [x, y, width, height].map(Math.round).join(" ");
  const name = ({node, previousRect, currentRect}) =>
    `${node?.nodeName.toLowerCase() ?? "?"}#${node?.id ?? ""}.${node?.className ?? ""} ` +
    `(${place(previousRect)} to ${place(currentRect)})`;
  const note = (entries) => {
    for (const {value, sources, hadRecentInput} of entries)
      if (!hadRecentInput) seen.push(`${value.toFixed(4)}: ${[...sources].map(name).join(", ")}`);
  };
  const observer = new PerformanceObserver((list) => note(list.getEntries()));
  observer.observe({type: "layout-shift", buffered: true});
  const finish = () => (note(observer.takeRecords()), done(seen));
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(finish, 0)));
})"""

_OVERFLOWING: Final = """() => {
  const root = document.documentElement, wide = root.clientWidth, found = [];
  const words = (element) => element.textContent.trim().slice(0, 40);
  const selector = ({nodeName, id, classList}) =>
    nodeName.toLowerCase() + (id && `#${id}`) + [...classList].map((one) => `.${one}`).join("");
  const tell = (what, element) => found.push(`${what}: ${selector(element)} “${words(element)}”`);
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const hides = (element) => ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
  const isWithinBounds = (element) => {
    do element = element.parentElement; while (element && !scrolls(element) && !hides(element));
    return element !== null;
  };
  const isMarked = ({textOverflow, webkitLineClamp}) => textOverflow === "ellipsis" || webkitLineClamp !== "none";
  if (root.scrollWidth > wide) found.push(`the page is ${root.scrollWidth} px wide`);
  for (const element of document.querySelectorAll("body :not(svg *, .sr-only, .skip-link, input, select)")) {
    const style = getComputedStyle(element), {left, right, width} = element.getBoundingClientRect();
    if (!element.checkVisibility({visibilityProperty: true}) || width <= 1) continue;
    if ((right > wide + 0.5 || left < -0.5) && !isWithinBounds(element)) tell("beyond the window", element);
    if (element.nodeName === "svg" || !hides(element) || isMarked(style)) continue;
    if (element.scrollWidth > element.clientWidth + 1) tell("cut off", element);
  }
  return found.slice(0, 10);
}"""

_DRAWN_BARE: Final = """() => new Promise((done) => {
  const look = (list) => {
    const styles = performance.getEntriesByType("resource").filter(({name}) => name.endsWith(".css"));
    const [{startTime}] = list.getEntries();
    done(!styles.length || styles.some(({responseEnd}) => responseEnd > startTime));
  };
  new PerformanceObserver(look).observe({type: "paint", buffered: true});
})"""
