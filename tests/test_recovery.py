"""What becomes of runs whose server died: decided once, their sessions kept for as long as they are needed."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.app import App, open_app
from claude_runner.config import Settings, SystemClock
from claude_runner.db import open_database
from claude_runner.errors import NotFoundError
from claude_runner.hub import Hub
from claude_runner.jobs import Job, JobDraft, Jobs, OnCrash, Policy
from claude_runner.recovery import EVERY_SECONDS
from claude_runner.retrying import AT_ONCE, MOST_ATTEMPTS, decide
from claude_runner.runs import Ending, NewRun, Runs, State, Transcripts, Trigger, Verdict
from tests.parts import Parts, open_parts
from tests.scripted_model import ScriptedModel, Step, script
from tests.served import served
from tests.support import MORNING, FakeAgent, FakeClock, ended, running
from tests.tool_servers import comes, put

DIED = Ending(State.ERROR, reason="server_stopped", error="the server died")
HOLD = "mcp__quick__hold"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def job_with(app: App, **rules: Any) -> str:
    draft = JobDraft("Morning", "0 9 * * *", "go", "UTC", policy=Policy(**rules))
    return (await app.jobs.add(draft, app.clock.now())).id


# With the real server and the real Claude Code


async def test_a_run_whose_server_is_killed_in_a_call_goes_on_and_is_told_that_its_outcome_is_unknown(
    tmp_path: Path, model: ScriptedModel
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": model.base_url,
        "ANTHROPIC_API_KEY": model.api_key,
    }
    settings = Settings(home=tmp_path, environment=environment, shutdown_grace_seconds=0.2)
    put(settings, "quick")
    held = tmp_path / "dynamic_servers" / "quick" / "data" / "held"
    # Claude Code may or may not find the time to note that it was interrupted, as an answer.
    steps: tuple[Step, ...] = ({"text": "I call.", "tool": HOLD}, {"text": "Done."}, {"text": "Done."})
    prompt = f"Do it. {script(*steps)}"
    async with open_database(settings.database_path) as database:
        rules = Policy(on_crash=OnCrash.RESUME)
        draft = JobDraft("Once", "0 9 * * *", prompt, "UTC", tools=(HOLD,), policy=rules)
        now = SystemClock().now()
        job = await Jobs(database, Hub()).add(draft, now)
        run_id = await Runs(database, Hub()).add(job.new_run(Trigger.MANUAL), now)
    with served(tmp_path, None, **environment) as site:
        await comes(held.exists)
        held.unlink()
        await asyncio.to_thread(site.process.kill)
    async with open_app(settings) as app:
        run = await ended(app, run_id)
        calls = (await app.runs.calls(run_id, None, 10)).calls
        kept = await app.database.read(lambda c: c.execute("SELECT count(*) FROM transcripts").fetchone()[0])
    assert (run.error, run.state, run.attempt, run.output) == (None, State.FINISHED, 2, "Done.")
    assert [(call.tool, call.verdict) for call in calls] == [(HOLD, Verdict.ABANDONED)]
    assert not held.exists()  # it was not made again
    first, last = model.requests[0], model.requests[-1]
    assert last.session_id == first.session_id
    told = str(last.body["messages"])
    assert "Do it." in told
    assert "whether they took effect is not known" in told
    assert f"- {HOLD} {{}}" in told
    assert kept == 0


# Runs that the server may die of


@pytest.mark.parametrize("on_crash", [OnCrash.RETRY, OnCrash.RESUME])
async def test_a_run_that_each_server_dies_of_is_taken_up_less_and_less_soon_and_then_not_at_all(
    parts: Parts, on_crash: OnCrash
) -> None:
    run, policy = await parts.claimed(), Policy(on_crash=on_crash, max_retries=0)

    def pause(number: int) -> timedelta | None:
        retry = decide(replace(run, attempt=number), DIED, policy, MORNING, lambda: 0.5, has_begun=True)
        return None if retry is None else retry.not_before - MORNING

    pauses = [pause(number) for number in range(1, MOST_ATTEMPTS + 1)]
    assert pauses[:AT_ONCE] == [timedelta()] * AT_ONCE
    assert pauses[AT_ONCE : AT_ONCE + 2] == [timedelta(seconds=30), timedelta(seconds=60)]
    assert pauses[-2:] == [timedelta(minutes=15), None]


# What is kept of sessions


@pytest.fixture
def agent() -> FakeAgent:
    agent = FakeAgent()
    agent._act = agent.wait_for_stop
    return agent


async def test_what_is_kept_of_a_session_goes_once_no_run_goes_on_in_it(app: App, clock: FakeClock) -> None:
    job_id = await job_with(app, on_crash=OnCrash.RESUME)
    run = await running(
        app, await app.runs.add(NewRun("go", Trigger.WEBHOOK, job_id=job_id), clock.now()), said="half"
    )
    kept = Transcripts(app.database, clock)
    for session_id in (str(run.session_id), "of a run that was cancelled while it waited"):
        await kept.append(session_id, "", [{"uuid": "1", "type": "user"}])
    clock.move(EVERY_SECONDS)
    await comes(lambda: sessions(app) == [run.session_id])
    await app.dispatcher.cancel(run.id)
    assert sessions(app) == []


def sessions(app: App) -> list[str]:
    with closing(sqlite3.connect(app.settings.database_path)) as c:
        return [session_id for (session_id,) in c.execute("SELECT DISTINCT session_id FROM transcripts")]


async def test_what_is_kept_of_sessions_stays_while_a_run_waits_to_go_on(parts: Parts) -> None:
    run = await parts.claimed()
    kept = Transcripts(parts.database, parts.clock)
    await kept.append("session", "", [{"uuid": "1"}])
    await parts.sql("UPDATE runs SET state = 'pending', resumes = 1, worker = NULL")
    await kept.sweep()
    assert await kept.load("session", "") == [{"uuid": "1"}]
    assert await parts.runs.cancel_pending(run.id, "no", parts.clock.now())
    await kept.sweep()
    assert await kept.load("session", "") is None


# Runs of jobs that are gone


async def test_a_job_that_is_put_into_the_trash_in_that_moment_gets_no_run(parts: Parts) -> None:
    job = await parts.job()
    assert await parts.jobs.discard(job.id, parts.clock.now())
    await is_refused(parts, job)


async def test_a_job_that_is_deleted_in_that_moment_gets_no_run(parts: Parts) -> None:
    job = await parts.job()
    await parts.jobs.remove(job.id)
    await is_refused(parts, job)


async def is_refused(parts: Parts, job: Job) -> None:
    with pytest.raises(NotFoundError, match=f"job {job.id} has been deleted"):
        await parts.runs.add(job.new_run(Trigger.MANUAL), parts.clock.now())
    assert await parts.sql("SELECT count(*) FROM runs") == [(0,)]
