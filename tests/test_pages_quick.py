"""A prompt that is run at once: the form, what it grants, what is refused, rehearsals, and the dialog in a browser."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from claude_runner.agent import ClaudeAgent
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.permissions import Profile
from claude_runner.runs import NewRun, Run, RunQuery, Trigger
from tests.browser import Browsing, comes, flaws
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent

if TYPE_CHECKING:
    from playwright.async_api import Page

HOSTILE: Final = "</textarea><script>alert(1)</script>"


@pytest.fixture
async def site(tmp_path: Any) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    settings = on_free_port(Settings(home=tmp_path))
    async with (
        open_app(settings, agent=FakeAgent()) as app,
        looking(app) as client,
    ):
        yield app, client


@pytest.fixture
def app(site: tuple[App, httpx2.AsyncClient]) -> App:
    return site[0]


@pytest.fixture
def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


async def token(client: httpx2.AsyncClient) -> str:
    """What a form bears that is sent once."""
    found = re.search(r'name="once" value="([^"]+-quick)"', (await client.get("/quick")).text)
    assert found is not None
    return found[1]


async def all_runs(app: App) -> list[Run]:
    hits = await app.runs.search(RunQuery(), 50)
    return [await app.runs.get(row.id) for row in hits.runs]


async def test_a_prompt_is_run_and_its_page_comes_next(app: App, client: httpx2.AsyncClient) -> None:
    answer = await client.post("/quick", data={"prompt": "Look around.\r\nTell me.", "do": "run"})
    [run] = await all_runs(app)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{run.id}")
    assert (run.prompt, run.trigger) == ("Look around.\nTell me.", Trigger.QUICK)
    assert (run.tools, run.profile, run.model, run.timeout_minutes) == ((), None, None, 30)


async def test_what_is_chosen_is_what_the_run_gets(app: App, client: httpx2.AsyncClient) -> None:
    await client.post(
        "/quick",
        data={
            "prompt": "x",
            "scope": "these",
            "tools": ["Read", "mcp__runner__report", "Bash"],
            "profile": "rules",
            "commands": "git status\r\n\r\n npm test ",
            "model": " sonnet ",
            "timeout_minutes": "5",
        },
    )
    [run] = await all_runs(app)
    assert run.tools == ("Read", "mcp__runner__report", "Bash")
    assert (run.profile, run.commands) == (Profile.RULES, ("git status", "npm test"))
    assert (run.model, run.timeout_minutes) == ("sonnet", 5)


async def test_ticks_count_only_where_these_alone_are_wanted(app: App, client: httpx2.AsyncClient) -> None:
    await client.post("/quick", data={"prompt": "x", "scope": "all", "tools": ["Read"]})
    [run] = await all_runs(app)
    assert run.tools == ()


async def test_a_form_that_is_sent_twice_makes_one_run(app: App, client: httpx2.AsyncClient) -> None:
    form = {"prompt": "once", "do": "run", "once": await token(client)}
    answers = await asyncio.gather(*(client.post("/quick", data=form) for _ in range(3)))
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(await all_runs(app)) == 1


REFUSED: Final[tuple[tuple[dict[str, str], str], ...]] = (
    ({"prompt": "  "}, "prompt"),
    ({"scope": "these"}, "tools"),
    ({"scope": "these", "tools": "Glob"}, "tools"),  # which is not allowed
    ({"profile": "full"}, "profile"),
    ({"profile": "mighty"}, "profile"),
    ({"commands": "rm -rf / && true"}, "commands"),
    ({"model": "no such; model"}, "model"),
    ({"timeout_minutes": "soon"}, "timeout_minutes"),
    ({"timeout_minutes": "1441"}, "timeout_minutes"),
)


async def test_what_is_refused_says_why_at_its_field_and_keeps_what_was_typed(
    app: App, client: httpx2.AsyncClient
) -> None:
    typed = {"prompt": HOSTILE, "model": "opus", "timeout_minutes": "7", "commands": "ls", "scope": "all"}
    for wrong, field in REFUSED:
        page = await client.post("/quick", data=typed | wrong)
        assert page.status_code == 422, wrong
        assert 'class="error"' in page.text, wrong
        assert "<script>alert" not in page.text
        if field != "tools":
            assert f'id="h-quick-{field}"' in page.text
        for name, value in (typed | wrong).items():
            kept = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
            assert kept in page.text, (wrong, name)
        assert field == "prompt" or "<details open" in page.text
    assert await all_runs(app) == []


async def test_a_refused_form_can_be_sent_again(app: App, client: httpx2.AsyncClient) -> None:
    once = await token(client)
    assert (await client.post("/quick", data={"prompt": "", "once": once})).status_code == 422
    assert (await client.post("/quick", data={"prompt": "now", "once": once})).status_code == 303
    assert len(await all_runs(app)) == 1


async def test_the_form_offers_what_may_be_granted(app: App, client: httpx2.AsyncClient) -> None:
    await app.stored.change({"allowed_tools": ["Read", "Glob"], "default_model": "haiku"})
    page = (await client.get("/quick")).text
    assert 'name="tools" value="Glob"' in page
    assert 'name="tools" value="Bash"' not in page
    assert 'name="tools" value="mcp__email__*"' in page
    assert 'name="tools" value="mcp__runner__report"' in page
    assert "Empty: haiku." in page
    assert re.search(r'<option value="full" disabled>', page)


async def test_the_form_is_filled_as_another_run_was(app: App, client: httpx2.AsyncClient) -> None:
    new = NewRun(
        "\n again", Trigger.QUICK, ("Read",), 9, "opus", profile=Profile.RULES, commands=("ls", "git log")
    )
    run_id = await app.runs.add(new, app.clock.now())
    page = (await client.get(f"/quick?from={run_id}")).text
    assert ">\n\n again</textarea>" in page  # of line ends after the tag, the first is none of the text
    assert 'value="Read" checked' in page
    assert '<option value="rules" selected>' in page
    assert "ls\ngit log</textarea>" in page
    assert 'value="opus"' in page
    assert 'value="9"' in page
    assert (await client.get("/quick?from=nobody")).status_code == 404


async def test_a_rehearsal_reports_and_keeps_the_form(owner: Settings) -> None:
    settings = on_free_port(owner)
    async with (
        open_app(settings, agent=ClaudeAgent(settings)) as app,
        looking(app) as client,
    ):
        page = await client.post("/quick", data={"prompt": "Say hello.", "do": "rehearse"})
        assert await all_runs(app) == []
    assert page.status_code == 200
    assert "A run would run." in page.text
    assert "Now run it" in page.text
    assert ">\nSay hello.</textarea>" in page.text


async def test_a_rehearsal_of_nothing_is_refused_in_the_form(client: httpx2.AsyncClient) -> None:
    page = await client.post("/quick", data={"prompt": "", "do": "rehearse", "model": "opus"})
    assert page.status_code == 422
    assert 'value="opus"' in page.text


@pytest.fixture
async def page(browsing: Browsing, client: httpx2.AsyncClient) -> "Page":
    """A browser at the list of runs."""
    page = await browsing.page(f"{client.base_url}/runs")
    await page.locator("[data-live-status][data-state=open]").wait_for()
    return page


async def test_the_key_q_opens_the_form_and_ctrl_enter_runs_it(app: App, page: "Page") -> None:
    await page.keyboard.press("q")
    prompt = page.get_by_role("dialog").get_by_label("Prompt")
    await prompt.fill("Look around")
    assert await flaws(page) == []
    await page.keyboard.press("Control+Enter")
    await page.wait_for_url(re.compile(r"/runs/\w{12}$"))
    [run] = await all_runs(app)
    assert run.prompt == "Look around"


async def test_what_was_typed_outlives_the_dialog(page: "Page") -> None:
    await page.keyboard.press("q")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Prompt").fill("half a thought")
    await page.keyboard.press("Escape")
    await dialog.wait_for(state="hidden")
    await page.keyboard.press("q")
    await comes(page, "() => document.querySelector('dialog[open] textarea')?.value === 'half a thought'")


async def test_a_form_refused_from_the_dialog_comes_back_as_a_page(browsing: Browsing, page: "Page") -> None:
    browsing.expect("422")
    await page.keyboard.press("q")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Prompt").fill("Look around")
    await dialog.get_by_text("Tools, permissions, model").click()
    await dialog.get_by_label("Only these").check()
    await dialog.get_by_role("button", name="Run", exact=True).click()
    await page.wait_for_url("**/quick")
    assert await page.get_by_label("Prompt").input_value() == "Look around"
    assert (
        await page.get_by_role("alert").inner_text() == "tick what it may use, or choose all that is allowed"
    )
    assert await flaws(page) == []


async def test_without_javascript_the_form_is_a_page(
    app: App, browsing: Browsing, client: httpx2.AsyncClient
) -> None:
    page = await browsing.page(f"{client.base_url}/", java_script_enabled=False)
    await page.get_by_role("link", name="Quick run").click()
    await page.get_by_label("Prompt").fill("Look around")
    await page.get_by_role("button", name="Run", exact=True).click()
    await page.wait_for_url(re.compile(r"/runs/\w{12}$"))
    assert len(await all_runs(app)) == 1
