"""What a checkout of this project takes for its runs: a program that is started in one, now or long past.

It knows nothing that an early version did not have. `python _run_cost_program.py HOME [BASE_URL KEY]`: with an address
the real CLI asks the model there, else a stand-in calls a tool and says a word. It makes as many runs as each line of
its input says, one after the other, each of a slot of one job, and answers with the seconds of processors and of the
clock.
"""

import asyncio
import os
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from claude_runner.agent import ClaudeAgent, Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.jobs import JobDraft
from claude_runner.runs import Ending, EventKind, State, Tokens, Verdict
from tests.support import FakeAgent, FakeClock, ended

MODEL: Final = "claude-sonnet-5"


class _Agent:
    """Tells which runs it has been given."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.given: asyncio.Queue[str] = asyncio.Queue()

    async def execute(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        self.given.put_nowait(order.run_id)
        ending: Ending = await self._real.execute(order, listener, stop)
        return ending

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def _work(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    """Do what a small run does."""
    listener.started()
    for turn in range(3):
        use_id, arguments = f"use {turn}", {"file_path": "a"}
        listener.happened(EventKind.TEXT, {"block": 2 * turn + 1, "text": "Looking."})
        listener.happened(EventKind.TOOL_USE, {"id": use_id, "name": "Read", "input": arguments})
        await listener.calling(use_id, "Read", arguments)
        listener.called(use_id, Verdict.OK, "text", 1.0)
        listener.happened(EventKind.TOOL_RESULT, {"id": use_id, "is_error": False, "content": "text"})
        listener.used(Tokens(input=100 * turn, output=10), MODEL)
    return Ending(State.FINISHED, output="Done.", tokens=Tokens(input=300, output=30), cost_usd=0.01)


async def _main(home: Path, address: list[str]) -> None:
    variables = {"PATH": os.environ["PATH"], "HOME": str(home)}
    if address:
        variables |= {"ANTHROPIC_BASE_URL": address[0], "ANTHROPIC_API_KEY": address[1]}
    settings, clock = Settings(home=home, environment=variables), FakeClock()
    agent = _Agent(ClaudeAgent(settings) if address else FakeAgent(_work))
    await agent.warm_up()
    async with open_app(settings, agent=agent, clock=clock) as app:
        await app.jobs.add(
            JobDraft("each second", "* * * * * *", "Greet.", "UTC", tools=("Read",)), clock.now()
        )
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await _round(app, agent, clock, int(line))


async def _round(app: App, agent: _Agent, clock: FakeClock, count: int) -> None:
    begun, used = time.monotonic(), _processors()
    for _ in range(count):
        clock.move(timedelta(seconds=1))
        async with asyncio.timeout(60):
            run = await ended(app, await agent.given.get())
        if run.state is not State.FINISHED:
            raise RuntimeError(f"a run did not finish: {run.error}")
    print((_processors() - used) / count, (time.monotonic() - begun) / count, flush=True)


def _processors() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
