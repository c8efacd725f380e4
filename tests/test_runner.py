import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from claude_runner.agent import Listener, Order, Stop
from claude_runner.budgets import Purse
from claude_runner.config import Settings
from claude_runner.errors import UnavailableError
from claude_runner.jobs import Policy
from claude_runner.runner import Runner
from claude_runner.runs import Ending, EventKind, Run, State, Tokens
from tests.parts import Parts, hands_of, locked, logged, open_parts
from tests.support import MORNING, PATIENCE, FakeAgent, FakeClock

Act = Callable[[Order, Listener, Stop], Awaitable[Ending]]
PROBLEM = "there is no sandbox here"


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def never() -> Any:
    raise AssertionError("no stand-in model is wanted here")


async def runner_of(
    parts: Parts, act: Act | None = None, problem: str | None = None
) -> tuple[Runner, FakeAgent]:
    agent = FakeAgent(act)
    settings = Settings(parts.path.parent)
    reach, door = await hands_of(parts, settings, problem)
    runner = Runner(
        parts.database,
        parts.hub,
        parts.runs,
        agent,
        parts.clock,
        settings,
        reach,
        door,
        never,
        Purse(parts.database, parts.clock),
    )
    return runner, agent


async def executed(parts: Parts, act: Act | None = None, *, problem: str | None = None, **run: Any) -> Run:
    """Execute a run to its end and return it."""
    claimed = await parts.claimed(**run)
    await (await runner_of(parts, act, problem))[0].execute(claimed, Stop(), lambda: None)
    return await parts.runs.get(claimed.id)


async def order_for(parts: Parts, problem: str | None = None, **run: Any) -> Order:
    """Return what the agent is asked for a run."""
    runner, agent = await runner_of(parts, problem=problem)
    await runner.execute(await parts.claimed(**run), Stop(), lambda: None)
    [order] = agent.orders
    return order


async def fail(_order: Order, _listener: Listener, _stop: Stop) -> Ending:
    raise KeyError("a bug")


# What the agent is asked


async def test_the_agent_is_asked_what_the_run_says(parts: Parts) -> None:
    order = await order_for(parts, prompt="look", tools=("Read", "mcp__runner__recall"), model="opus")
    assert (order.prompt, order.built_ins, order.model) == ("look", ("Read",), "opus")
    assert (order.session_id, order.endpoint) == ("session", None)


async def test_a_run_of_a_job_works_in_the_jobs_own_folder(parts: Parts) -> None:
    job = await parts.job()
    order = await order_for(parts, job_id=job.id)
    assert order.folder == parts.path.parent / "claude_playground" / job.id
    assert order.folder.is_dir()


async def test_a_run_without_a_job_works_in_a_folder_of_its_own(parts: Parts) -> None:
    order = await order_for(parts)
    assert order.folder.name == f"run-{order.run_id}"


async def test_the_instructions_tell_the_job_the_folder_and_the_time_in_its_zone(parts: Parts) -> None:
    job = await parts.job(timezone="Asia/Tokyo")
    order = await order_for(parts, job_id=job.id)
    assert "started by the job 'Morning'" in order.instructions
    assert str(order.folder) in order.instructions
    assert "Monday, 23 November 2026, 17:59 (Asia/Tokyo)" in order.instructions


async def test_the_instructions_tell_of_a_person_where_there_is_no_job(parts: Parts) -> None:
    assert "started by a person" in (await order_for(parts)).instructions


async def test_without_a_list_the_owners_tools_are_granted(parts: Parts) -> None:
    await parts.sql("INSERT INTO settings VALUES ('allowed_tools', '[\"Read\", 5]')")
    assert (await order_for(parts)).built_ins == ("Read",)


@pytest.mark.parametrize("value", ["{}", "not JSON", "null"])
async def test_a_setting_of_tools_that_is_no_list_grants_none(parts: Parts, value: str) -> None:
    await parts.sql("INSERT INTO settings VALUES ('allowed_tools', :value)", value=value)
    assert (await order_for(parts)).built_ins == ()


