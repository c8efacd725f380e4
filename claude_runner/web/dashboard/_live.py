"""Tells open pages what has changed: a stream of events for each (HTML, section 9.2), with names alone, no contents."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from claude_runner.hub import Hub, Topic
from claude_runner.web._answers import error_answer

MOST_STREAMS: Final = 500  # open pages; each costs a connection
PULSE_SECONDS: Final = 20.0  # proxies give a silent stream up after a minute
REST_SECONDS: Final = 0.1  # between two messages, so that many changes come as one
BUSY_REST_SECONDS: Final = 1.0  # the same for what changes ten times a second
RETRY_MS: Final = 1_000
FREQUENT: Final = frozenset({Topic.EVENTS, Topic.TOOL_CALLS, Topic.DELIVERIES})
RARE: Final = tuple(topic for topic in Topic if topic not in {Topic.CANCEL, *FREQUENT})

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # nginx
]


class Live:
    """The streams of the pages that are open."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ending = asyncio.Event()
        self._open = 0

    async def changes(self, _: Request) -> Response:
        """Answer an open page with the names of topics as things of them change."""
        return self.stream(self.names())

    def stream(self, messages: AsyncGenerator[str, None]) -> Response:
        """Return the answer that sends messages as they come, until the page is closed or the server ends."""
        if self._open >= MOST_STREAMS:
            return error_answer("busy", "too many pages are open", 503, headers={"Retry-After": "30"})
        return _Stream(self, messages)

    def finish(self) -> None:
        """End every stream; pages come back by themselves when there is a server again."""
        self._ending.set()

    async def serve(self, messages: AsyncGenerator[str, None], receive: Receive, send: Send) -> None:
        """Send messages until the client has gone, the server ends, or there are no more."""
        self._open += 1
        sending = asyncio.create_task(self._send(messages, send))
        leaving = asyncio.create_task(_left(receive))
        ending = asyncio.create_task(self._ending.wait())
        tasks = {sending, leaving, ending}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error
        with suppress(OSError):  # it may have gone
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, messages: AsyncGenerator[str, None], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _say(send, f"retry: {RETRY_MS}\n\n")
        coming = asyncio.ensure_future(anext(messages, None))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=PULSE_SECONDS)
                if not done:
                    await _say(send, ":\n\n")
                    continue
                if (message := coming.result()) is None:
                    return
                await _say(send, message)
                coming = asyncio.ensure_future(anext(messages, None))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            await messages.aclose()  # it waits at a message that was not sent

    async def names(self) -> AsyncGenerator[str, None]:
        """Give `hello` at once, then the names of topics as things of them change."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        waiting: set[Topic] = set()  # of what changes often
        due = 0.0
        with (
            self._hub.subscribe(*RARE, wake=changed) as rare,
            self._hub.subscribe(*FREQUENT, wake=changed) as often,
        ):
            yield hello(self._hub)  # from here on nothing is missed
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(due if waiting else None):
                        await changed.wait()
                topics = {change.topic for change in rare.take()}
                waiting |= {change.topic for change in often.take()}
                if waiting and loop.time() >= due:
                    topics |= waiting
                    waiting.clear()
                    due = loop.time() + BUSY_REST_SECONDS
                if topics:
                    yield event("changed", " ".join(sorted(topics)))
                    await asyncio.sleep(REST_SECONDS)


class _Stream(Response):
    """An answer that goes on."""

    def __init__(self, live: Live, messages: AsyncGenerator[str, None]) -> None:
        super().__init__()
        self._live = live
        self._messages = messages

    async def __call__(  # type: ignore[explicit-override]  # typing.override is of 3.12
        self,
        scope: Scope,  # noqa: ARG002 - ASGI's
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve it."""
        await self._live.serve(self._messages, receive, send)


def hello(hub: Hub) -> str:
    """Return a stream's first message: by it a page knows whether anything changed since it was rendered."""
    return event("hello", str(hub.turn(*RARE)))


def event(name: str, data: str, event_id: str = "") -> str:
    """Return a message of an event stream; data of several lines keeps them, however the lines end."""
    told = data.replace("\r\n", "\n").replace("\r", "\n")  # each of which ends a field (HTML, section 9.2.6)
    lines = [f"event: {name}", *(f"data: {line}" for line in told.split("\n"))]
    if event_id:
        lines.append(f"id: {event_id}")
    return "\n".join(lines) + "\n\n"


async def _say(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
