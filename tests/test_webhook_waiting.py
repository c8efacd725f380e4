"""Senders that wait for what comes of their deliveries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from fastmcp import FastMCP

from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.runs import Ending, State
from tests.sites import on_free_port, serving
from tests.support import PATIENCE, FakeAgent, FakeClock, ended, running
from tests.webhooks import Service, posting_to, soon


@pytest.fixture
async def service(app: App) -> AsyncIterator[Service]:
    async with posting_to(app) as service:
        yield service


class Held:
    """An agent whose runs go on until they may end."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, _order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        await self.go.wait()
        return Ending(State.FINISHED, output="all is well")


class WatchedClock(FakeClock):
    """A clock that tells for how long somebody waits by it."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[float, asyncio.Event] = {}

    def asked(self, seconds: float) -> asyncio.Event:
        """Set once somebody waits for so long."""
        return self._asked.setdefault(seconds, asyncio.Event())

    async def pause(self, event: asyncio.Event, seconds: float) -> None:  # type: ignore[explicit-override]
        self.asked(seconds).set()
        await super().pause(event, seconds)


@asynccontextmanager
async def held(home: Path) -> AsyncIterator[tuple[Service, Held, WatchedClock]]:
    act, clock = Held(), WatchedClock()
    async with (
        open_app(Settings(home=home), agent=FakeAgent(act), clock=clock) as app,
        posting_to(app) as service,
    ):
        yield service, act, clock
        act.go.set()


async def test_who_may_wait_is_answered_with_what_came_of_it(service: Service) -> None:
    webhook = await service.webhook(max_wait_seconds=10)
    answer = await service.send(webhook, query="?wait=10")
    run_id = answer.json()["run_id"]
    assert answer.status_code == 200
    assert answer.json() == {"run_id": run_id, "state": "finished", "output": "done", "error": None}
    assert (await service.app.runs.get(run_id)).state is State.FINISHED


async def test_who_waits_hears_of_a_failure_too(tmp_path: Path) -> None:
    async def fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.started()
        return Ending(State.ERROR, error="the model is out", reason="model")

    async with (
        open_app(Settings(home=tmp_path), agent=FakeAgent(fail), clock=FakeClock()) as app,
        posting_to(app) as service,
    ):
        answer = await service.send(await service.webhook(max_wait_seconds=10), query="?wait=10")
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["error"]) == ("error", "the model is out")


@pytest.mark.parametrize(("asked", "waited"), [(7, 7.0), (9_999, 29.0)])
async def test_who_waits_too_long_is_answered_with_the_run(tmp_path: Path, asked: int, waited: float) -> None:
    async with held(tmp_path) as (service, act, clock):
        webhook = await service.webhook(max_wait_seconds=29)
        post = asyncio.create_task(service.send(webhook, query=f"?wait={asked}"))
        await soon(clock.asked(waited))
        clock.move(waited)
        async with asyncio.timeout(PATIENCE):
            answer = await post
        assert answer.status_code == 202
        assert not act.go.is_set()
        run = await running(service.app, answer.json()["run_id"])
    assert run.webhook_id == webhook.id


async def test_who_may_not_wait_is_answered_at_once(tmp_path: Path) -> None:
    async with held(tmp_path) as (service, _, _clock), asyncio.timeout(PATIENCE):
        answer = await service.send(await service.webhook(), query="?wait=30")
        assert answer.status_code == 202
        assert set(answer.json()) == {"run_id", "state"}


async def test_what_is_not_wanted_is_not_waited_for(service: Service) -> None:
    webhook = await service.webhook(max_wait_seconds=10, filter="payload.wanted")
    answer = await service.send(webhook, query="?wait=10")
    assert (answer.status_code, answer.json()) == (202, {"run_id": None, "state": "filtered"})


async def test_so_many_wait_at_a_time_and_the_others_are_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.reception._reception.MOST_WAITING", 1)
    async with held(tmp_path) as (service, act, clock):
        webhook = await service.webhook(max_wait_seconds=7)
        first = asyncio.create_task(service.send(webhook, query="?wait=7"))
        await soon(clock.asked(7.0))
        async with asyncio.timeout(PATIENCE):
            assert (await service.send(webhook, query="?wait=7")).status_code == 202
            act.go.set()
            assert (await first).status_code == 200
            assert (await service.send(webhook, query="?wait=7")).status_code == 200


async def test_a_sender_that_goes_while_it_waits_leaves_its_run_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_runner.reception._reception.MOST_WAITING", 1)
    act, settings = Held(), on_free_port(Settings(home=tmp_path))
    async with (
        open_app(settings, agent=FakeAgent(act), clock=(clock := WatchedClock())) as app,
        serving(app, FastMCP("none")) as origin,
        httpx2.AsyncClient(base_url=origin) as http,
    ):
        service = Service(app, http)
        webhook = await service.webhook(max_wait_seconds=30)
        post = asyncio.create_task(service.send(webhook, query="?wait=7"))
        await soon(clock.asked(7.0))
        post.cancel()
        await asyncio.wait({post})
        [run] = await service.runs(webhook)
        seconds = 8
        async with asyncio.timeout(PATIENCE):
            while True:  # nobody tells when the server has seen it go: then another may wait in its place
                post = asyncio.create_task(service.send(webhook, query=f"?wait={seconds}"))
                asked = asyncio.create_task(clock.asked(float(seconds)).wait())
                await asyncio.wait({post, asked}, return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                if not post.done():
                    break
                assert post.result().status_code == 202
                seconds += 1
        act.go.set()
        assert (await post).status_code == 200
        assert (await ended(app, run.id)).state is State.FINISHED
