"""The page of what holds for all jobs: rules of those that decide nothing themselves, and prices of models."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.jobs import CatchUp, NotifyOn, Overlap, Policy
from claude_runner.prices import Price
from tests.pages import Site, open_site

PLACE = "/settings/rules"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as site:
        yield site


async def fields(site: Site) -> dict[str, Any]:
    """The form as a browser would send it."""
    page = await site.see(PLACE)
    form = page.partition('id="rules"')[2].partition("</form>")[0]
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", (await site.client.get(PLACE)).text):
        name, value = re.search(r'name="(\w+)"', tag), re.search(r'value="([^"]*)"', tag)
        is_sent = not re.search(r"checkbox|radio", tag) or " checked" in tag
        if name and is_sent:
            found.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    for name, options in re.findall(r'<select[^>]* name="(\w+)".*?>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="(\w+)" selected', options)
        found[name] = chosen[1] if chosen else ""
    return found


async def save(site: Site, before: dict[str, Any] | None = None, **changes: Any) -> httpx2.Response:
    return await site.send(PLACE, **(before or await fields(site)) | changes)


async def test_rules_are_saved_and_shown_and_go_back_to_the_standard(site: Site) -> None:
    await site.app.channels.add("phone", "json://127.0.0.1:9/x", site.clock.now())
    answer = await save(
        site,
        overlap="queue_all",
        catch_up="all",
        catch_up_minutes="90",
        max_retries="1",
        max_cost_usd="$0.50",
        notify_on_by="own",
        notify_on=["failure"],
        notify_channels_by="own",
        notify_channels=["phone"],
    )
    assert answer.status_code == 303, answer.text
    decided = (await site.app.stored.owned()).job_defaults
    assert decided == Policy(
        overlap=Overlap.QUEUE_ALL,
        catch_up=CatchUp.ALL,
        catch_up_minutes=90,
        max_retries=1,
        max_cost_usd=0.5,
        notify_on=(NotifyOn.FAILURE,),
        notify_channels=("phone",),
    )
    assert "all slots of the last 90 minutes are caught up" in await site.see("/settings")
    assert (await save(site)).status_code == 303
    assert (await site.app.stored.owned()).job_defaults == decided
    again: dict[str, Any] = {
        "overlap": "",
        "catch_up": "",
        "catch_up_minutes": "",
        "max_retries": "",
        "max_cost_usd": "",
    }
    await save(site, **again, notify_on_by="", notify_channels_by="")
    assert (await site.app.stored.owned()).job_defaults == Policy()


async def test_prices_are_added_changed_and_taken_out(site: Site) -> None:
    answer = await save(site, price_model=["mine", ""], price_input=["3", ""], price_output=["$15", ""])
    assert answer.status_code == 303, answer.text
    assert (await site.app.stored.owned()).prices == {"mine": Price(3, 15)}
    assert "yours of mine" in await site.see("/settings")
    await save(site, price_model=["mine", "other"], price_input=["4", "0"], price_output=["15", "0"])
    assert (await site.app.stored.owned()).prices == {"mine": Price(4, 15), "other": Price(0, 0)}
    await save(site, price_model=["", "other"], price_input=["", "0"], price_output=["", "0"])
    assert (await site.app.stored.owned()).prices == {"other": Price(0, 0)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_retries": "many"}, "it must be a whole number"),
        ({"max_cost_usd": "0"}, "with that nothing could run"),
        ({"cost_breaker": "0.5"}, "give how many times the usual cost is too much"),
        ({"overlap": "cancel_running", "catch_up": "all"}, "overlap 'cancel_running' would end that"),
        ({"price_model": "mine", "price_input": "dear", "price_output": "1"}, "'dear' is no price"),
        ({"price_model": "", "price_input": "1", "price_output": "1"}, "name the model"),
    ],
)
async def test_what_can_not_be_is_said_at_its_field_in_the_cores_words_and_stays_as_typed(
    site: Site, changes: dict[str, Any], said: str
) -> None:
    answer = await save(site, **changes)
    assert answer.status_code == 422
    page = unescape(answer.text)
    assert said in page.partition("</header>")[2].partition('class="error"')[2]
    assert f'value="{[*changes.values()][-1]}"' in page
    owned = await site.app.stored.owned()
    assert (owned.job_defaults, dict(owned.prices)) == (Policy(), {})


async def test_a_rule_that_a_budget_forbids_is_said_at_the_rule(site: Site) -> None:
    await site.app.stored.change({"budgets": {"run_usd": 1}})
    answer = await save(site, max_cost_usd="2")
    assert answer.status_code == 422
    assert "it could never be reached" in unescape(answer.text)
    assert 'aria-invalid="true" aria-describedby="h-max_cost_usd"' in answer.text


async def test_what_somebody_else_has_changed_meanwhile_is_kept_with_what_was_typed(site: Site) -> None:
    before = await fields(site)
    await site.app.stored.change({"job_defaults": {"max_retries": 5}})
    answer = await save(site, before, pause_after_failures="3")
    assert answer.status_code == 409
    assert "Somebody else has changed these" in answer.text
    for name, value in (("max_retries", "5"), ("pause_after_failures", "3")):
        assert f'name="{name}" value="{value}"' in answer.text
