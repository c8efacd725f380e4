"""The page of one run: what it tells, what it lets do, and what comes while it is open."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from bs4 import BeautifulSoup, Tag

from claude_runner.agent import Listener, Order, Stop
from claude_runner.agent._endings import CRASHED, RULES, SERVERS_MISSING
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from claude_runner.runs import Ending, Event, EventKind, NewRun, Run, State, Tokens, Trigger
from claude_runner.web.dashboard import _transcript
from claude_runner.web.dashboard._run_words import _ADVICE
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock, ended, running
from tests.test_markdown import HOSTILE, WHOLE, pieces_of

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
TEXT, THINKING, USE, RESULT = EventKind.TEXT, EventKind.THINKING, EventKind.TOOL_USE, EventKind.TOOL_RESULT
DONE = Ending(State.FINISHED, output="All **done**.", tokens=Tokens(1200, 34, 20_000, 500), cost_usd=0.0843)

Told = tuple[EventKind, Mapping[str, Any]]


class Story:
    """An agent that says what a test has it say, and ends when it has it end."""

    def __init__(self) -> None:
        self._coming: asyncio.Queue[Told | Ending] = asyncio.Queue()

    def says(self, *told: Told) -> None:
        for each in told:
            self._coming.put_nowait(each)

    def ends(self, ending: Ending = DONE) -> None:
        self._coming.put_nowait(ending)

    async def act(self, _order: Order, listener: Listener, stop: Stop) -> Ending:
        listener.started()
        stopping = asyncio.create_task(stop.requested.wait())
        while True:
            coming = asyncio.create_task(self._coming.get())
            await asyncio.wait({coming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and stop.cause is not None:
                coming.cancel()
                return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)
            told = coming.result()
            if isinstance(told, Ending):
                stopping.cancel()
                return told
            listener.happened(*told)


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
async def site(
    tmp_path: Any, story: Story, clock: FakeClock
) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    settings = on_free_port(Settings(home=tmp_path, shutdown_grace_seconds=0.1))
    async with (
        open_app(settings, agent=FakeAgent(story.act), clock=clock) as app,
        serving(app) as origin,
        httpx2.AsyncClient(base_url=origin, headers=BROWSER, timeout=PATIENCE) as client,
    ):
        yield app, client


@pytest.fixture
def app(site: tuple[App, httpx2.AsyncClient]) -> App:
    return site[0]


@pytest.fixture
def client(site: tuple[App, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    return site[1]


def text(words: str, block: int = 1) -> Told:
    return TEXT, {"block": block, "text": words}


def use(call_id: str, name: str = "Read", **arguments: Any) -> Told:
    return USE, {"id": call_id, "name": name, "input": arguments}


def result(call_id: str, content: str = "fine", *, is_error: bool = False) -> Told:
    return RESULT, {"id": call_id, "is_error": is_error, "content": content}


async def begun(app: App, prompt: str = "Do it.", **more: Any) -> str:
    return await app.runs.add(NewRun(prompt, Trigger.QUICK, **more), app.clock.now())


async def ran(app: App, story: Story, *told: Told, ending: Ending = DONE, **more: Any) -> Run:
    """Have a run say something and end."""
    story.says(*told)
    story.ends(ending)
    return await ended(app, await begun(app, **more))


async def written(app: App, *told: Told) -> str:
    """Have a run say a great deal at once, as a row of each, and leave it running."""
    run_id = await begun(app)
    run = await running(app, run_id)
    await app.runs.record(run, [Event(kind, body, app.clock.now()) for kind, body in told])
    return run_id


async def page_of(client: httpx2.AsyncClient, path: str, part: str = "") -> BeautifulSoup:
    answer = await client.get(path, headers={"X-Live": part} if part else {})
    assert answer.status_code == 200, answer.text
    return BeautifulSoup(answer.text, "html.parser")


def items(page: BeautifulSoup) -> list[Tag]:
    return page.select("#transcript > li, body > li, li[id^=e-]")


def words(tag: Tag) -> str:
    return " ".join(tag.get_text(" ").split())


def one(page: BeautifulSoup | Tag, selector: str) -> Tag:
    [found] = page.select(selector)
    return found


class Reader:
    """An open page: what it showed at first, and what has come since.

    Attributes:
        items: The entries of the transcript, as markup.
        last: The number of the last event that has come.
        names: The kinds of messages that have come.
    """

    def __init__(self, page: BeautifulSoup) -> None:
        self.items = {str(item["id"]): item for item in items(page)}
        self.url = str(one(page, "body")["data-stream"])
        self.last = ""
        self.names: list[str] = []

    def shown(self) -> list[str]:
        return [words(item) for item in self.items.values()]

    def take(self, name: str, data: str, event_id: str) -> None:
        self.names.append(name)
        if name != "entries":
            return
        self.last = event_id
        for item in BeautifulSoup(data, "html.parser").select("li[id^=e-]"):
            if item.has_attr("data-grow"):
                self._grow(self.items[str(item["id"])], item)
            else:
                self.items[str(item["id"])] = item

    def _grow(self, old: Tag, news: Tag) -> None:
        for part in [*one(news, "[data-text]").contents]:
            one(old, "[data-text]").append(part)
        tail = one(old, "[data-tail]")
        tail.clear()
        for part in [*one(news, "[data-tail]").contents]:
            tail.append(part)
        for length in old.select("[data-length]"):
            length.string = one(news, "[data-length]").text

    @asynccontextmanager
    async def reading(self, client: httpx2.AsyncClient) -> AsyncIterator["_Stream"]:
        headers = {"Last-Event-ID": self.last} if self.last else {}
        async with client.stream("GET", self.url, headers=headers) as answer:
            assert answer.status_code == 200
            yield _Stream(self, answer.aiter_lines())


class _Stream:
    def __init__(self, reader: Reader, lines: AsyncIterator[str]) -> None:
        self._reader = reader
        self._lines = lines

    async def until(self, words: str) -> None:
        """Read until the page shows something, or a message of that name has come."""
        async with asyncio.timeout(PATIENCE):
            while words not in " ".join(self._reader.shown()) and words not in self._reader.names:
                await self._message()

    async def _message(self) -> None:
        name, event_id, data = "", "", list[str]()
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "id":
                event_id = value
            elif not line and name:
                return self._reader.take(name, "\n".join(data), event_id)
        raise AssertionError("the stream has ended")


async def opened(client: httpx2.AsyncClient, run_id: str) -> Reader:
    return Reader(await page_of(client, f"/runs/{run_id}"))


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


async def test_an_open_page_shows_what_happens_as_it_happens(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    reader = await opened(client, run_id)
    assert reader.shown() == []
    async with reader.reading(client) as stream:
        story.says((THINKING, {"block": 1, "text": "I think "}))
        await stream.until("8 characters")
        story.says((THINKING, {"block": 1, "text": "a lot."}), text("**One", 2))
        await stream.until("One")
        story.says(text("** word.\n\nAnd ", 2))
        await stream.until("And")
        story.says(use("a", command="ls"))
        await stream.until("running")
        story.says(result("a", "README.md"), text("Done.", 3))
        await stream.until("Done.")
        story.ends()
        await ended(app, run_id)
    assert [item.text for item in reader.items["e-3"].select("strong")] == [
        "One word."
    ] or "One word." in " ".join(reader.shown())
    assert reader.shown() == (await opened(client, run_id)).shown()


@pytest.mark.parametrize("seed", range(3))
async def test_a_page_that_followed_a_text_shows_what_one_that_comes_later_shows(
    app: App, client: httpx2.AsyncClient, story: Story, seed: int
) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    reader = await opened(client, run_id)
    async with reader.reading(client) as stream:
        for number, piece in enumerate(pieces_of(WHOLE, seed=seed)):
            story.says(text(piece))
            if number % 7 == 0:
                await asyncio.sleep(0.02)  # so that pieces come in several messages
        story.says(use("end"))
        await stream.until("running")
    assert reader.shown() == (await opened(client, run_id)).shown()
    assert one(reader.items["e-1"], "[data-text]").select("table, ol, pre, blockquote")
    story.ends()


async def test_a_block_that_was_shown_as_it_came_is_rendered_when_it_is_whole(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    reader = await opened(client, run_id)
    async with reader.reading(client) as stream:
        story.says(text("Look:\n\n```\n"))
        await stream.until("Look")
        for number in range(4):
            story.says(text(f"line {number} of a listing\n" * 100))
            await stream.until(f"line {number}")
        assert reader.items["e-1"].select("span.raw")
        story.says(text("```\n\n**The end.**"), use("a"))
        await stream.until("running")
    assert not reader.items["e-1"].select("span.raw")
    assert one(reader.items["e-1"], "strong").text == "The end."
    story.ends()


async def test_a_cut_stream_goes_on_where_it_was_cut(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    story.says(text("one, "), use("a"))
    await running(app, run_id, said="one")
    reader = await opened(client, run_id)
    for cut in range(6):
        async with reader.reading(client) as stream:
            story.says(text(f"cut {cut}, ", 2 + cut // 3))
            await stream.until(f"cut {cut},")
        story.says(text(f"unseen {cut}, ", 2 + cut // 3))
        await running(app, run_id, said=f"unseen {cut}")
    async with reader.reading(client) as stream:
        story.says(result("a"), text("the end", 9))
        await stream.until("the end")
    shown = reader.shown()
    assert shown == (await opened(client, run_id)).shown()
    for cut in range(6):
        assert " ".join(shown).count(f"cut {cut},") == 1
        assert " ".join(shown).count(f"unseen {cut},") == 1
    story.ends()


async def test_a_result_finds_its_call_however_long_ago_it_was_made(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run_id = await written(app, use("long", "Task"), *(text(f"{number} ", number) for number in range(700)))
    reader = await opened(client, run_id)
    async with reader.reading(client) as stream:
        story.says(result("long", "at last"))
        await stream.until("at last")
    assert "Task" in words(reader.items["e-1"])
    story.ends()


async def test_a_call_without_an_answer_is_no_longer_running_once_the_run_has_ended(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    reader = await opened(client, run_id)
    async with reader.reading(client) as stream:
        story.says(use("a"))
        await stream.until("running")
        assert (await client.post(f"/runs/{run_id}/stop")).status_code == 303
        await stream.until("no answer")
    assert (await app.runs.get(run_id)).state is State.CANCELLED


async def test_a_page_that_is_far_behind_is_loaded_again(app: App, client: httpx2.AsyncClient) -> None:
    run_id = await begun(app)
    await running(app, run_id)
    reader = await opened(client, run_id)
    run = await app.runs.get(run_id)
    await app.runs.record(run, [Event(*text(f"{n}", n), app.clock.now()) for n in range(2_000)])
    async with reader.reading(client) as stream:
        await stream.until("far")
    assert reader.shown() == []


async def test_a_burst_comes_as_few_messages(app: App, client: httpx2.AsyncClient) -> None:
    run_id = await begun(app)
    run = await running(app, run_id)
    reader = await opened(client, run_id)
    async with reader.reading(client) as stream:
        for number in range(60):
            await app.runs.record(run, [Event(*text(f"piece {number}; "), app.clock.now())])
        await stream.until("piece 59;")
    assert reader.names.count("entries") < 40
    assert "piece 0; piece 1;" in reader.shown()[0]


async def test_a_run_that_is_not_there_is_not_found_and_an_open_page_learns_so(
    app: App, client: httpx2.AsyncClient, story: Story
) -> None:
    job = await app.jobs.add(JobDraft("Morning", "0 9 * * *", "say good morning", "UTC"), app.clock.now())
    run = await app.trigger(job.id)
    story.ends()
    await ended(app, run.id)
    reader = await opened(client, run.id)
    async with reader.reading(client) as stream:
        await stream.until("hello")
        await app.remove_job(job.id)
        await stream.until("changed")  # it looks for its parts then, and
        answer = await client.get(f"/runs/{run.id}")
        assert answer.status_code == 404
        assert "it may have been deleted with its job" in answer.text
    async with reader.reading(client) as stream:  # loads the page anew also where it comes back later
        await stream.until("hello")


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
