"""The page of one run: what it tells, what it lets do, and what comes while it is open."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.agent._endings import CRASHED, RULES, SERVERS_MISSING
from claude_runner.app import App
from claude_runner.jobs import JobDraft
from claude_runner.runs import Ending, EventKind, State
from claude_runner.web.dashboard import _transcript
from claude_runner.web.dashboard._run_words import _ADVICE
from tests.stories import (
    RESULT,
    THINKING,
    Story,
    begun,
    items,
    one,
    page_of,
    ran,
    result,
    telling,
    text,
    use,
    words,
    written,
)
from tests.support import PATIENCE, FakeClock, ended
from tests.test_markdown import HOSTILE


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def site(
    tmp_path: Path, story: Story, clock: FakeClock
) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    async with telling(tmp_path, story, clock) as site:
        yield site


@pytest.fixture
def app(site: tuple[App, httpx2.AsyncClient]) -> App:
    return site[0]


@pytest.fixture
def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


async def test_a_page_says_what_ran_how_it_went_and_what_it_cost(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run = await ran(app, story, text("hello"), prompt="Sum up\nthe sprint.", tools=("Read",))
    page = await page_of(client, f"/runs/{run.id}")
    assert one(page, "h1").text == "Sum up"
    assert one(page, "#head .badge").text == "finished"
    facts = words(one(page, "#facts"))
    for fact in ("$0.08", "21.7k", "1.20k in", "34 out", "cache 20.0k read, 500 written", "Read"):
        assert fact in facts
    assert one(page, ".prompt").text == "Sum up\nthe sprint."
    assert one(page, "#output strong").text == "done"
    assert len(page.select("h1")) == 1


async def test_a_run_of_a_job_leads_to_it_and_says_for_which_slot_it_ran(
    app: App, client: httpx2.AsyncClient, story: Story, clock: FakeClock
) -> None:
    job = await app.jobs.add(JobDraft("Morning", "0 9 * * *", "say good morning", "UTC"), clock.now())
    clock.move(60)
    [run_id] = [row.id for row in await _started(app)]
    story.ends()
    await ended(app, run_id)
    page = await page_of(client, f"/runs/{run_id}")
    assert one(page, "h1 a")["href"] == f"/jobs/{job.id}"
    assert "Started by the schedule" in words(one(page, "#head"))
    assert "09:00" in words(one(page, "#facts"))
    assert "ran" in words(one(page, "#facts"))


async def _started(app: App) -> Any:
    async with asyncio.timeout(PATIENCE):
        with app.hub.subscribe(*app.hub._subscriptions) as changes:
            while not (rows := await app.runs.going_on()):
                await changes.changed.wait()
                changes.take()
    return rows


async def test_a_run_that_failed_says_why_and_what_to_do(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    ending = Ending(State.ERROR, error="it was not done within 5 minutes and was ended", reason="timeout")
    run = await ran(app, story, ending=ending)
    head = words(one(await page_of(client, f"/runs/{run.id}", "head"), "#head"))
    assert "failed: timeout" in head
    assert "it was not done within 5 minutes" in head
    assert "Give it more time" in head


def test_there_is_something_to_do_about_every_way_to_fail() -> None:
    assert {rule.reason for rule in (*RULES, CRASHED, SERVERS_MISSING)} <= _ADVICE.keys()


async def test_the_pieces_of_a_text_are_one_entry(app: App, client: httpx2.AsyncClient, story: Story) -> None:
    thought = (THINKING, {"block": 1, "text": "hm "})
    notice = (EventKind.NOTICE, {"notice": "rate_limit", "status": "allowed", "resets_at": None})
    run = await ran(app, story, thought, thought, text("**a", 2), notice, text("b**", 2), text("c", 3))
    shown = items(await page_of(client, f"/runs/{run.id}", "transcript"))
    assert [item["class"] for item in shown] == [["k-thinking"], ["k-text"], ["k-notice"], ["k-text"]]
    assert [item.text for item in shown[1].select("strong")] == ["ab"]
    assert "6 characters" in words(shown[0])


async def test_a_call_and_what_came_of_it_are_one_entry(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    denied = {"notice": "permission_denied", "tool_name": "Write", "tool_use_id": "c", "message": "outside"}
    run = await ran(
        app, story,
        use("a", command="ls -la", timeout=5), use("b", "mcp__cats__fact"),
        result("b", "no", is_error=True), result("a", "README.md"),
        use("c", "Write"), (EventKind.NOTICE, denied), result("c", "no", is_error=True),
        use("d"),
    )  # fmt: skip
    ok, failed, refused, open_ = [
        words(item) for item in items(await page_of(client, f"/runs/{run.id}", "transcript"))
    ]
    assert "Read ls -la" in ok
    assert "timeout 5 Result README.md" in ok
    assert "cats fact failed" in failed
    assert "Write denied" in refused
    assert "Why" in refused
    assert "no answer" in open_


async def test_what_happened_besides_is_told_where_it_happened(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    server = [{"name": "mail", "status": "failed"}, {"name": "cats", "status": "connected"}]
    used = {"input": 100, "output": 7, "cache_read": 900, "cache_write": 0}
    retry = {
        "attempt": 1,
        "max_retries": 10,
        "retry_delay_ms": 1500,
        "error_status": 529,
        "error": "overloaded",
    }
    good = {"subtype": "success", "is_error": False, "turns": 1, "duration_ms": 1500, "denials": 0}
    bad = good | {"is_error": True, "turns": 2, "terminal_reason": "max_turns", "denials": 1}
    run = await ran(
        app, story,
        (EventKind.STARTED, {"model": "m", "tools": ["Read"], "mcp_servers": server, "claude_code_version": "2.1"}),
        (EventKind.RETRY, retry),
        (EventKind.NOTICE, {"notice": "rate_limit", "status": "rejected", "resets_at": 1_795_000_000}),
        (EventKind.NOTICE, {"notice": "rate_limit", "status": "allowed_warning", "resets_at": None}),
        (EventKind.NOTICE, {"notice": "model_fallback", "original_model": "m", "fallback_model": "n"}),
        (EventKind.NOTICE, {"notice": "informational", "content": "by the way"}),
        (EventKind.NOTICE, {"notice": "permission_denied", "tool_name": "Bash", "message": "never"}),
        (EventKind.NOTICE, {"notice": "server_error", "message": "oh"}),
        (EventKind.USAGE, used),
        (EventKind.RESULT, bad),
        (EventKind.RESULT, good),
    )  # fmt: skip
    shown = [words(item) for item in items(await page_of(client, f"/runs/{run.id}", "transcript"))]
    for entry, said in zip(
        shown,
        [
            "Claude Code 2.1 started with m, 1 tools and 2 servers; not at work: mail (failed)",
            "The model did not answer (529 overloaded): asked again in 1.5 s, attempt 1 of 10",
            "The usage limit is reached until 18 Nov 11:06 UTC",
            "The usage limit is near",
            "n answers in place of m",
            "by the way",
            "Not allowed: Bash never",
            "Server error: oh",
            "1.00k tokens in , 900 of them from the cache · 7 out",
            "Failed (max turns): 2 turns in 1.5 s, 1 call denied",
            "Done: 1 turn in 1.5 s",
        ],
        strict=True,
    ):
        assert said in entry


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_nothing_that_is_said_becomes_markup_of_its_own(
    app: App, client: httpx2.AsyncClient, story: Story, name: str
) -> None:
    bad = HOSTILE[name].encode("utf-8", "replace").decode()
    run = await ran(
        app, story,
        text(bad), (THINKING, {"block": 2, "text": bad}), use(bad, bad, **{bad: bad}), result(bad, bad * 90),
        (EventKind.NOTICE, {"notice": bad, "message": bad}), (EventKind.STARTED, {"model": bad, "tools": [bad]}),
        ending=Ending(State.ERROR, output=bad, error=bad, reason="timeout"), prompt=bad,
    )  # fmt: skip
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/steps/1", f"/runs/{run.id}/steps/3"):
        page = await page_of(client, path)
        scripts = [str(script.get("src")) for script in page.select("script")]
        assert all(source.startswith("/static/") for source in scripts)
        assert not page.select(
            "main img, main style, main iframe, main svg, main base, main meta, main input[type=x]"
        )
        for element in page.select("main *"):
            assert not [name for name in element.attrs if name.startswith("on") or name == "style"]
            assert str(element.get("href", "/")).startswith(("/", "#", "http://", "https://", "mailto:"))
        assert not page.find_all(string=lambda said: "\x1b" in said or "\u202e" in said or "\x00" in said)


async def test_a_long_transcript_opens_at_its_end_and_goes_back_to_its_beginning(
    app: App, client: httpx2.AsyncClient
) -> None:
    told = [
        event
        for number in range(500)
        for event in (
            text(f"step {number}", number),
            use(f"{number}"),
            use(f"{number}b"),
            *(
                (result(f"{number - 40}"),)
                if number % 50 == 49
                else (result(f"{number}"), result(f"{number}b"))
            ),
        )
    ]
    run_id = await written(app, *told)
    seen: list[int] = []
    page = await page_of(client, f"/runs/{run_id}")
    assert "step 499" in words(one(page, "#transcript"))
    pages = 0
    while True:
        shown = [int(str(item["id"])[2:]) for item in items(page)]
        assert len(shown) <= _transcript.ENTRIES * 1.5
        seen[:0] = shown
        pages += 1
        earlier = page.select("a[data-earlier]")
        if not earlier:
            break
        page = await page_of(client, str(earlier[0]["href"]).split("#")[0])
    assert seen == sorted(set(seen))
    kinds = {event.seq: event.kind for event in await app.runs.events_after(run_id, 0, 20_000)}
    begun_by = [seq for seq, kind in kinds.items() if kind is not RESULT]
    assert [seq for seq in seen if kinds[seq] is not RESULT] == begun_by  # nothing is left out
    assert pages > 9


async def test_a_page_begins_between_a_call_and_the_next(app: App, client: httpx2.AsyncClient) -> None:
    told = [event for number in range(150) for event in (use(f"{number}"), result(f"{number}"))]
    run_id = await written(app, *told)
    page = await page_of(client, f"/runs/{run_id}")
    assert len(items(page)) == 100
    assert not [item for item in items(page) if "earlier call" in words(item) or "running" in words(item)]


async def test_a_text_of_ten_thousand_pieces_is_shown_page_by_page_from_its_end(
    app: App, client: httpx2.AsyncClient
) -> None:
    run_id = await written(app, *(text(f"piece {number} of it, " * 5) for number in range(10_000)))
    page = await page_of(client, f"/runs/{run_id}", "transcript")
    whole = ""
    while True:
        [shown] = items(page)
        assert len(shown.text) < 120_000
        whole = one(shown, "[data-text]").text + whole
        if not (earlier := page.select("a[data-earlier]")):
            break
        page = await page_of(client, str(earlier[0]["href"]).split("#")[0], "transcript")
    assert whole.split() == "".join(f"piece {number} of it, " * 5 for number in range(10_000)).split()


async def test_what_is_long_and_folded_is_on_a_page_of_its_own(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run = await ran(
        app, story, use("a"), result("a", "line\n" * 2_000), (THINKING, {"block": 1, "text": "hm " * 900})
    )
    call, thought = items(await page_of(client, f"/runs/{run.id}"))
    for item, said in ((call, "line"), (thought, "hm hm")):
        assert said not in words(item)
        whole = await page_of(client, str(one(item, "a[data-whole]")["href"]), "step")
        assert said in words(one(whole, f"#{item['id']}"))
    assert (await client.get(f"/runs/{run.id}/steps/99")).status_code == 404
    assert "Step 1" in one(await page_of(client, f"/runs/{run.id}/steps/1"), "h1").text


async def test_a_form_that_is_sent_twice_runs_it_again_once(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run = await ran(app, story, prompt="once more")
    form = one(await page_of(client, f"/runs/{run.id}"), f'form[action="/runs/{run.id}/again"]')
    once = str(one(form, "input[name=once]")["value"])
    answers = [await client.post(f"/runs/{run.id}/again", data={"once": once}) for _ in range(2)]
    [place] = {answer.headers["location"] for answer in answers}
    new = await app.runs.get(place.removeprefix("/runs/"))
    assert (new.prompt, new.id != run.id) == ("once more", True)
    story.ends()


async def test_a_run_is_rehearsed_again_without_a_new_run(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run = await ran(app, story)
    story.ends()
    answer = await client.post(f"/runs/{run.id}/rehearse", data={"once": "x"})
    place = answer.headers["location"]
    assert place.startswith(f"/runs/{run.id}?rehearsal=")
    assert "A run would" in words(one(await page_of(client, place), "#rehearsal"))
    assert not await app.runs.going_on()


async def test_a_run_that_has_ended_is_not_stopped(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run = await ran(app, story)
    answer = await client.post(f"/runs/{run.id}/stop")
    page = await client.get(
        answer.headers["location"], headers={"Cookie": f"notice={answer.cookies['notice']}"}
    )
    assert "It had ended already." in page.text
    assert (await app.runs.get(run.id)).state is State.FINISHED


async def test_the_output_is_downloaded_as_it_is(app: App, client: httpx2.AsyncClient, story: Story) -> None:
    said = "<script>alert(1)</script>\n" * 60_000  # 1.5 MB
    run = await ran(app, story, ending=Ending(State.FINISHED, output=said))
    for path, disposition in (
        ("output.txt", None),
        ("output.txt?download=1", f'attachment; filename="run-{run.id}.txt"'),
        ("output.md", f'attachment; filename="run-{run.id}.md"'),
    ):
        answer = await client.get(f"/runs/{run.id}/{path}")
        assert answer.text == said
        assert answer.headers["content-type"] in {"text/plain; charset=utf-8", "text/markdown; charset=utf-8"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers.get("content-disposition") == disposition
    page = await page_of(client, f"/runs/{run.id}")
    assert "more characters: the whole output" in words(one(page, "#output"))
    assert len(str(page)) < 400_000


async def test_the_transcript_is_downloaded_whole(app: App, client: httpx2.AsyncClient, story: Story) -> None:
    run_id = await written(app, *(text(f"{number}", number) for number in range(1_200)))
    story.ends()
    await ended(app, run_id)
    answer = await client.get(f"/runs/{run_id}/transcript.json")
    whole = json.loads(answer.text)
    assert [event["seq"] for event in whole["events"]] == list(range(1, 1_201))
    assert (whole["run"]["id"], whole["run"]["output_tokens"], "events" in whole["run"]) == (
        run_id,
        34,
        False,
    )


async def test_the_transcript_of_a_run_that_goes_on_has_all_that_was_said(
    app: App, client: httpx2.AsyncClient
) -> None:
    run_id = await written(app, text("Half of "), text("the work is done."))
    answer = await client.get(f"/runs/{run_id}/transcript.json")
    assert answer.json()["run"]["output"] == "Half of the work is done."


async def test_a_run_that_waits_says_so_and_can_be_cancelled(app: App, client: httpx2.AsyncClient) -> None:
    later = app.clock.now().replace(hour=23)
    run_id = await begun(app, not_before=later, reason="followup")
    page = await page_of(client, f"/runs/{run_id}")
    assert "waits until" in words(one(page, "#head"))
    assert "It has not started." in words(one(page, "#waiting"))
    await client.post(f"/runs/{run_id}/stop")
    assert (await app.runs.get(run_id)).state is State.CANCELLED


async def test_parents_and_children_lead_to_each_other(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    parent = await ran(app, story)
    later = app.clock.now().replace(hour=23)
    child = await app.runs.add(parent.follow_up("go on", later), app.clock.now())
    assert child in words(one(await page_of(client, f"/runs/{parent.id}"), "#facts"))
    assert parent.id in words(one(await page_of(client, f"/runs/{child}"), "#head"))


@pytest.mark.parametrize("query", ["before=0", "before=x", "before=-1", "before=" + "9" * 40, "rehearsal=x"])
async def test_an_address_that_was_typed_wrong_shows_the_run(
    app: App, client: httpx2.AsyncClient, story: Story, query: str
) -> None:
    run = await ran(app, story, text("hello"))
    assert (await client.get(f"/runs/{run.id}?{query}")).status_code == 200
