"""What tests share: a clock that they move, an agent that they lead, and ways to wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastmcp.client.client import CallToolResult
from mcp_types import TextContent

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App
from claude_runner.config import Settings
from claude_runner.hub import Topic
from claude_runner.runs import Ending, EventKind, Run, State, Tokens

MORNING = datetime(2026, 11, 23, 8, 59, 30, tzinfo=UTC)  # a Monday
PATIENCE = 60.0  # seconds after which a test gives up waiting


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = MORNING) -> None:
        self._now = now
        self._elapsed = 0.0
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    async def wait(self, event: asyncio.Event, until: datetime) -> None:
        await self._until(event, lambda: self._now >= until)

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        enough = self._elapsed + seconds
        await self._until(event, lambda: self._elapsed >= enough)

    async def _until(self, event: asyncio.Event, come: Callable[[], bool]) -> None:
        waiting = asyncio.ensure_future(event.wait())
        try:
            while not event.is_set() and not come():
                moved = asyncio.ensure_future(self._moved.wait())
                try:
                    await asyncio.wait({waiting, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
        finally:
            waiting.cancel()

    def move(self, by: timedelta | float) -> None:
        """Let so many seconds pass, and wake whoever waits."""
        passed = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._elapsed += passed.total_seconds()
        self.jump(passed)

    def jump(self, by: timedelta) -> None:
        """Set the time of day forward or back, as a sleep of the machine does; no time passes."""
        self._now += by
        self._moved.set()
        self._moved = asyncio.Event()


class FakeAgent:
    """Says "done" at once, or does what a test leads it to do.

    Attributes:
        orders: What was asked of it.
        swept: Which runs' leftovers it was to end.
        most_at_once: How many orders it had at a time.
    """

    def __init__(self, act: Callable[[Order, Listener, Stop], Awaitable[Ending]] | None = None) -> None:
        self.orders: list[Order] = []
        self.most_at_once = 0
        self.swept: list[str] = []
        self._now = 0
        self._asked = asyncio.Event()
        self._act = act or self.say_done

    async def warm_up(self) -> None:
        return None

    async def execute(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        self.orders.append(order)
        self._asked.set()
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._act(order, listener, stop)
        finally:
            self._now -= 1

    async def has(self, run_id: str) -> None:
        """Wait until a run was asked of it."""
        async with asyncio.timeout(PATIENCE):
            while all(order.run_id != run_id for order in self.orders):
                self._asked.clear()
                await self._asked.wait()

    async def end_leftovers(self, run_ids: Collection[str]) -> int:
        self.swept.extend(run_ids)
        return 0

    @staticmethod
    async def say_done(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        listener.happened(EventKind.TEXT, {"block": 1, "text": "done"})
        return Ending(State.FINISHED, output="done", tokens=Tokens(input=10, output=2), cost_usd=0.01)

    @staticmethod
    async def wait_for_stop(_order: Order, listener: Listener, stop: Stop) -> Ending:
        listener.started()
        listener.happened(EventKind.TEXT, {"block": 1, "text": "half a sen"})
        await stop.requested.wait()
        assert stop.cause is not None
        return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)


def settings_in(home: Path, **changes: Any) -> Settings:
    return Settings(home=home, **changes)


def text(result: CallToolResult) -> str:
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


def content(result: CallToolResult) -> Mapping[str, Any]:
    """The structured answer of a tool that did not refuse."""
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    return MappingProxyType(result.structured_content)


async def until(condition: Callable[[], Awaitable[bool]], app: App, *topics: Topic) -> None:
    """Wait until something holds, looking again at each change of the topics."""
    with app.hub.subscribe(*(topics or tuple(Topic))) as changes:
        async with asyncio.timeout(PATIENCE):
            while not await condition():
                await changes.changed.wait()
                changes.take()


async def ended(app: App, run_id: str) -> Run:
    """Wait until the run has ended and return it."""

    async def is_final() -> bool:
        return (await app.runs.get(run_id)).state.is_final

    await until(is_final, app, Topic.RUNS)
    return await app.runs.get(run_id)


async def settled(app: App, run_id: str) -> Run:
    """Wait until the run has ended or an attempt at it has failed and it waits for another, and return it."""

    async def is_settled() -> bool:
        run = await app.runs.get(run_id)
        return run.state.is_final or (run.state is State.PENDING and run.attempt > 0)

    await until(is_settled, app, Topic.RUNS)
    return await app.runs.get(run_id)


async def running(app: App, run_id: str, *, said: str = "") -> Run:
    """Wait until the run is going on, in the hands of the agent where that is a fake, and has said something."""

    async def is_running() -> bool:
        run = await app.runs.get(run_id)
        assert not run.state.is_final, run.error
        return run.state is State.RUNNING and said in await app.runs.text_so_far(run_id)

    await until(is_running, app, Topic.RUNS, Topic.EVENTS)
    if isinstance(app.agent, FakeAgent):
        await app.agent.has(
            run_id
        )  # until then it has not started, and a clock that is moved would be too late for it
    return await app.runs.get(run_id)


def alive(pid: int) -> bool:
    """Tell whether a process is there and not merely unburied."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()[0] != "Z"
    return False
