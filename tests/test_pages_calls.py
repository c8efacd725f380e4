"""The log of calls: what is in a row, what filters find, what is folded, and what open pages are sent."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import ClosedCall, NewCall, NewRun, Run, Trigger, Verdict
from tests.browser import Browsing, flaws, live
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock, running

FOUND = {"X-Live": "found"}


@pytest.fixture
async def site(tmp_path: Any, clock: FakeClock) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    settings = replace(on_free_port(Settings(home=tmp_path)), shutdown_grace_seconds=0.0)
    async with (
        open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop), clock=clock) as app,
        looking(app, follow_redirects=True) as client,
    ):
        yield app, client


@pytest.fixture
def app(site: tuple[App, httpx2.AsyncClient]) -> App:
    return site[0]


@pytest.fixture
def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


async def going_on(app: App) -> Run:
    return await running(app, await app.runs.add(NewRun("work", Trigger.QUICK), app.clock.now()))


async def called(
    app: App,
    run: Run | None,
    tool: str,
    arguments: dict[str, Any],
    verdict: Verdict = Verdict.OK,
    result: str | None = "fine",
    ms: float | None = 120.0,
) -> str:
    """Write down a call and return its id."""
    new = NewCall(tool, arguments, app.clock.now())
    closed = ClosedCall(None, new, verdict, result, ms)
    if run is None:
        await app.runs.note_call(closed)
    elif verdict is Verdict.OPEN:
        assert await app.runs.open_call(run, new) is not None
    else:
        assert await app.runs.record(run, (), calls=[closed])
    page = await app.runs.calls(None, None, 1)
    return page.calls[0].id


async def found(client: httpx2.AsyncClient, **filters: Any) -> str:
    """The part of the page that lists calls."""
    return (await client.get("/calls", params=filters, headers=FOUND)).text


async def test_where_no_tool_was_called_the_page_says_what_will_be_there(client: httpx2.AsyncClient) -> None:
    page = await client.get("/calls")
    assert page.status_code == 200
    assert "No tool has been called yet" in page.text


async def test_a_row_tells_what_was_called_by_whom_and_what_came_of_it(
    app: App, client: httpx2.AsyncClient
) -> None:
    run = await going_on(app)
    call_id = await called(app, run, "mcp__email__send_email", {"to": "ada@example.org", "cc": []})
    page = (await client.get("/calls")).text
    assert "<b>send_email</b> <small>email</small>" in page
    assert '<span class="given">ada@example.org, []</span>' in page
    assert '<span class="badge ok">ok</span>' in page
    assert "120 ms" in page
    assert f'<a href="/runs/{run.id}">run</a>' in page
    assert f'<a href="/calls/{call_id}">' in page
    assert "&#34;to&#34;: &#34;ada@example.org&#34;" in page  # folded
    assert '<pre class="code-block" tabindex="0" aria-label="Result">fine</pre>' in page


async def test_a_call_that_no_run_made_is_direct(app: App, client: httpx2.AsyncClient) -> None:
    await called(app, None, "mcp__email__send_email", {})
    assert "<span>direct</span>" in await found(client)


NARROWED: Final[tuple[tuple[dict[str, str], str], ...]] = (
    ({"server": "email"}, "bd"),
    ({"tool": "read"}, "a"),
    ({"tool": "Read"}, "a"),
    ({"tool": "email:send_email"}, "bd"),
    ({"tool": "send_email", "server": "email"}, "bd"),
    ({"tool": "mcp__email__send_email"}, "bd"),
    ({"verdict": "denied"}, "b"),
    ({"verdict": "open"}, "c"),
    ({"origin": "direct"}, "d"),
    ({"origin": "run"}, "abc"),
    ({"origin": "run", "verdict": "ok", "until": "2026-11-24"}, "a"),
    ({"since": "2026-11-23T09:00:15Z"}, "d"),
    ({"run": "000000000000"}, ""),
)


async def test_filters_narrow_the_log(app: App, client: httpx2.AsyncClient, clock: FakeClock) -> None:
    await app.stored.change({"timezone": "UTC"})
    run = await going_on(app)
    names = {}
    for name, tool, verdict in (
        ("a", "Read", Verdict.OK),
        ("b", "mcp__email__send_email", Verdict.DENIED),
        ("c", "Bash", Verdict.OPEN),
    ):
        clock.move(1)
        names[await called(app, run, tool, {}, verdict)] = name
    clock.move(60)
    names[await called(app, None, "mcp__email__send_email", {}, Verdict.ERROR)] = "d"
    for filters, expected in (*NARROWED, ({"run": run.id}, "abc")):
        page = await found(client, **filters)
        assert "".join(name for call_id, name in names.items() if call_id in page) == expected, filters
        assert expected or "No call matches" in page


async def test_a_filter_that_cannot_be_read_says_what_it_takes(client: httpx2.AsyncClient) -> None:
    for name in ("since", "until", "origin"):
        page = await client.get("/calls", params={name: "nonsense", "tool": "kept"})
        assert page.status_code == 422
        assert f'id="h-{name}"' in page.text
        assert 'value="kept"' in page.text
    for name in ("verdict", "cursor"):
        page = await client.get("/calls", params={name: "nonsense"})
        assert page.status_code == 422
        assert 'role="alert"' in page.text


async def test_a_long_result_is_cut_in_the_log_and_its_length_told(
    app: App, client: httpx2.AsyncClient
) -> None:
    call_id = await called(app, None, "Read", {"file_path": "/a" * 9_000}, result="r" * 30_000)
    page = (await client.get("/calls")).text
    assert "30,000 characters, of which the first 1,000 are shown" in page
    assert "r" * 1_001 not in page
    assert "/a" * 600 not in page
    whole = (await client.get(f"/calls/{call_id}")).text
    assert "30,000 characters, of which these 20,000 are kept" in whole
    assert "r" * 20_000 in whole
    assert "/a" * 9_000 in whole


async def test_nothing_that_a_tool_was_given_or_answered_acts(app: App, client: httpx2.AsyncClient) -> None:
    hostile = "<script>alert(1)</script>\u202eevil\x1b[31m"
    call_id = await called(app, None, "mcp__x__y", {hostile: hostile}, Verdict.ERROR, hostile)
    for page in (await client.get("/calls"), await client.get(f"/calls/{call_id}")):
        assert "<script>alert" not in page.text
        assert "\u202e" not in page.text
        assert "[U+202E]" in page.text
        assert "\x1b" not in page.text


async def test_an_open_page_is_sent_rows_without_their_texts(app: App, client: httpx2.AsyncClient) -> None:
    for number in range(40):
        text = " ".join(f"{number * place:x}" for place in range(300))
        await called(app, None, "mcp__email__send_email", {"body": text}, result=text)
    answer = await client.get("/calls", headers=FOUND)
    assert int(answer.headers["content-length"]) < 5_000
    assert "<pre" not in answer.text
    assert answer.text.count("data-keep=") == 40


async def test_a_call_that_goes_on_is_followed_on_its_page(app: App, client: httpx2.AsyncClient) -> None:
    run = await going_on(app)
    call_id = await called(app, run, "Bash", {"command": "sleep 9"}, Verdict.OPEN)
    page = (await client.get(f"/calls/{call_id}")).text
    assert '<article id="call" class="card" data-live="tool_calls">' in page
    assert "the call goes on" in page
    part = await client.get(f"/calls/{call_id}", headers={"X-Live": "call"})
    assert part.status_code == 200
    assert part.text.startswith("<article")


async def test_a_call_that_there_is_not_is_not_found(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/calls/0123456789abcdef")
    assert answer.status_code == 404
    assert "Nothing is here" in answer.text


async def test_older_calls_are_on_further_pages_each_once(
    app: App, client: httpx2.AsyncClient, clock: FakeClock
) -> None:
    ids = []
    for _ in range(45):
        clock.move(1)
        ids.append(await called(app, None, "Read", {}))
    page = (await client.get("/calls")).text
    older = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    rest = (await client.get(older)).text
    assert [call_id in page for call_id in ids] == [False] * 5 + [True] * 40
    assert [call_id in rest for call_id in ids] == [True] * 5 + [False] * 40
    assert "data-live=" not in rest.partition("<main")[2]


async def test_an_open_page_gets_new_calls_and_keeps_what_is_unfolded(
    app: App, browsing: Browsing, client: httpx2.AsyncClient, clock: FakeClock
) -> None:
    first = await called(app, None, "Read", {"file_path": "/first"}, result="the first")
    page = await browsing.page(f"{client.base_url}/calls")
    await live(page)
    row = page.locator(f'li[data-id="{first}"]')
    await row.locator("summary").click()
    assert await row.get_by_text("the first").is_visible()
    clock.move(1)
    second = await called(app, None, "Read", {"file_path": "/second"}, result="the second")
    newer = page.locator(f'li[data-id="{second}"]')
    await newer.locator("summary").click()
    await newer.get_by_text("the second").wait_for()  # which is asked for as somebody looks
    assert await row.get_by_text("the first").is_visible()
    assert await flaws(page) == []
