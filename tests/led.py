"""A site on a port whose runs do what a test leads them to do, step by step, while somebody looks at them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Clock, Settings
from claude_runner.jobs import Job, JobDraft
from claude_runner.runs import Ending, EventKind, NewRun, State, Tokens, Trigger, Verdict
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent


@dataclass
class LedRun:
    """A run that goes on for as long as the test wants."""

    order: Order
    listener: Listener
    over: "asyncio.Future[Ending]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def id(self) -> str:
        return self.order.run_id

    def say(self, text: str, block: int = 1) -> None:
        self.listener.happened(EventKind.TEXT, {"block": block, "text": text})

    def think(self, text: str, block: int = 1) -> None:
        self.listener.happened(EventKind.THINKING, {"block": block, "text": text})

    def use(self, tokens: int) -> None:
        self.listener.used(Tokens(input=tokens), "claude-sonnet-5")

    async def call(self, use_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        self.listener.happened(EventKind.TOOL_USE, {"id": use_id, "name": name, "input": dict(arguments)})
        await self.listener.calling(use_id, name, arguments)

    def answer(self, use_id: str, result: str, *, is_error: bool = False) -> None:
        self.listener.called(use_id, Verdict.ERROR if is_error else Verdict.OK, result, 12.0)
        body = {"id": use_id, "is_error": is_error, "content": result}
        self.listener.happened(EventKind.TOOL_RESULT, body)

    def finish(self, output: str = "done") -> None:
        self.over.set_result(Ending(State.FINISHED, output=output, cost_usd=0.02))

    def fail(self, error: str, reason: str = "agent_crashed") -> None:
        self.over.set_result(Ending(State.ERROR, error=error, reason=reason))


@dataclass
class LedSite:
    """The site, and the runs that were begun on it."""

    app: App
    begun: "asyncio.Queue[LedRun]"
    stack: AsyncExitStack
    origin: str = ""

    async def run(self, prompt: str = "Look around.", **more: Any) -> LedRun:
        """Have a run begun."""
        new = replace(NewRun(prompt, Trigger.QUICK, ("Read",)), **more)
        await self.app.runs.add(new, self.app.clock.now())
        return await self.next_run()

    async def next_run(self) -> LedRun:
        """Return the next run that is begun, by whomever."""
        async with asyncio.timeout(PATIENCE):
            return await self.begun.get()

    async def job(self, name: str = "Look around", **decided: Any) -> Job:
        draft = JobDraft(name, "0 7 * * 1-5", "Look around.", "Europe/Berlin", tools=("Read",))
        return await self.app.jobs.add(replace(draft, **decided), self.app.clock.now())

    async def open(self) -> None:
        """Listen on the port of the settings."""
        self.origin = await self.stack.enter_async_context(serving(self.app))

    async def close(self) -> None:
        """Stop listening; all streams end."""
        await self.stack.aclose()


@asynccontextmanager
async def led_site(home: Path, *, clock: Clock | None = None, **changes: Any) -> AsyncIterator[LedSite]:
    """Serve a home whose runs the test leads."""
    begun: asyncio.Queue[LedRun] = asyncio.Queue()

    async def act(order: Order, listener: Listener, stop: Stop) -> Ending:
        listener.started()
        run = LedRun(order, listener)
        begun.put_nowait(run)
        stopped = asyncio.ensure_future(stop.requested.wait())
        either: set[asyncio.Future[Any]] = {run.over, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if run.over.done():
            return run.over.result()
        assert stop.cause is not None
        return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)

    environment = {"HOME": str(home), "ANTHROPIC_API_KEY": "sk-ant-of-a-test"}
    settings = on_free_port(
        Settings(home=home, environment=environment, shutdown_grace_seconds=0.1, **changes)
    )
    async with open_app(settings, agent=FakeAgent(act), clock=clock) as app, AsyncExitStack() as stack:
        site = LedSite(app, begun, stack)
        await site.open()
        yield site
