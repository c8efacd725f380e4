"""Runs whose agent says what a test has it say, and pages of theirs as a browser without scripts has them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from bs4 import BeautifulSoup, Tag

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import Ending, Event, EventKind, NewRun, Run, State, Tokens, Trigger
from tests.pages import looking
from tests.sites import on_free_port
from tests.support import PATIENCE, FakeAgent, FakeClock, ended, running

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


@asynccontextmanager
async def telling(
    home: Path, story: Story, clock: FakeClock
) -> AsyncIterator[tuple[App, httpx2.AsyncClient]]:
    """Open an application whose runs tell a story, and look at its pages."""
    settings = on_free_port(Settings(home=home, shutdown_grace_seconds=0.1))
    async with open_app(settings, agent=FakeAgent(story.act), clock=clock) as app, looking(app) as client:
        yield app, client


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
