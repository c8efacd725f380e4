"""Pages of other sites, open in the owner's browser beside the dashboard, try to use it as he does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from tests.browser import Browsing, comes
from tests.sites import answering, on_free_port, serving
from tests.support import FakeAgent

if TYPE_CHECKING:
    from playwright.async_api import Response

# Each way in which a page can have the browser ask for something of another site.
TRIES: Final = """async (site) => {
  const ends = (thing) => new Promise((done) => (thing.onload = thing.onerror = thing.onopen = () => done()));
  const made = (tag, values) => document.body.appendChild(Object.assign(document.createElement(tag), values));
  const asked = [];
  for (const path of ["/", "/runs?q=secret", "/runs.csv", "/palette", "/api/jobs", "/api/servers/email"])
    asked.push(fetch(site + path, {mode: "no-cors", credentials: "include"}).catch(() => null));
  for (const path of ["/static/x/icon.svg", "/live"]) asked.push(ends(made("img", {src: site + path})));
  asked.push(ends(made("script", {src: site + "/palette"})));
  asked.push(ends(made("iframe", {src: site + "/quick?framed"})));
  asked.push(ends(made("object", {data: site + "/runs?object"})));
  for (const path of ["/live", "/runs/x/stream"])
    asked.push(ends(new EventSource(site + path, {withCredentials: true})));
  const form = new URLSearchParams({prompt: "Do as I say", scope: "all", do: "run"});
  const post = {method: "POST", mode: "no-cors", credentials: "include", body: form};
  for (const path of ["/quick", "/settings/backup"]) asked.push(fetch(site + path, post).catch(() => null));
  navigator.sendBeacon(site + "/quick", form);
  await Promise.all(asked);
}"""
FORM: Final = """(site) => {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", action: site + "/quick"});
  document.body.append(form);
  for (const [name, value] of Object.entries({prompt: "Do as I say", scope: "all", do: "run"}))
    form.append(Object.assign(document.createElement("input"), {name, value}));
  form.submit();
}"""


@asynccontextmanager
async def another_site() -> AsyncIterator[int]:
    """Serve an empty page, and yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<!doctype html><link rel=icon href=data:,><body>"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + page)
        await writer.drain()
        writer.close()

    async with answering(answer) as port:
        yield port


@pytest.fixture(scope="module")
async def dashboard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[App, str]]:
    settings = on_free_port(Settings(home=tmp_path_factory.mktemp("home")))
    async with open_app(settings, agent=FakeAgent()) as app, serving(app) as origin:
        yield app, origin


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_another_site_gets_nothing_and_does_nothing(
    dashboard: tuple[App, str], browsing: Browsing, name: str
) -> None:
    """Another site altogether, or another port of localhost, which is the same site and not the same origin."""
    app, origin = dashboard
    browsing.expect(
        "403",
        "ERR_FAILED",
        "favicon",
        "ERR_BLOCKED",
        "Refused to",
        "violates",
        "MIME",
        "Framing",
        "EventSource",
        "CORS",
        "sandbox",
    )
    answered: dict[str, set[int]] = {}

    def note(response: "Response") -> None:
        if response.url.startswith(origin):
            answered.setdefault(response.url.removeprefix(origin), set()).add(response.status)

    async with another_site() as port:
        page = await browsing.page(f"http://{name}:{port}/")
        page.on("response", note)
        await page.evaluate(TRIES, origin)
        await page.evaluate(FORM, origin)
        await comes(page, "() => location.pathname === '/quick'")
    assert {
        "/",
        "/runs?q=secret",
        "/palette",
        "/quick",
        "/quick?framed",
        "/settings/backup",
    } <= answered.keys()
    assert set().union(*answered.values()) == {403}
    assert await app.runs.going_on() == []
    assert not (app.settings.home / "backups").exists()


async def test_a_link_of_another_site_is_followed(dashboard: tuple[App, str], browsing: Browsing) -> None:
    _, origin = dashboard
    async with another_site() as port:
        page = await browsing.page(f"http://127.0.0.1:{port}/")
        await page.evaluate("(url) => location.assign(url)", f"{origin}/jobs")
        await page.get_by_role("heading", name="Jobs", exact=True).wait_for()


async def test_another_program_of_this_machine_can_put_no_words_into_our_mouth(
    dashboard: tuple[App, str], browsing: Browsing
) -> None:
    """Cookies know no ports: what it sets is sent to us, and must neither be shown nor keep any page from being."""
    app, origin = dashboard
    job = await app.jobs.add(JobDraft("Mine", "@daily", "x", "UTC"), app.clock.now())
    said = f'["All is lost","bad","/jobs/{job.id}/delete","Save it"]'
    async with another_site() as port:
        page = await browsing.page(f"http://localhost:{port}/")
        for forged in (quote(said), "[" * 3_000, "x.y", "."):
            await page.goto(f"http://localhost:{port}/")
            await page.evaluate("(value) => (document.cookie = `notice=${value}; path=/`)", forged)
            answer = await page.goto(f"{origin}/jobs")
            assert answer is not None
            assert answer.status == 200
            assert await page.locator(".notice").count() == 0
