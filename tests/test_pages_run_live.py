"""The page of one run while it is open: what comes, and what comes again where the line was cut."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from claude_runner.app import App
from claude_runner.jobs import JobDraft
from claude_runner.runs import Event, State
from tests.stories import (
    THINKING,
    Story,
    begun,
    one,
    opened,
    result,
    telling,
    text,
    use,
    words,
    written,
)
from tests.support import FakeClock, ended, running
from tests.test_markdown import WHOLE, pieces_of


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