async def test_a_default_without_a_sandbox_runs_without_bash_and_says_so_on_the_run(parts: Parts) -> None:
    run = await executed(parts, problem=PROBLEM)
    assert (run.state, run.warnings) == (State.FINISHED, (f"runs without Bash: {PROBLEM}",))


# How it ends


async def test_a_run_ends_as_the_agent_says(parts: Parts) -> None:
    run = await executed(parts)
    assert (run.state, run.output, run.tokens) == (State.FINISHED, "done", Tokens(10, 2))


async def test_a_run_whose_tool_is_refused_today_ends_without_the_agent(parts: Parts) -> None:
    run = await executed(parts, fail, problem=PROBLEM, tools=("Bash",))
    assert (run.state, run.reason) == (State.ERROR, "tool_refused")
    assert run.error == f"Bash can't be granted: {PROBLEM}"


async def test_a_run_whose_folder_cannot_be_made_says_which(parts: Parts) -> None:
    (parts.path.parent / "claude_playground").write_text("in the way")
    run = await executed(parts)
    assert run.reason == "folder_unavailable"
    assert run.error is not None
    assert run.error.startswith(f"can't make {parts.path.parent / 'claude_playground'}")


async def test_a_run_of_a_job_that_was_edited_by_hand_says_what_is_wrong(parts: Parts) -> None:
    job = await parts.job()
    await parts.sql("UPDATE jobs SET tools = 'Read'")
    run = await executed(parts, job_id=job.id)
    assert run.reason == "invalid"
    assert run.error is not None
    assert f"job {job.id} was edited by hand" in run.error


async def test_a_bug_ends_the_run_with_an_id_that_the_log_explains(parts: Parts) -> None:
    with logged("claude_runner.runner") as log:
        run = await executed(parts, fail)
    assert (run.state, run.reason) == (State.ERROR, "internal_error")
    error_id = (run.error or "").rpartition(" ")[2]
    [line] = log.having(error_id)
    assert "KeyError: 'a bug'" in line


