"""Follows a run for an open page: what is new of its transcript, as it is written.

A message bears the number of the last event in it, so that a browser whose connection was cut goes on from there
(HTML, section 9.2.4): nothing is told twice, nothing is left out. A text that grows is not sent anew with each piece:
see `Growing`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from claude_runner.errors import NotFoundError, UnavailableError
from claude_runner.hub import Subscription, Topic
from claude_runner.runs import EventKind, Run, StoredEvent
from claude_runner.web.dashboard._live import event
from claude_runner.web.dashboard._markdown import IN_A_THREAD, Growing, Markdown
from claude_runner.web.dashboard._rendering import Pages
from claude_runner.web.dashboard._steps import growing_of, steps_of, text_step
from claude_runner.web.dashboard._transcript import (
    CHUNK,
    MOST_EVENTS,
    Entry,
    Gathering,
    call_of,
    gathered,
    known_at,
)

REST_SECONDS: Final = 0.1  # between two messages, so that many events come as one
PAUSE_SECONDS: Final = 1.0  # after the database could not be read
AT_ONCE: Final = 100  # events in a message

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shown:
    """A text that may still grow, as the page has it; `growing` is `None` where it is not known how."""

    entry: Entry
    growing: Growing | None
    pieces: int  # of it that the page has

    @property
    def news(self) -> str:
        return "".join(self.entry.pieces[self.pieces :])


class Follower:
    """Follows one run for one page."""

    def __init__(self, pages: Pages, markdown: Markdown, run_id: str) -> None:
        self._pages = pages
        self._app = pages.app
        self._markdown = markdown
        self._run_id = run_id
        self._seq = 0
        self._gathering = Gathering()
        self._shown: _Shown | None = None

    async def messages(self, after: int, opened: int) -> AsyncGenerator[str, None]:
        """Give the messages of the stream: `entries`, or `far` where the page should be loaded again.

        Args:
            after: The last event that the page has.
            opened: The number of the text that could still grow when the page was made, 0 where there was none.
        """
        with self._app.hub.subscribe(Topic.EVENTS, Topic.RUNS) as changes:
            run = await self._found()
            if run is None:
                return  # the page looks for it, and says so
            if not await self._catch_up(after, opened):
                yield event("far", "")
                return
            async with aclosing(self._news(run, changes)) as news:
                async for message in news:
                    yield message

    async def _news(self, run: Run | None, changes: Subscription) -> AsyncGenerator[str, None]:
        """Give what is new of the transcript, for as long as there is the run."""
        is_ended = False
        while run is not None:
            while events := await self._app.runs.events_after(self._run_id, self._seq, AT_ONCE):
                yield event("entries", await self._told(events, run), str(self._seq))
                await asyncio.sleep(REST_SECONDS)
            if run.state.is_final and not is_ended:
                is_ended = True
                if html := await self._left_open(run):
                    yield event("entries", html, str(self._seq))
            if await self._changed(changes):
                run = await self._found()

    async def _changed(self, changes: Subscription) -> bool:
        """Wait for a change of the run or its events; tells whether it is one of the run."""
        while True:
            await changes.changed.wait()
            topics = {change.topic for change in changes.take() if change.key in {self._run_id, ""}}
            if topics:
                return Topic.RUNS in topics

    async def _found(self) -> Run | None:
        while True:
            try:
                return await self._app.runs.get(self._run_id)
            except NotFoundError:
                return None
            except UnavailableError as error:
                log.warning("an open page waits for run %s: %s", self._run_id, error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _catch_up(self, after: int, opened: int) -> bool:
        """Learn what the page has; tells whether it is near enough to be followed from there."""
        newest = await self._app.runs.events_tail(self._run_id, 1)
        if newest and newest[0].seq - after > MOST_EVENTS:
            return False
        known = await known_at(self._app.runs, self._run_id, after, opened)
        if known is None:
            return False
        for it in known.events:
            self._gathering.add(it)
        if (text := self._gathering.open_text) is not None:
            text.is_whole = known.is_whole
            self._shown = _Shown(text, None, len(text.pieces))
        self._seq = after
        return True

    async def _told(self, events: Sequence[StoredEvent], run: Run) -> str:
        """Return the entries that events begin, change or close, as the page takes them."""
        touched: dict[int, Entry] = {}
        before = self._shown
        for it in events:
            entry = await self._entry(it)
            touched.setdefault(entry.seq, entry)
            self._seq = it.seq
        if before is not None and not before.entry.is_open:
            touched = {before.entry.seq: before.entry} | touched
        html = [await self._html(entry, run) for entry in touched.values()]
        if self._shown is not None and not self._shown.entry.is_open:
            self._shown = None
        return "".join(html)

    async def _entry(self, it: StoredEvent) -> Entry:
        """Return the entry that an event begins or belongs to, also of a call that was made before this began."""
        call = None
        if it.kind is EventKind.TOOL_RESULT and str(it.body.get("id")) not in self._gathering.open_calls:
            call = await call_of(self._app.runs, self._run_id, it)
        return call or self._gathering.add(it)

    async def _html(self, entry: Entry, run: Run) -> str:
        if not entry.pieces:
            return await self._whole(entry, run)
        shown = self._shown if self._shown is not None and self._shown.entry is entry else None
        if not entry.is_open:
            is_smooth = shown is not None and shown.growing is not None and not shown.growing.is_rough
            return (
                await self._grown(shown, run)
                if shown is not None and is_smooth
                else await self._whole(entry, run)
            )
        if shown is not None and shown.growing is not None:
            return await self._grown(shown, run)
        growing, growth = await asyncio.to_thread(growing_of, entry)
        self._shown = _Shown(entry, growing, len(entry.pieces))
        return await self._pages.fragment(
            "entries.html", "entries", steps=[text_step(entry, run, growth)], run=run
        )

    async def _grown(self, shown: _Shown, run: Run) -> str:
        """Return what a text has grown by; nothing where it was merely closed."""
        news = shown.news
        if not news or shown.growing is None:
            return ""
        shown.pieces = len(shown.entry.pieces)
        growth = (
            await asyncio.to_thread(shown.growing.feed, news)
            if len(news) > IN_A_THREAD
            else shown.growing.feed(news)
        )
        return await self._pages.fragment("entries.html", "growth", step=text_step(shown.entry, run, growth))

    async def _whole(self, entry: Entry, run: Run) -> str:
        steps = await steps_of([entry], run, self._markdown)
        return await self._pages.fragment("entries.html", "entries", steps=steps, run=run)

    async def _left_open(self, run: Run) -> str:
        """Return what nothing more comes of, now that the run has ended."""
        left = [it for it in gathered(await self._app.runs.events_tail(self._run_id, CHUNK)) if not it.pieces]
        html = [await self._whole(entry, run) for entry in left if entry.is_open]
        shown, self._shown = self._shown, None
        self._gathering.close_text()
        if shown is not None and shown.growing is not None and shown.growing.is_rough:
            html.append(await self._whole(shown.entry, run))
        return "".join(html)


async def merged(*sources: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """Give what several sources give, as it comes, until all of them end."""
    coming = {asyncio.ensure_future(anext(source, None)): source for source in sources}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = coming.pop(task)
                if (message := task.result()) is not None:
                    coming[asyncio.ensure_future(anext(source, None))] = source
                    yield message
    finally:
        for task in coming:
            task.cancel()
        if coming:
            await asyncio.wait(coming)
        for source in sources:
            await source.aclose()
