"""How soon a person sees things: what a run has just said in its open page, and a page that was just asked for.

A real Chromium before the real site. A run says a word now and then, which the page of the run notes as it appears in
the document; the time runs from the word's being said, so writing it down is within it. Pages are opened with nothing
in the browser's cache, on a home with a long history, in turns with some bare text; the browser itself tells when it
painted the largest thing and whether anything moved (W3C, Largest Contentful Paint and Layout Instability).
"""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench._figures import Effort, Figure, median, percentile, spread
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings, SystemClock
from claude_runner.runs import Ending, EventKind, NewRun, State, Trigger
from tests.browser import Browsing, open_chromium
from tests.history import fill
from tests.served import served
from tests.sites import on_free_port, serving
from tests.support import FakeAgent

if TYPE_CHECKING:
    from playwright.async_api import Page

SOON_MS: Final = 250.0
PAINTED_MS: Final = 300.0
RUNS: Final = 100_000
JOBS: Final = 500
PATHS: Final = ("/", "/jobs", "/runs", "/calendar", "/servers", "/settings")
BARE: Final = "/health"  # some bytes of text: what the browser itself takes to paint anything
SETTLED_SECONDS: Final = 4.0
WATCH: Final = """() => {
  window.seen = {};
  const note = () => {
    const words = document.querySelector("main").textContent.matchAll(/word-[0-9]+\\./g);
    for (const [word] of words) window.seen[word] ??= Date.now();
  };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
  note();
}"""
PAINTS: Final = """() => new Promise((done) => {
  let painted = 0, moved = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => (painted = entry.startTime)))
    .observe({ type: "largest-contentful-paint", buffered: true });
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => (moved += entry.value)))
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done([painted, moved]), 700);
})"""


def measure(effort: Effort) -> list[Figure]:
    """Watch words appear, and pages be painted."""
    words = asyncio.run(_words(effort.words))
    paints = asyncio.run(_paints(effort.visits))
    late = percentile(words, 0.95)
    painted = {path: percentile([each[0] for each in seen], 0.95) for path, seen in paints.items()}
    slowest = max(PATHS, key=lambda path: painted[path])
    ratio = median(each[0] for each in paints[slowest]) / median(each[0] for each in paints[BARE])
    moved = max(each[1] for seen in paints.values() for each in seen)
    raw = tuple(spread(path, [each[0] for each in seen], "ms") for path, seen in paints.items())
    return [
        Figure(
            "an event of a run, from its happening to its being seen in an open page, p95",
            f"<= {SOON_MS:g} ms",
            f"{late:.0f} ms (median {median(words):.0f})",
            late <= SOON_MS,
            (spread("each", words, "ms"),),
        ),
        Figure(
            "largest contentful paint of the slowest page, p95",
            f"<= {PAINTED_MS:g} ms",
            f"{painted[slowest]:.0f} ms ({slowest}; {ratio:.1f} x {BARE})",
            painted[slowest] <= PAINTED_MS,
            raw,
        ),
        Figure("layout shift of any page", "0", f"{moved:g}", moved == 0),
    ]


async def _words(count: int) -> list[float]:
    clock = SystemClock()
    said: dict[str, float] = {}
    watched = asyncio.Event()

    async def speak(_: Order, listener: Listener, __: Stop) -> Ending:
        chance = random.Random(7)
        await watched.wait()
        for number in range(count):
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            word = f"word-{number}."
            said[word] = clock.now().timestamp() * 1000
            listener.happened(EventKind.TEXT, {"block": number // 10, "text": f"{word} "})
        return Ending(State.FINISHED, output="done")

    async with AsyncExitStack() as stack:
        page, app = await _opened(stack, speak)
        await page.evaluate(WATCH)
        watched.set()
        last = f"word-{count - 1}."
        await page.wait_for_function(
            "(word) => window.seen[word]", arg=last, polling=100, timeout=count * 2_000
        )
        seen: dict[str, float] = await page.evaluate("() => window.seen")
        assert app.leadership.leading
    return [seen[word] - at for word, at in said.items()]


async def _opened(
    stack: AsyncExitStack, act: Callable[[Order, Listener, Stop], Awaitable[Ending]]
) -> "tuple[Page, App]":
    """Start a run, and open its page."""
    home = stack.enter_context(tempfile.TemporaryDirectory())
    settings = on_free_port(Settings(home=Path(home)))
    app = await stack.enter_async_context(open_app(settings, agent=FakeAgent(act)))
    origin = await stack.enter_async_context(serving(app))
    chromium = await stack.enter_async_context(open_chromium())
    browsing = Browsing(chromium, stack)
    run_id = await app.runs.add(NewRun("Say a word now and then.", Trigger.QUICK), app.clock.now())
    page = await browsing.page(f"{origin}/runs/{run_id}")
    await page.locator("[data-state=open]").wait_for()
    return page, app


async def _paints(visits: int) -> dict[str, list[Any]]:
    with tempfile.TemporaryDirectory() as home:
        fill(Path(home) / "jobs.db", RUNS, JOBS, until=SystemClock().now())
        with served(Path(home)) as site:
            await asyncio.sleep(SETTLED_SECONDS)
            async with open_chromium() as chromium:
                found: dict[str, list[Any]] = {path: [] for path in (*PATHS, BARE)}
                for _ in range(visits):
                    for path, seen in found.items():
                        async with AsyncExitStack() as stack:
                            page = await Browsing(chromium, stack).page(f"{site.origin}{path}")
                            seen.append(await page.evaluate(PAINTS))
                return found
