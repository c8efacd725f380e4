"""What every page has: who sees it, how it is packed and cached, what is said once, and what open pages are told."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Login, Settings
from claude_runner.hub import Topic
from claude_runner.web.dashboard._forms import Notice, go_to
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import PATIENCE, FakeAgent, FakeClock


@pytest.fixture
async def site(tmp_path: Any) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    settings = on_free_port(Settings(home=tmp_path))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        looking(app) as client,
    ):
        yield app, client


@pytest.fixture
async def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


async def test_a_page_may_load_and_send_nothing_beyond_this_site(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "require-trusted-types-for 'script'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert not re.search(
        r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", answer.text
    )


@pytest.mark.parametrize("path", ["/", "/live", "/palette", "/keys", "/static/x/app.css"])
async def test_everything_stands_behind_the_login(tmp_path: Any, path: str) -> None:
    settings = on_free_port(Settings(home=tmp_path, dashboard=Login("ada", "correct horse")))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        looking(app) as client,
    ):
        answer = await client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        async with client.stream("GET", path, auth=("ada", "correct horse")) as answer:
            assert answer.status_code == 200


async def test_a_page_of_another_site_can_post_nothing(client: httpx2.AsyncClient) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = await client.post("/theme", data={"theme": "dark"}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_what_is_no_form_is_not_taken(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/theme", json={"theme": "dark"})).status_code == 415
    malformed = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("/theme", content=b"\xff=%", headers=malformed)).status_code == 422


async def test_a_person_gets_a_page_where_nothing_is_and_a_program_an_error(
    client: httpx2.AsyncClient,
) -> None:
    page = await client.get("/nothing<b>")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "there is nothing at /nothing&lt;b&gt;" in page.text
    for path, headers in (
        ("/nothing", {"Accept": "*/*"}),
        ("/static/0/nothing.css", {}),
        ("/jobs/0", {"X-Live": "x"}),
    ):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_person_who_is_not_let_in_is_not_told_whether_a_page_is_there(tmp_path: Any) -> None:
    settings = on_free_port(Settings(home=tmp_path, dashboard=Login("ada", "correct horse")))
    async with (
        open_app(settings, agent=FakeAgent(), clock=FakeClock()) as app,
        looking(app) as client,
    ):
        assert {(await client.get(path)).status_code for path in ("/jobs/0", "/nothing")} == {401}


async def test_assets_are_packed_and_kept_for_ever_under_an_address_of_their_contents(
    client: httpx2.AsyncClient,
) -> None:
    page = (await client.get("/")).text
    found = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert {path.rsplit(".", 1)[1] for path in found} == {"css", "js", "svg"}
    for path in found:
        answer = await client.get(path)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        plain = await client.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
    earlier = await client.get(re.sub(r"/static/[0-9a-f]+/", "/static/0123/", found[0]))
    assert earlier.headers["cache-control"] == "no-cache"


async def test_a_page_is_not_packed_where_another_site_could_look_at_its_length(
    client: httpx2.AsyncClient,
) -> None:
    own = await client.get("/")
    assert own.headers["content-encoding"] == "gzip"
    asked = await client.get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert "content-encoding" not in asked.headers


async def test_the_first_visit_is_small(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/")).text
    size = len(gzip.compress(page.encode(), 3))
    for path in {
        *re.findall(r'(?:href|src)="(/static/[^"]+)"', page),
        re.sub("app.js", "keys.js", page.split('src="')[1].split('"')[0]),
    }:
        size += len(gzip.compress((await client.get(path)).content, 9))
    assert size < 40_000


async def test_the_theme_is_kept_in_a_cookie_so_that_no_page_flashes(client: httpx2.AsyncClient) -> None:
    assert "data-theme=" not in (await client.get("/")).text.split(">")[1]
    answer = await client.post("/theme?back=/keys", data={"theme": "dark"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    assert '<html lang="en" data-theme="dark">' in (await client.get("/")).text
    await client.post("/theme", data={"theme": "auto"})
    assert 'data-theme="dark"' not in (await client.get("/")).text


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "/\r\nx"]
)
async def test_nobody_is_sent_to_another_site(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.post(f"/theme?back={quote(path)}", data={"theme": "dark"})
    assert answer.headers["location"] == "/"


async def test_a_notice_is_shown_once_and_only_as_text(client: httpx2.AsyncClient) -> None:
    notice = Notice("<b>Done</b>", "ok", "/jobs/1/restore", "Undo")
    given = go_to("/", notice).headers["set-cookie"].partition(";")[0]
    answer = await client.get("/", headers={"Cookie": given})
    assert "&lt;b&gt;Done&lt;/b&gt;" in answer.text
    assert 'action="/jobs/1/restore"' in answer.text
    assert 'notice=""' in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "cookie",
    [
        "x",
        "%00",
        "[]",
        '["a","b","c"]',
        '["a","ok","/jobs/1/delete","Undo"]',
        "0" * 32 + '.["a","ok","",""]',
        "." + "[" * 4_000,
    ],
)
async def test_a_notice_that_we_did_not_write_is_not_shown(client: httpx2.AsyncClient, cookie: str) -> None:
    answer = await client.get("/", headers={"Cookie": f"notice={quote(cookie)}"})
    assert answer.status_code == 200
    assert 'class="notice' not in answer.text


async def test_an_open_page_gets_the_parts_it_asks_for_alone(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/", headers={"X-Live": "running tiles"})
    assert re.findall(r'<section class="\w+" id="(\w+)"', answer.text) == ["running", "tiles"]
    assert "<html" not in answer.text
    wrong = await client.get("/", headers={"X-Live": "nothing"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "invalid")


async def test_an_open_page_is_told_the_names_of_what_changes(site: tuple[App, httpx2.AsyncClient]) -> None:
    app, client = site
    async with client.stream("GET", "/live") as stream:
        lines = stream.aiter_lines()
        assert await said(lines) == "retry: 1000"
        assert (await said(lines)).startswith("event: hello\ndata: ")
        app.hub.publish(Topic.RUNS, "0")
        assert await said(lines) == "event: changed\ndata: runs"
        app.hub.publish(Topic.EVENTS, "0")
        assert await said(lines) == "event: changed\ndata: events"
        for topic in (
            Topic.EVENTS,
            Topic.JOBS,
            Topic.CANCEL,
        ):  # the first waits; the last is nobody's business
            app.hub.publish(topic, "0")
        assert await said(lines) == "event: changed\ndata: jobs"
        assert await said(lines) == "event: changed\ndata: events"


async def test_a_page_knows_whether_anything_has_changed_since_it_was_asked_for(
    site: tuple[App, httpx2.AsyncClient],
) -> None:
    app, client = site

    async def told() -> str:
        async with client.stream("GET", "/live") as stream:
            lines = stream.aiter_lines()
            await said(lines)
            return (await said(lines)).removeprefix("event: hello\ndata: ")

    seen = re.findall(r'data-seen="(\d+)"', (await client.get("/")).text)
    assert [await told()] == seen
    app.hub.publish(Topic.RUNS, "0")
    assert [await told()] != seen


async def said(lines: AsyncIterator[str]) -> str:
    """The next message of a stream."""
    message: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            if not line and message:
                return "\n".join(message)
            if line and not line.startswith(":"):
                message.append(line)
    raise AssertionError("the stream has ended")