async def test_a_bug_keeps_what_was_said_before_it(parts: Parts) -> None:
    async def say_then_fail(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.happened(EventKind.TEXT, {"block": 1, "text": "half a sen"})
        raise KeyError

    run = await executed(parts, say_then_fail)
    assert (run.output, [event.body["text"] for event in await parts.events(run.id)]) == (
        "half a sen", ["half a sen"],
    )  # fmt: skip


async def test_a_run_that_said_nothing_has_no_output(parts: Parts) -> None:
    assert (await executed(parts, fail)).output is None


async def test_the_last_live_count_stands_where_the_ending_has_none(parts: Parts) -> None:
    async def use_then_stop(_order: Order, listener: Listener, _stop: Stop) -> Ending:
        listener.used(Tokens(5, 6), "opus")
        return Ending(State.ERROR, error="it broke", reason="agent_crashed")

    run = await executed(parts, use_then_stop)
    assert run.tokens == Tokens(5, 6)


async def test_the_job_tells_when_its_last_run_ended_and_what_was_wrong(parts: Parts) -> None:
    job = await parts.job()
    await executed(parts, fail, job_id=job.id)
    told = await parts.jobs.get(job.id)
    assert told.last_executed_at == MORNING
    assert (told.last_error or "").startswith("the server made a mistake")


async def test_a_run_that_goes_well_clears_what_was_wrong_before(parts: Parts) -> None:
    job = await parts.job()
    await executed(parts, fail, job_id=job.id)
    await executed(parts, job_id=job.id)
    assert (await parts.jobs.get(job.id)).last_error is None


async def test_an_attempt_that_someone_else_ended_writes_nothing_on_the_job(parts: Parts) -> None:
    job = await parts.job()

    async def be_overtaken(_order: Order, _listener: Listener, _stop: Stop) -> Ending:
        await parts.sql("UPDATE runs SET attempt = attempt + 1")
        return Ending(State.FINISHED, output="late")

    with logged("claude_runner.runner") as log:
        run = await executed(parts, be_overtaken, job_id=job.id)
    assert log.having("attempt 1 was ended by someone else")
    assert (run.state, (await parts.jobs.get(job.id)).last_executed_at) == (State.RUNNING, None)


async def test_an_attempt_that_may_not_write_any_more_is_stopped(parts: Parts) -> None:
    stop = Stop()

    async def wait(order: Order, listener: Listener, stop: Stop) -> Ending:
        await parts.sql("UPDATE runs SET attempt = attempt + 1")
        listener.happened(EventKind.TEXT, {"block": 1, "text": "late"})
        return await FakeAgent.wait_for_stop(order, listener, stop)

    await (await runner_of(parts, wait))[0].execute(await parts.claimed(), stop, lambda: None)
    assert stop.cause is not None
    assert stop.cause.reason == "given_up"


# The end that cannot be written


async def test_an_end_that_cannot_be_written_is_tried_again_a_second_later(tmp_path: Path) -> None:
    clock = FakeClock()
    async with open_parts(tmp_path / "jobs.db", clock) as parts:
        claimed = await parts.claimed()
        with logged("claude_runner.runner") as log:
            with locked(parts.path):
                executing = asyncio.create_task(
                    (await runner_of(parts))[0].execute(claimed, Stop(), lambda: None)
                )
                await log.line("its end can't be written yet: jobs.db is locked")
                clock.move(1)
                await log.line("its end can't be written yet", count=2)
            clock.move(1)
            await executing
        run = await parts.runs.get(claimed.id)
        assert (run.state, run.output, run.finished_at) == (State.FINISHED, "done", MORNING)
        assert [event.body["text"] for event in await parts.events(run.id)] == ["done"]


async def test_an_end_is_not_tried_again_before_a_second_has_passed(parts: Parts) -> None:
    claimed = await parts.claimed()
    with logged("claude_runner.runner") as log, ExitStack() as lock:
        lock.enter_context(locked(parts.path))
        executing = asyncio.create_task((await runner_of(parts))[0].execute(claimed, Stop(), lambda: None))
        await log.line("its end can't be written yet")
        for _ in range(5):  # each takes as long as a try does
            with suppress(UnavailableError):
                await parts.sql("SELECT 1")
        assert len(log.having("its end can't be written yet")) == 1
        lock.close()
        parts.clock.move(1)
        await executing


async def test_an_end_is_not_given_up_however_long_it_cannot_be_written(tmp_path: Path) -> None:
    clock = FakeClock()
    async with open_parts(tmp_path / "jobs.db", clock) as parts:
        claimed = await parts.claimed()
        with logged("claude_runner.runner") as log:
            with locked(parts.path):
                executing = asyncio.create_task(
                    (await runner_of(parts))[0].execute(claimed, Stop(), lambda: None)
                )
                for count in range(1, 41):
                    await log.line("its end can't be written yet", count=count)
                    clock.move(1)
            clock.move(1)
            await executing
        assert (await parts.runs.get(claimed.id)).state is State.FINISHED


# What takes too long


class Led:
    """An agent that goes on until the test or the runner ends it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.up = asyncio.Event()
        self.listener: Listener

    async def __call__(self, _order: Order, listener: Listener, stop: Stop) -> Ending:
        self.listener = listener
        self.up.set()
        ends = [asyncio.ensure_future(event.wait()) for event in (self.go, stop.requested)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        if stop.cause is None:
            return Ending(State.FINISHED, output="done")
        return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)

    def say(self, text: str) -> None:
        self.listener.heard()
        self.listener.happened(EventKind.TEXT, {"block": 1, "text": text})

    def use_tool(self) -> None:
        self.listener.heard()
        self.listener.happened(EventKind.TOOL_USE, {"id": "t1", "name": "Bash", "input": {}})

    def hear_of_tool(self) -> None:
        self.listener.heard()
        self.listener.happened(EventKind.TOOL_RESULT, {"id": "t1", "is_error": False, "content": ""})


@pytest.fixture
def led() -> Led:
    return Led()


@asynccontextmanager
async def executing(parts: Parts, led: Led, **run: Any) -> AsyncIterator[str]:
    """Execute a run while the context is open and for as long after as it takes."""
    claimed = await parts.claimed(**run)
    task = asyncio.create_task((await runner_of(parts, led))[0].execute(claimed, Stop(), lambda: None))
    await led.up.wait()
    yield claimed.id
    async with asyncio.timeout(PATIENCE):
        await task


async def test_a_run_that_takes_too_long_is_ended_and_keeps_what_it_said(parts: Parts, led: Led) -> None:
    async with executing(parts, led, timeout_minutes=30) as run_id:
        led.say("half a sen")
        led.use_tool()
        parts.clock.move(30 * 60)
    run = await parts.runs.get(run_id)
    assert (run.state, run.reason, run.output) == (State.ERROR, "timeout", "half a sen")
    assert run.error == "it was not done within 30 minutes and was ended"


async def test_a_single_minute_is_said_as_one(parts: Parts, led: Led) -> None:
    async with executing(parts, led, timeout_minutes=1) as run_id:
        parts.clock.move(60)
    assert (await parts.runs.get(run_id)).error == "it was not done within 1 minute and was ended"


async def test_a_run_that_is_done_in_time_is_not_ended(parts: Parts, led: Led) -> None:
    async with executing(parts, led, timeout_minutes=1) as run_id:
        parts.clock.move(59.999)
        led.go.set()
    assert (await parts.runs.get(run_id)).state is State.FINISHED


async def test_a_run_is_not_ended_because_the_time_of_day_jumps(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        parts.clock.jump(timedelta(days=1))
        led.go.set()
    assert (await parts.runs.get(run_id)).state is State.FINISHED


async def test_an_agent_that_does_not_start_is_ended(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        parts.clock.move(90)
    assert (await parts.runs.get(run_id)).reason == "start_timeout"


async def test_an_agent_that_falls_silent_is_ended(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        led.say("well")
        parts.clock.move(360)
    assert (await parts.runs.get(run_id)).reason == "silent"


async def test_an_agent_that_is_heard_now_and_then_goes_on(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        for _ in range(3):
            led.say("well ")
            parts.clock.move(359)
            await parts.sql("SELECT 1")
        led.go.set()
    assert (await parts.runs.get(run_id)).state is State.FINISHED


async def test_an_agent_whose_tool_takes_long_may_be_silent(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        led.use_tool()
        parts.clock.move(20 * 60)
        await parts.sql("SELECT 1")
        led.go.set()
    assert (await parts.runs.get(run_id)).state is State.FINISHED


async def test_an_agent_that_falls_silent_after_its_tool_is_ended(parts: Parts, led: Led) -> None:
    async with executing(parts, led) as run_id:
        led.use_tool()
        led.hear_of_tool()
        parts.clock.move(360)
    assert (await parts.runs.get(run_id)).reason == "silent"


async def test_a_heartbeat_that_can_not_be_written_down_keeps_no_run_from_its_start(parts: Parts) -> None:
    begun, unlocked = asyncio.Event(), asyncio.Event()

    async def begin(order: Order, listener: Listener, stop: Stop) -> Ending:
        begun.set()
        await unlocked.wait()
        return await FakeAgent.say_done(order, listener, stop)

    job = await parts.job(policy=Policy(heartbeat_url="http://127.0.0.1:9/beat"))
    run = await parts.claimed(job_id=job.id)
    runner, _ = await runner_of(parts, begin)
    with locked(parts.path):
        executing = asyncio.create_task(runner.execute(run, Stop(), lambda: None))
        await asyncio.wait(
            {executing, asyncio.ensure_future(begun.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
    unlocked.set()
    await executing
    assert begun.is_set()
    assert (await parts.runs.get(run.id)).state is State.FINISHED
