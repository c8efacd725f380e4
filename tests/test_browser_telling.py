"""Channels, what was told, and default rules in a real browser: what a person does there, and what comes by itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_runner.jobs import NotifyOn
from claude_runner.prices import Price
from tests.browser import PHONE, Browsing, live
from tests.led import LedSite, led_site
from tests.shipped import open_stand_in

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[LedSite]:
    async with led_site(tmp_path) as site:
        yield site


def button(where: "Page | Locator", name: str) -> "Locator":
    return where.get_by_role("button", name=name, exact=True)


async def says(page: "Page", text: str) -> None:
    """Wait until the page says so."""
    await page.locator("main").get_by_text(text).first.wait_for()


async def test_a_channel_is_made_tried_silenced_and_deleted(site: LedSite, browsing: Browsing) -> None:
    page = await browsing.page(f"{site.origin}/notifications")
    await page.locator("main").get_by_role("link", name="Add a channel").first.click()
    async with open_stand_in() as service:
        service.answers("ok")
        await page.get_by_label("Name", exact=True).fill("phone")
        await page.get_by_label("Address", exact=True).fill(service.url.replace("http://", "json://"))
        await button(page, "Add it").click()
        await says(page, "phone is told from now on")
        await button(page, "Test").click()
        await says(page, "phone took the test")
        assert len(service.requests) == 1
    await page.locator("#told").get_by_text("A test from Claude Runner").wait_for()
    await button(page, "Switch off").click()
    await button(page, "Undo").click()
    await says(page, "phone is told again")
    await page.get_by_role("link", name="Edit phone").click()
    await page.get_by_text("Delete this channel…").click()
    await button(page, "Delete it").click()
    await says(page, "Nobody hears of anything yet")
    assert await site.app.channels.list() == []


async def test_an_open_page_shows_what_is_told_as_it_happens(site: LedSite, browsing: Browsing) -> None:
    channel = await site.app.channels.add("phone", "json://127.0.0.1:9/x", site.app.clock.now())
    page = await browsing.page(f"{site.origin}/notifications", width=PHONE)
    overview = await browsing.page(site.origin)
    await live(page)
    await live(overview)
    await site.app.channels.test(channel.id, site.app.clock.now())
    await page.locator("#told").get_by_text("A test from Claude Runner").wait_for()
    await page.locator("#channels").get_by_text("takes nothing").wait_for()
    await overview.locator("#needs").get_by_text("Channel phone").wait_for()


async def test_default_rules_and_a_price_are_set_by_hand(site: LedSite, browsing: Browsing) -> None:
    browsing.expect("422")
    page = await browsing.page(f"{site.origin}/settings")
    await page.locator("section#rules").get_by_role("link", name="Change them").click()
    told = page.get_by_role("group", name="What is told")
    await told.get_by_label("Only these, or nothing").check()
    await told.get_by_label("failures", exact=True).check()
    await page.get_by_label("Try again, times").fill("often")
    await page.get_by_label("Model 1", exact=True).fill("mine")
    await page.get_by_label("In, model 1").fill("3")
    await page.get_by_label("Out, model 1").fill("15")
    await button(page, "Save").first.click()
    await says(page, "it must be a whole number")
    await page.get_by_label("Try again, times").fill("1")
    await button(page, "Save").first.click()
    await says(page, "Saved. What begins from now on goes by it.")
    owned = await site.app.stored.owned()
    assert (owned.job_defaults.notify_on, owned.job_defaults.max_retries) == ((NotifyOn.FAILURE,), 1)
    assert owned.prices == {"mine": Price(3, 15)}
