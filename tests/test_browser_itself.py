"""What the browser's tests rest on: nothing that goes wrong in a page is overlooked."""

from typing import TYPE_CHECKING

import pytest

from tests.browser import Browsing, flaws, overflowing, shifts

if TYPE_CHECKING:
    from playwright.async_api import Page

HERE = "http://localhost/"
POLICY = "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'"
FRAME = (
    '<!doctype html><html lang="en"><head><title>A page</title></head>'
    "<body><main><h1>A page</h1>{}</main></body></html>"
)


async def showing(browsing: Browsing, body: str, policy: str = "") -> "Page":
    """Open a page with this in it, under a policy."""
    page = await browsing.page()
    headers = {"Content-Type": "text/html; charset=utf-8"} | (
        {"Content-Security-Policy": policy} if policy else {}
    )
    await page.route(HERE, lambda route: route.fulfill(body=FRAME.format(body), headers=headers))
    await page.goto(HERE)
    return page


@pytest.mark.parametrize(
    ("body", "policy", "told"),
    [
        ("<script>console.log('hm')</script>", "", "console, log: hm"),
        ("<script>x.y</script>", "", "uncaught: x is not defined"),
        ("<script>1</script>", POLICY, "console, error: Executing inline script violates"),
        ("<p style='color: red'>Text</p>", POLICY, "console, error: Applying inline style violates"),
        ("<img alt='' src='http://elsewhere.example/x.png'>", "", "asked http://elsewhere.example/x.png"),
        ("<img alt='' src='http://localhost:1/x.png'>", "", "console, error: Failed to load resource"),
    ],
)
async def test_a_mishap_is_noticed(browsing: Browsing, body: str, policy: str, told: str) -> None:
    page = await showing(browsing, body, policy)
    await page.evaluate("1")  # what the page said before comes before the answer
    found, browsing.mishaps = browsing.mishaps, []
    assert found[0].startswith(told)


async def test_a_mishap_that_is_expected_passes(browsing: Browsing) -> None:
    browsing.expect("hm$", "hm \\(")
    page = await showing(browsing, "<script>console.log('hm')</script>")
    await page.evaluate("1")
    assert browsing.mishaps == []


async def test_a_flaw_is_told_with_its_element(browsing: Browsing) -> None:
    page = await showing(browsing, "<button id='b'></button>")
    [flaw] = await flaws(page)
    assert flaw.startswith("button-name: #b: ")


async def test_a_page_without_flaws_has_none(browsing: Browsing) -> None:
    assert await flaws(await showing(browsing, "<p>Text</p>", POLICY)) == []


async def test_what_moves_is_told(browsing: Browsing) -> None:
    page = await showing(browsing, "<p id='low'>Text</p>")
    assert await shifts(page) == []
    await page.evaluate("""() => new Promise((done) => {
        document.querySelector("h1").insertAdjacentHTML("afterend", "<div style='height: 200px'></div>");
        requestAnimationFrame(() => requestAnimationFrame(done));
    })""")
    [shift] = await shifts(page)
    assert "p#low" in shift


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "<div id='d' style='width: 1400px'>Text</div>",
            ["the page is 1408 px wide", "beyond the window: div#d “Text”"],
        ),
        ("<div style='overflow-x: auto' tabindex=0><p style='width: 1400px'>Text</p></div>", []),
        (
            "<p style='width: 50px; overflow: hidden; white-space: nowrap'>Too long for it</p>",
            ["cut off: p “Too long for it”"],
        ),
        (
            "<p style='width: 50px; overflow: hidden; text-overflow: ellipsis; text-wrap: nowrap'>Too long for it</p>",
            [],
        ),
    ],
)
async def test_what_reaches_too_far_is_told(browsing: Browsing, body: str, told: list[str]) -> None:
    page = await showing(browsing, body)
    assert await overflowing(page) == told
