import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from claude_runner.app import App, open_app
from claude_runner.background import background
from claude_runner.config import Settings
from claude_runner.errors import NotFoundError, UnavailableError
from claude_runner.runs import NewRun, State, Trigger
from claude_runner.settings import DEFAULTS
from claude_runner.tools import build_mcp
from claude_runner.web import build_site
from tests.parts import DRAFT, drafted, logged
from tests.support import FakeAgent, FakeClock, ended, running

REFUSAL = "CREATE TRIGGER no BEFORE INSERT ON occurrences BEGIN SELECT RAISE(ABORT, 'no'); END"


@pytest.fixture
async def waiting(tmp_path: Path, clock: FakeClock) -> AsyncIterator[App]:
    """The application, with an agent that goes on until it is stopped."""
    settings = Settings(home=tmp_path, shutdown_grace_seconds=0.05)
    async with open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop), clock=clock) as app:
        yield app


async def health(app: App) -> tuple[int, Any]:
    transport = httpx2.ASGITransport(build_site(app, await build_mcp(app)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/health")
        return response.status_code, response.json()


async def led(app: App) -> App:
    """Wait until the application leads its home, as shown by a run that it executes."""
    await ended(app, await app.runs.add(NewRun("go", Trigger.QUICK), app.clock.now()))
    return app


# Health


async def test_a_server_that_works_is_ok(app: App) -> None:
    assert await health(app) == (200, {"status": "ok", "checks": {"database": "ok", "scheduler": "ok"}})


async def test_a_server_whose_database_cannot_be_read_is_degraded(tmp_path: Path, clock: FakeClock) -> None:
    async with open_app(Settings(home=tmp_path), agent=FakeAgent(), clock=clock) as app:
        pass
    status, body = await health(app)
    assert (status, body["status"]) == (503, "degraded")
    assert body["checks"]["database"].startswith("the database is closed")


async def test_a_server_whose_scheduler_cannot_fire_is_degraded(app: App, clock: FakeClock) -> None:
    await led(app)
    await app.jobs.add(DRAFT, clock.now())
    await app.database.write(lambda c: c.execute(REFUSAL).close())
    with logged("claude_runner.scheduler") as log:
        clock.move(121)
        await log.line("could not look for due jobs")
    status, body = await health(app)
    assert (status, body["checks"]["scheduler"]) == (
        503, "the scheduler has not looked for due jobs since 2026-11-23T08:59:30+00:00",
    )  # fmt: skip


async def test_health_is_not_kept_by_caches(app: App) -> None:
    transport = httpx2.ASGITransport(build_site(app, await build_mcp(app)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health")).headers["cache-control"] == "no-store"


# Jobs and their runs


async def test_a_triggered_job_runs_besides_its_schedule(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(drafted(enabled=False), clock.now())
    run = await app.trigger(job.id)
    assert (run.trigger, run.job_id, run.scheduled_for) == (Trigger.MANUAL, job.id, None)
    assert (await ended(app, run.id)).state is State.FINISHED


async def test_a_job_that_there_is_none_of_is_not_triggered(app: App) -> None:
    with pytest.raises(NotFoundError, match="there is no job 'x'"):
        await app.trigger("x")


async def test_removing_a_job_ends_its_run_first(waiting: App, clock: FakeClock) -> None:
    job = await waiting.jobs.add(DRAFT, clock.now())
    run = await waiting.trigger(job.id)
    await running(waiting, run.id)
    await waiting.remove_job(job.id)
    assert waiting.dispatcher._executions == {}
    with pytest.raises(NotFoundError):
        await waiting.runs.get(run.id)


async def test_removing_a_job_takes_its_waiting_runs_too(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path, max_concurrent_runs=1, shutdown_grace_seconds=0.05)
    agent = FakeAgent(FakeAgent.wait_for_stop)
    async with open_app(settings, agent=agent, clock=clock) as app:
        job = await app.jobs.add(DRAFT, clock.now())
        first, second = await app.trigger(job.id), await app.trigger(job.id)
        await running(app, first.id)
        await app.remove_job(job.id)
        with pytest.raises(NotFoundError):
            await app.runs.get(second.id)


async def test_a_job_whose_row_is_spoiled_can_be_removed(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    await app.database.write(lambda c: c.execute("UPDATE jobs SET cron = 'whenever', tools = 'x'").close())
    await app.remove_job(job.id)
    assert await app.jobs.list() == []


async def test_removing_a_job_leaves_the_runs_of_others_alone(waiting: App, clock: FakeClock) -> None:
    mine, others = [await waiting.jobs.add(DRAFT, clock.now()) for _ in range(2)]
    run = await waiting.trigger(others.id)
    await running(waiting, run.id)
    await waiting.remove_job(mine.id)
    assert (await waiting.runs.get(run.id)).state is State.RUNNING


# Starting and ending


async def test_the_settings_are_made_on_the_first_start(app: App) -> None:
    rows = await app.database.read(lambda c: {row["key"] for row in c.execute("SELECT key FROM settings")})
    assert rows == set(DEFAULTS) | {"samples"}


async def test_a_setting_that_was_changed_stays_over_a_start(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock):
        pass
    with closing(sqlite3.connect(settings.database_path)) as shell, shell:
        shell.execute("UPDATE settings SET value = '[\"Read\"]' WHERE key = 'allowed_tools'")
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        assert await app.stored.allowed_tools() == ("Read",)


async def test_the_servers_own_folder_is_for_its_owner_alone(app: App) -> None:
    assert app.settings.state.stat().st_mode & 0o777 == 0o700


async def test_a_database_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UnavailableError, match="is not a SQLite database"):
        async with open_app(Settings(home=tmp_path), agent=FakeAgent()):
            pass


async def test_what_is_due_at_the_start_runs(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        await app.jobs.add(DRAFT, clock.now())
    clock.move(3600)
    agent = FakeAgent()
    async with open_app(settings, agent=agent, clock=clock) as app:
        await led(app)
    assert DRAFT.prompt in [order.prompt for order in agent.orders]


async def test_every_run_of_a_rehearsal_asks_one_stand_in_model(tmp_path: Path, clock: FakeClock) -> None:
    agent = FakeAgent()
    settings = Settings(home=tmp_path, rehearsal=True)
    async with open_app(settings, agent=agent, clock=clock) as app:
        job = await app.jobs.add(DRAFT, clock.now())
        first, second = await asyncio.gather(app.trigger(job.id), app.trigger(job.id))
        assert (await ended(app, first.id)).rehearsal
        assert (await ended(app, second.id)).rehearsal
    endpoints = {order.endpoint for order in agent.orders}
    assert len(endpoints) == 1
    assert None not in endpoints


async def test_what_breaks_in_the_background_is_raised_in_the_end() -> None:
    broken = asyncio.Event()

    async def work() -> None:
        broken.set()
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        async with background(work()):
            await broken.wait()


async def test_what_goes_on_in_the_background_ends_with_the_context() -> None:
    over = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    async with background(work()):
        await asyncio.sleep(0)
    assert over.is_set()
