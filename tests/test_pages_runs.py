"""The list of runs: what is in a row, what filters and words find, pages, and the files of all that is found."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from claude_runner.runs import Ending, NewRun, Report, ReportStatus, Run, State, Tokens, Trigger
from claude_runner.webhooks import read_template
from tests.browser import Browsing, live
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import FakeAgent, FakeClock, ended

FOUND = {"X-Live": "found"}
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"


async def act(order: Order, listener: Listener, _stop: Stop) -> Ending:
    """End as the prompt says: the first word is how, the rest is the output."""
    listener.started()
    how, _, rest = order.prompt.partition(" ")
    if how == "fail":
        return Ending(State.ERROR, output=rest, error=f"{rest}\nand more", reason="max_turns", cost_usd=0.5)
    return Ending(State.FINISHED, output=rest, tokens=Tokens(input=1200, output=34), cost_usd=0.02)


@pytest.fixture
async def site(tmp_path: Any, clock: FakeClock) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    settings = on_free_port(Settings(home=tmp_path))
    async with (
        open_app(settings, agent=FakeAgent(act), clock=clock) as app,
        looking(app, follow_redirects=True) as client,
    ):
        await app.stored.change({"timezone": "Europe/Berlin"})
        yield app, client


@pytest.fixture
def app(site: tuple[App, httpx2.AsyncClient]) -> App:
    return site[0]


@pytest.fixture
def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


async def ran(app: App, prompt: str, trigger: Trigger = Trigger.QUICK, **more: Any) -> Run:
    """A run that has ended and is found by its words."""
    run = await ended(app, await app.runs.add(NewRun(prompt, trigger, **more), app.clock.now()))
    await app.runs.take_words()
    return run


async def made_job(app: App, name: str = "Morning briefing") -> str:
    draft = JobDraft(name, "0 7 * * *", "ok all quiet", "UTC", enabled=False)
    return (await app.jobs.add(draft, app.clock.now())).id


async def found(client: httpx2.AsyncClient, **filters: Any) -> str:
    """The part of the page that lists runs."""
    answer = await client.get("/runs", params=filters, headers=FOUND)
    return answer.text


async def test_where_nothing_has_run_the_page_says_what_to_do_next(client: httpx2.AsyncClient) -> None:
    page = await client.get("/runs")
    assert page.status_code == 200
    assert "Nothing has run yet" in page.text
    assert 'href="/jobs/new"' in page.text


async def test_a_row_tells_what_ran_and_what_came_of_it(app: App, client: httpx2.AsyncClient) -> None:
    job_id = await made_job(app)
    run = await ran(app, "ok the sprint is over", Trigger.SCHEDULE, job_id=job_id)
    page = (await client.get("/runs")).text
    assert f'<a href="/runs/{run.id}">Morning briefing</a>' in page
    assert "schedule" in page
    assert "ok the sprint is over" in page
    assert '<span class="badge ok">finished</span>' in page
    assert '<span title="1,234 tokens">1.23k</span>' in page
    assert "$0.02" in page


async def test_a_run_without_a_job_is_called_by_its_prompt(app: App, client: httpx2.AsyncClient) -> None:
    await ran(app, "\n\nok look into the folder\nand then leave")
    page = await found(client)
    assert ">ok look into the folder</a>" in page
    assert "and then leave" not in page


async def test_of_a_webhooks_prompt_the_words_of_its_template_come_first(
    app: App, client: httpx2.AsyncClient
) -> None:
    prompt = read_template("ok look at {{payload.title}} at once").render({"title": "the\nrelease"}).prompt
    await ran(app, prompt, Trigger.WEBHOOK, webhook_id="0a1b2c3d")
    assert '<p class="one-line">ok look at the</p>' in await found(client)


async def test_of_a_failed_run_the_first_line_of_the_error_is_shown(
    app: App, client: httpx2.AsyncClient
) -> None:
    await ran(app, "fail it took too many turns")
    page = await found(client)
    assert "failed: max turns" in page
    assert '<p class="one-line bad">it took too many turns</p>' in page
    assert "and more" not in page


async def test_what_a_run_says_itself_is_shown(app: App, client: httpx2.AsyncClient) -> None:
    run_id = await app.runs.add(
        NewRun("wait", Trigger.QUICK, not_before=app.clock.now() + timedelta(hours=1)), app.clock.now()
    )
    said = Report(ReportStatus.PARTLY, "two of three mails were sent")
    await app.database.write(
        lambda c: (
            c.execute(
                "UPDATE runs SET report_status = :status, report_summary = :summary WHERE id = :id",
                {"status": said.status, "summary": said.summary, "id": run_id},
            ).rowcount
        )
    )
    page = await found(client)
    assert '<p class="one-line warn">partly: two of three mails were sent</p>' in page
    assert "waits until" in page


async def test_nothing_that_a_run_said_is_markup(app: App, client: httpx2.AsyncClient) -> None:
    await ran(app, f"fail {HOSTILE}", Trigger.WEBHOOK, webhook_id="gone")
    await ran(app, f"fail {HOSTILE}")
    for filters in ({}, {"q": "script"}, {"job": HOSTILE, "reason": HOSTILE, "since": HOSTILE}):
        page = await client.get("/runs", params=filters)
        assert "<script>alert" not in page.text
    for filters in ({}, {"q": "script"}):
        part = await found(client, **filters)
        assert "[U+202E]" in part
        assert "\u202e" not in part
        assert "\x1b" not in part
    assert "a webhook that was deleted" in await found(client)


NARROWED: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"state": "error"}, "b"),
    ({"state": ["error", "cancelled"]}, "b"),
    ({"reason": "Max turns"}, "b"),
    ({"trigger": "manual"}, "c"),
    ({"cost": "$0.40"}, "b"),
    ({"rehearsal": "yes"}, "d"),
    ({"rehearsal": "no"}, "abc"),
    ({"since": "2026-11-24"}, "cd"),
    ({"until": "2026-11-24"}, "ab"),
    ({"since": "2026-11-23T23:00:00+00:00", "until": "2026-11-25T00:00:00Z"}, "cd"),
    ({"since": "2026-11-24T00:59"}, "cd"),
    ({"since": "2026-11-24T01:00"}, ""),
    ({"q": "wor", "state": "finished"}, "ac"),
)


async def test_filters_narrow_the_list(app: App, client: httpx2.AsyncClient, clock: FakeClock) -> None:
    names = {(await ran(app, "ok world")).id: "a", (await ran(app, "fail words")).id: "b"}
    clock.move(timedelta(hours=15))  # the day after, in Berlin alone
    names[(await ran(app, "ok work", Trigger.MANUAL)).id] = "c"
    names[(await ran(app, "ok nothing", rehearsal=True)).id] = "d"
    for filters, expected in NARROWED:
        page = await found(client, **filters)
        assert "".join(name for run_id, name in names.items() if run_id in page) == expected, filters


async def test_a_job_and_a_webhook_are_filters_too(app: App, client: httpx2.AsyncClient) -> None:
    job_id = await made_job(app)
    of_job = await ran(app, "ok one", Trigger.MANUAL, job_id=job_id)
    of_webhook = await ran(app, "ok two", Trigger.WEBHOOK, webhook_id="0a1b2c3d")
    assert of_job.id in await found(client, job=job_id)
    assert of_webhook.id not in await found(client, job=job_id)
    assert of_webhook.id in await found(client, webhook="0a1b2c3d")
    page = (await client.get("/runs", params={"job": job_id, "webhook": "0a1b2c3d"})).text
    assert f'<option value="{job_id}" selected>Morning briefing</option>' in page
    assert '<option value="0a1b2c3d" selected>0a1b2c3d</option>' in page  # which has no name any more
    assert "No run matches" in page


async def test_words_are_marked_where_they_were_found(app: App, client: httpx2.AsyncClient) -> None:
    await ran(app, "ok the quarterly numbers are in")
    page = await found(client, q="quarterly numb")
    assert "<mark>quarterly</mark> <mark>numbers</mark>" in page
    assert "data-live" not in page  # what is looked for is not looked for again each time


async def test_a_filter_that_matches_nothing_says_so_and_is_cleared(
    app: App, client: httpx2.AsyncClient
) -> None:
    await ran(app, "ok")
    page = await client.get("/runs", params={"state": "cancelled"})
    assert "No run matches" in page.text
    assert '<a class="button" href="/runs">Clear the filters</a>' in page.text


UNREADABLE: Final = (
    ("since", "yesterday"),
    ("until", "2026-13-01"),
    ("until", "0001-01-01"),  # before the first day of UTC
    ("cost", "much"),
    ("cost", "-1"),
    ("cost", "nan"),
    ("rehearsal", "perhaps"),
    ("trigger", "magic"),
    ("reason", "x" * 501),
)


async def test_a_filter_that_cannot_be_read_says_what_it_takes(client: httpx2.AsyncClient) -> None:
    for name, value in UNREADABLE:
        page = await client.get("/runs", params={name: value, "q": "kept"})
        assert page.status_code == 422
        assert f'<p class="error" id="h-{name}">' in page.text
        assert f'aria-describedby="h-{name}"' in page.text
        assert 'value="kept"' in page.text
        assert "<details open" in page.text


async def test_a_state_or_cursor_that_is_none_is_told_above_the_list(client: httpx2.AsyncClient) -> None:
    for filters in ({"state": "asleep"}, {"cursor": "nonsense"}):
        page = await client.get("/runs", params=filters)
        assert page.status_code == 422
        assert 'role="alert"' in page.text


async def test_an_address_keeps_no_empty_fields(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/runs?q=&job=&state=error&since=", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?state=error")


async def test_a_tab_narrows_to_a_state_and_keeps_the_other_filters(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/runs", params={"reason": "timeout", "state": "error", "cursor": ""})).text
    assert 'href="/runs?reason=timeout&amp;state=running"' in page
    assert '<a href="/runs?reason=timeout&amp;state=error" aria-current="page">Failed</a>' in page
    assert '<input type="hidden" name="state" value="error">' in page


async def test_older_runs_are_on_further_pages_each_once(app: App, client: httpx2.AsyncClient) -> None:
    later = NewRun("ok", Trigger.QUICK, not_before=app.clock.now() + timedelta(days=1))
    ids = {await app.runs.add(later, app.clock.now()) for _ in range(90)}
    seen: list[str] = []
    link: str | None = "/runs"
    while link is not None:
        page = (await client.get(link)).text
        seen += [run_id for run_id in ids if f'data-id="{run_id}"' in page]
        _, sign, rest = page.partition('rel="next" href="')
        link = rest.partition('"')[0].replace("&amp;", "&") if sign else None
    assert len(seen) == 90
    assert set(seen) == ids


async def test_only_the_first_page_follows_what_happens(app: App, client: httpx2.AsyncClient) -> None:
    later = NewRun("ok", Trigger.QUICK, not_before=app.clock.now() + timedelta(days=1))
    for _ in range(41):
        await app.runs.add(later, app.clock.now())
    page = (await client.get("/runs")).text
    assert '<section id="found" data-live="runs"' in page
    older = page.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "data-live=" not in (await client.get(older)).text.partition("<main")[2]


async def test_what_follows_is_small(app: App, client: httpx2.AsyncClient) -> None:
    job_id = await made_job(app, "A rather long name of a job that looks into many things")
    for number in range(40):
        await ran(
            app,
            f"fail {number} of the things that were to be done could not be done",
            Trigger.MANUAL,
            job_id=job_id,
        )
    answer = await client.get("/runs", headers=FOUND)
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 5_000


async def test_all_that_is_found_comes_as_csv(app: App, client: httpx2.AsyncClient) -> None:
    job_id = await made_job(app, '=HYPERLINK("evil"), "quoted"')
    run = await ran(app, 'ok one, "two"\nthree', Trigger.MANUAL, job_id=job_id)
    await ran(app, "fail quite")
    answer = await client.get("/runs.csv", params={"state": "finished"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="runs-2026-11-23.csv"'
    [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["id"] == run.id
    assert row["prompt"] == 'ok one, "two"\nthree'
    assert row["job_name"] == '\'=HYPERLINK("evil"), "quoted"'
    assert answer.text.count("\r\n") == 2


async def test_all_that_is_found_comes_as_json(app: App, client: httpx2.AsyncClient) -> None:
    run = await ran(app, "fail quite")
    await ran(app, "ok")
    answer = await client.get("/runs.json", params={"state": "error"})
    assert [found["id"] for found in answer.json()] == [run.id]
    assert (await client.get("/runs.json", params={"state": "cancelled"})).json() == []


async def test_a_file_of_a_filter_that_cannot_be_read_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/runs.csv", params={"since": "soon"}, headers={"Accept": "*/*"})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "since"


async def test_a_file_of_many_runs_is_sent_piece_by_piece(app: App, client: httpx2.AsyncClient) -> None:
    later = NewRun("ok " + "x" * 2000, Trigger.QUICK, not_before=app.clock.now() + timedelta(days=1))
    for _ in range(1_200):
        await app.runs.add(later, app.clock.now())
    pieces = 0
    async with client.stream("GET", "/runs.csv") as answer:
        assert "content-length" not in answer.headers
        async for _ in answer.aiter_raw():
            pieces += 1
    assert pieces > 2


async def test_an_open_page_follows_a_run_from_its_start_to_its_end(
    app: App, browsing: Browsing, client: httpx2.AsyncClient
) -> None:
    page = await browsing.page(f"{client.base_url}/runs")
    await live(page)
    assert await page.get_by_role("heading", name="Nothing has run yet").is_visible()
    later = NewRun("ok then", Trigger.QUICK, not_before=app.clock.now() + timedelta(hours=1))
    run_id = await app.runs.add(later, app.clock.now())
    row = page.locator(f'tr[data-id="{run_id}"]')
    await row.get_by_text("pending").wait_for()
    await row.get_by_role("link").focus()
    await app.dispatcher.cancel(run_id)
    await row.get_by_text("cancelled", exact=True).wait_for()
    assert await row.get_by_role("link").evaluate("link => link === document.activeElement")
