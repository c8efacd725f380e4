import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import ConflictError, NotFoundError
from claude_runner.hub import Topic
from claude_runner.jobs import Fate, JobQuery, Occurrence, record
from claude_runner.runs import RunQuery, State
from claude_runner.trash import LONGEST_SLEEP
from tests import history
from tests.parts import DRAFT, Parts, drafted, logged, open_parts, patient
from tests.support import MORNING, FakeAgent, FakeClock, ended, running, until

HOUR = timedelta(hours=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.fixture
async def waiting(tmp_path: Path, clock: FakeClock) -> AsyncIterator[App]:
    """The application, with an agent that goes on until it is stopped."""
    settings = Settings(home=tmp_path, shutdown_grace_seconds=0.05)
    async with open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop), clock=clock) as app:
        yield app


@asynccontextmanager
async def deleted(app: App, job_id: str) -> AsyncIterator[None]:
    """Wait at the end until nothing is left of a job."""
    yield

    async def is_gone() -> bool:
        select = "SELECT 1 FROM jobs WHERE id = :id"
        return await app.database.read(lambda c: c.execute(select, {"id": job_id}).fetchone()) is None

    await until(is_gone, app, Topic.JOBS)


async def test_a_job_in_the_trash_is_gone_for_everybody(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    slot = Occurrence(MORNING, Fate.MISSED, "off")
    await app.database.write(lambda c: record(c, job.id, slot))
    await app.discard_job(job.id)
    assert await app.jobs.list() == []
    assert (await app.jobs.overview(JobQuery(), 5)).total == 0
    assert await app.jobs.names() == []
    assert await app.jobs.coming(clock.now() + timedelta(days=9)) == []
    assert await app.jobs.occurrences(MORNING - HOUR, MORNING + HOUR) == []
    assert await app.jobs.missed(MORNING - HOUR, 5) == []
    for read in (app.jobs.get, app.jobs.row, app.trigger, app.discard_job, app.remove_job):
        with pytest.raises(NotFoundError, match="there is no job"):
            await read(job.id)
    with pytest.raises(NotFoundError):
        await app.jobs.change(job.id, {"name": "new"}, clock.now())


async def test_a_job_in_the_trash_is_not_due(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(drafted(cron="* * * * *"), clock.now())
    await app.discard_job(job.id)
    clock.move(600)
    await app.scheduler.tick()
    assert (await app.runs.search(RunQuery(), 5)).runs == []


async def test_a_job_that_is_taken_back_is_as_it_was_and_planned_anew(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(drafted(cron="*/10 * * * *"), clock.now())
    run = await ended(app, (await app.trigger(job.id)).id)
    before = await app.jobs.get(job.id)
    await app.discard_job(job.id)
    clock.move(1200)
    back = await app.restore_job(job.id)
    assert back.next_run_at == MORNING.replace(hour=9, minute=20, second=0)
    assert (back.name, back.prompt, back.enabled, back.created_at) == (
        before.name,
        before.prompt,
        True,
        before.created_at,
    )
    assert back.updated_at > before.updated_at
    assert await app.jobs.get(job.id) == back
    assert (await app.runs.get(run.id)).job_id == job.id
    assert (await app.jobs.row(job.id)).runs == 1


async def test_a_paused_job_is_paused_when_it_is_taken_back(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(drafted(enabled=False), clock.now())
    await app.discard_job(job.id)
    back = await app.restore_job(job.id)
    assert (back.enabled, back.next_run_at) == (False, None)


async def test_a_job_that_is_not_in_the_trash_stays_as_it_is(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    assert await app.restore_job(job.id) == job
    with pytest.raises(NotFoundError):
        await app.restore_job("x")


async def test_what_is_in_the_trash_is_listed_with_when_it_goes(app: App, clock: FakeClock) -> None:
    first, second = [await app.jobs.add(DRAFT, clock.now()) for _ in range(2)]
    await app.discard_job(first.id)
    clock.move(60)
    await app.discard_job(second.id)
    listed = [(job.id, at) for job, at in await app.jobs.discarded()]
    assert listed == [(second.id, MORNING + timedelta(minutes=61)), (first.id, MORNING + HOUR)]


async def test_a_job_in_the_trash_that_was_spoiled_by_hand_keeps_none_of_the_others_from_being_listed(
    app: App, clock: FakeClock
) -> None:
    spoiled, other = [await app.jobs.add(DRAFT, clock.now()) for _ in range(2)]
    for job in (spoiled, other):
        await app.discard_job(job.id)
    spoil = "UPDATE jobs SET tools = 'x' WHERE id = :id"
    await app.database.write(lambda c: c.execute(spoil, {"id": spoiled.id}).close())
    assert [job.id for job, _ in await app.jobs.discarded()] == [other.id]


async def test_putting_a_job_into_the_trash_ends_its_runs(waiting: App, clock: FakeClock) -> None:
    job = await waiting.jobs.add(DRAFT, clock.now())
    going_on, pending = await waiting.trigger(job.id), await waiting.trigger(job.id)
    await running(waiting, going_on.id)
    await waiting.discard_job(job.id)
    states = {(await waiting.runs.get(run.id)).state for run in (going_on, pending)}
    assert states == {State.CANCELLED}


async def test_after_an_hour_a_job_is_deleted_with_its_runs(app: App, clock: FakeClock) -> None:
    job, other = [await app.jobs.add(DRAFT, clock.now()) for _ in range(2)]
    run = await ended(app, (await app.trigger(job.id)).id)
    await app.discard_job(job.id)
    async with deleted(app, job.id):
        clock.move(HOUR)
    with pytest.raises(NotFoundError):
        await app.runs.get(run.id)
    with pytest.raises(NotFoundError):
        await app.restore_job(job.id)
    assert [it.id for it in await app.jobs.list()] == [other.id]
    assert (await app.runs.usage_in_all()).finished == 1


async def test_what_was_put_in_before_a_start_is_deleted_after_it(tmp_path: Path, clock: FakeClock) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        job = await app.jobs.add(DRAFT, clock.now())
        await app.discard_job(job.id)
    clock.move(2 * HOUR)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app, deleted(app, job.id):
        pass


async def test_a_job_that_is_taken_back_is_not_deleted_later(app: App, clock: FakeClock) -> None:
    kept, gone = [await app.jobs.add(DRAFT, clock.now()) for _ in range(2)]
    await app.discard_job(kept.id)
    await app.discard_job(gone.id)
    await app.restore_job(kept.id)
    async with deleted(app, gone.id):
        clock.move(HOUR)
    assert (await app.jobs.get(kept.id)).enabled


async def test_any_number_of_processes_may_empty_the_trash(parts: Parts) -> None:
    job = await parts.job()
    assert await parts.jobs.discard(job.id, MORNING)
    async with open_parts(parts.path) as others:
        await patient(parts, others)
        for each in (parts, others, parts):
            assert await each.jobs.empty_trash(MORNING + HOUR) is None
    assert await parts.sql("SELECT * FROM jobs") == []


async def test_the_trash_says_when_to_look_again(parts: Parts) -> None:
    assert await parts.jobs.empty_trash(MORNING) is None
    job = await parts.job()
    await parts.jobs.discard(job.id, MORNING)
    assert await parts.jobs.empty_trash(MORNING) == MORNING + HOUR


async def test_a_trash_that_cannot_be_emptied_is_tried_again(app: App, clock: FakeClock) -> None:
    job = await app.jobs.add(DRAFT, clock.now())
    await app.discard_job(job.id)
    refusal = "CREATE TRIGGER no BEFORE DELETE ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END"
    await app.database.write(lambda c: c.execute(refusal).close())
    with logged() as log:
        clock.move(HOUR)
        await log.line("the trash could not be emptied")
    await app.database.write(lambda c: c.execute("DROP TRIGGER no").close())
    async with deleted(app, job.id):
        clock.move(LONGEST_SLEEP)


async def test_deleting_a_job_of_many_runs_lets_others_write_meanwhile(tmp_path: Path) -> None:
    made = history.fill(tmp_path / "jobs.db", 450, jobs=1)
    async with open_parts(tmp_path / "jobs.db") as parts:
        await parts.jobs.remove(made.jobs[0])
        [(left,)] = await parts.sql("SELECT count(*) FROM runs WHERE job_id IS NOT NULL")
        assert left == 0
        assert await parts.sql("SELECT * FROM job_totals") == []
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as c:
        c.execute("INSERT INTO run_words (run_words) VALUES ('integrity-check')")


# Stale edits


async def test_an_edit_of_what_somebody_else_has_changed_is_refused(parts: Parts) -> None:
    seen = await parts.job()
    changed = await parts.jobs.change(seen.id, {"name": "Theirs"}, MORNING, was=seen.updated_at)
    with pytest.raises(ConflictError, match="changed by someone else"):
        await parts.jobs.change(seen.id, {"name": "Mine"}, MORNING, was=seen.updated_at)
    assert (
        await parts.jobs.change(seen.id, {"name": "Mine"}, MORNING, was=changed.updated_at)
    ).name == "Mine"


async def test_a_run_of_the_job_does_not_make_an_edit_stale(app: App, clock: FakeClock) -> None:
    seen = await app.jobs.add(DRAFT, clock.now())
    await ended(app, (await app.trigger(seen.id)).id)
    assert (await app.jobs.change(seen.id, {"name": "Mine"}, clock.now(), was=seen.updated_at)).name == "Mine"
