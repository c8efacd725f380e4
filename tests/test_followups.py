"""Runs that have themselves gone on with: what they get, how far it goes, and what becomes of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from claude_runner import runs
from claude_runner.agent import Listener, Order, Stop
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.errors import ConflictError
from claude_runner.hub import Topic
from claude_runner.inside import Inside, refused
from claude_runner.permissions import Profile
from claude_runner.runs import Ending, NewRun, Run, RunFilter, State, Trigger
from claude_runner.schedule import local_timezone
from claude_runner.scheduler import Scheduler
from claude_runner.settings import FollowUpCaps, StoredSettings, followup_caps
from tests.parts import Parts, drafted, open_parts, patient
from tests.support import MORNING, FakeAgent, FakeClock, content, ended, running, until

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


def inside_of(parts: Parts | App) -> Inside:
    return Inside(parts.database, parts.hub, parts.clock)


async def scheduled(
    parts: Parts | App, run: Run, when: str = "1h", prompt: str = "look again"
) -> dict[str, Any]:
    answer = await inside_of(parts).call(run, "schedule_followup", {"when": when, "prompt": prompt})
    assert not isinstance(answer, str)
    return dict(answer)


async def refusal(parts: Parts, run: Run) -> str:
    with pytest.raises(ConflictError) as caught:
        await scheduled(parts, run)
    return str(caught.value)


async def cap(parts: Parts | App, **caps: Any) -> None:
    """What an owner does who changes the caps."""
    statement = (
        "INSERT INTO settings (key, value) VALUES ('followups', :value)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )
    await parts.database.write(lambda c: c.execute(statement, {"value": json.dumps(caps)}).fetchall())


async def of_job(parts: Parts, **changes: Any) -> Run:
    """A run of a new job, which is going on."""
    job = await parts.job(**changes)
    await parts.runs.add(job.new_run(Trigger.MANUAL), parts.clock.now())
    return await claimed(parts)


async def claimed(parts: Parts) -> Run:
    run = await parts.runs.claim("here:1", "session", parts.clock.now())
    assert run is not None
    return run


async def end(parts: Parts, run: Run, cost: float | None = 0.0) -> None:
    ending = Ending(State.FINISHED, output="done", cost_usd=cost)
    assert await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))


async def next_of(parts: Parts, run: Run, cost: float | None = 0.0) -> Run:
    """The follow-up of a run, which is going on; the run has ended at this cost."""
    await scheduled(parts, run, "0s")
    await end(parts, run, cost)
    return await claimed(parts)


# What a follow-up is


async def test_a_follow_up_waits_with_the_rights_and_limits_of_the_run_that_asked_for_it(
    parts: Parts,
) -> None:
    run = await of_job(parts, tools=("Read",), timeout_minutes=7, model="haiku", timezone="Europe/Berlin")
    made = await scheduled(parts, run, "2026-11-24T07:00+01:00", "look again")
    follow_up = await parts.runs.get(made["id"])
    assert (follow_up.state, follow_up.reason, follow_up.trigger) == (State.PENDING, "followup", Trigger.RUN)
    assert (follow_up.prompt, follow_up.job_id) == ("look again", run.job_id)
    assert (follow_up.tools, follow_up.timeout_minutes, follow_up.model) == (("Read",), 7, "haiku")
    assert (follow_up.parent_run_id, follow_up.root_run_id, follow_up.depth) == (run.id, run.id, 1)
    assert follow_up.not_before == datetime(2026, 11, 24, 6, tzinfo=UTC)
    assert follow_up.scheduled_for is None


async def test_the_rights_are_those_of_the_run_though_its_job_got_wider_ones_meanwhile(parts: Parts) -> None:
    run = await of_job(parts, tools=("Read",))
    await parts.jobs.change(run.job_id or "", {"tools": ("Read", "Bash")}, parts.clock.now())
    made = await scheduled(parts, run)
    assert (await parts.runs.get(made["id"])).tools == ("Read",)


async def test_the_profile_is_the_one_that_the_run_got_though_the_owner_changed_the_default(
    parts: Parts,
) -> None:
    run = await of_job(parts, commands=("git log",))
    await parts.sql(
        "UPDATE runs SET profile = 'contained', model = 'claude-haiku-4-5-20251001'"
    )  # as it started
    made = await parts.runs.get((await scheduled(parts, run))["id"])
    assert (made.profile, made.commands, made.model) == (Profile.CONTAINED, ("git log",), None)


async def test_the_model_is_told_when_it_starts_and_what_is_left(parts: Parts) -> None:
    run = await of_job(parts, timezone="America/New_York")
    made = await scheduled(parts, run)
    assert (made["not_before"], made["local_time"], made["timezone"]) == (
        "2026-11-23T09:59:30+00:00", "2026-11-23T04:59:30-05:00", "America/New_York",
    )  # fmt: skip
    caps = made["caps"]
    assert (caps["depth"], caps["max_depth"], caps["follow_ups_of_chain"], caps["max_runs"]) == (1, 3, 1, 10)
    assert (caps["cost_usd_known"], caps["runs_of_unknown_cost"], caps["max_cost_usd"]) == (0.0, 1, 5.0)
    assert "runs of unknown cost" in caps["note"]


async def test_a_run_of_no_job_is_told_the_time_of_this_machine(parts: Parts) -> None:
    made = await scheduled(parts, await parts.claimed())
    assert made["timezone"] == local_timezone()


async def test_a_follow_up_of_a_follow_up_belongs_to_the_same_chain(parts: Parts) -> None:
    first = await of_job(parts)
    second = await next_of(parts, first)
    third = await next_of(parts, second)
    assert (third.parent_run_id, third.root_run_id, third.depth) == (second.id, first.id, 2)
    assert (third.reason, third.not_before) == (None, None)


async def test_a_rehearsal_is_followed_up_by_a_rehearsal(parts: Parts) -> None:
    run = await parts.claimed(rehearsal=True)
    assert (await next_of(parts, run)).rehearsal


# How far it goes


async def test_no_more_follow_ups_come_one_after_the_other_than_may(parts: Parts) -> None:
    run = await of_job(parts)
    for _ in range(3):
        run = await next_of(parts, run)
    assert await refusal(parts, run) == (
        "no follow-up was made: it would be number 4 one after the other, and 3 may be "
        "(max_depth of the setting followups), which only the owner can change"
    )


async def test_no_more_follow_ups_come_of_a_chain_than_may(parts: Parts) -> None:
    run = await of_job(parts)
    for _ in range(10):
        await scheduled(parts, run)
    assert await refusal(parts, run) == (
        "no follow-up was made: this chain of runs has 10 of them already, and 10 may be "
        "(max_runs of the setting followups), which only the owner can change"
    )


async def test_no_follow_up_comes_of_a_chain_that_cost_too_much(parts: Parts) -> None:
    first = await of_job(parts)
    second = await next_of(parts, first, cost=3.2)
    third = await next_of(parts, second, cost=1.85)
    assert await refusal(parts, third) == (
        "no follow-up was made: this chain of runs has cost $5.05, a run of unknown price not counted, and up to "
        "$5.00 another may follow (max_cost_usd of the setting followups), which only the owner can change"
    )


async def test_another_chain_of_the_same_job_counts_for_itself(parts: Parts) -> None:
    await cap(parts, max_runs=1)
    first = await of_job(parts)
    await scheduled(parts, first)
    await end(parts, first, cost=100)
    second = await parts.claimed(job_id=first.job_id)
    await scheduled(parts, second)


@pytest.mark.parametrize(
    ("caps", "word"),
    [({"max_depth": 0}, "max_depth"), ({"max_runs": 0}, "max_runs"), ({"max_cost_usd": 0}, "max_cost_usd")],
)
async def test_a_cap_of_nothing_allows_none(parts: Parts, caps: dict[str, int], word: str) -> None:
    await cap(parts, **caps)
    assert f"({word} of the setting followups)" in await refusal(parts, await of_job(parts))
    assert (await parts.runs.list(RunFilter(), 10)).total == 1


async def test_however_many_are_asked_for_at_once_no_cap_is_passed(parts: Parts) -> None:
    run = await of_job(parts)
    async with open_parts(parts.path, parts.clock) as others:
        await patient(parts, others)
        asked = [scheduled(each, run) for each in (parts, others) for _ in range(20)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, dict)]
    assert len(made) == 10
    assert all(isinstance(answer, (dict, ConflictError)) for answer in answers)
    assert (await parts.runs.list(RunFilter(trigger=Trigger.RUN), 1)).total == 10


@pytest.mark.parametrize(
    ("value", "caps"),
    [
        ('{"max_depth": 1, "max_cost_usd": 0.5}', FollowUpCaps(max_depth=1, max_cost_usd=0.5)),
        ('{"max_depth": -1, "max_runs": true, "max_cost_usd": "5"}', FollowUpCaps()),
        ('{"max_cost_usd": NaN, "max_runs": Infinity, "max_depth": null}', FollowUpCaps()),
        ('{"max_runs": 1' + "0" * 400 + "}", FollowUpCaps()),
        ("[3, 10, 5]", FollowUpCaps()),
        ("three", FollowUpCaps()),
    ],
)
async def test_caps_that_cannot_be_read_are_as_at_first(parts: Parts, value: str, caps: FollowUpCaps) -> None:
    await parts.sql("INSERT INTO settings VALUES ('followups', :value)", value=value)
    assert await parts.database.read(followup_caps) == caps


async def test_the_caps_stand_among_the_settings_from_the_first_day(parts: Parts) -> None:
    assert await parts.database.read(followup_caps) == FollowUpCaps()
    await StoredSettings(parts.database).add_missing()
    [(value,)] = await parts.sql("SELECT value FROM settings WHERE key = 'followups'")
    assert json.loads(value) == {"max_depth": 3, "max_runs": 10, "max_cost_usd": 5.0}
    assert await parts.database.read(followup_caps) == FollowUpCaps()


# Whether it may still start


async def test_a_run_that_nobody_but_a_person_asked_for_may_start(parts: Parts) -> None:
    run = await of_job(parts, enabled=False)
    assert await parts.database.read(lambda c: refused(c, run)) is None


async def test_a_follow_up_whose_chain_turned_out_too_costly_is_not_run(parts: Parts) -> None:
    follow_up = await next_of(parts, await of_job(parts), cost=6.5)
    ending = await parts.database.read(lambda c: refused(c, follow_up))
    assert ending is not None
    assert (ending.state, ending.reason) == (State.ERROR, "budget")
    assert ending.error == (
        "this follow-up was not run: this chain of runs has cost $6.50, a run of unknown price not counted, "
        "and up to $5.00 another may follow (max_cost_usd of the setting followups)"
    )


async def test_a_disabled_job_has_no_follow_ups(parts: Parts) -> None:
    run = await of_job(parts, enabled=False)
    assert await refusal(parts, run) == (
        "no follow-up was made: the job 'Morning' is disabled, so nothing of it starts by itself"
    )


async def test_a_follow_up_of_a_job_disabled_meanwhile_is_cancelled_when_it_could_start(
    app: App, agent: FakeAgent, clock: FakeClock
) -> None:
    made = await asked_for_by_a_job(app, clock)
    await app.jobs.change(made.job_id or "", {"enabled": False}, clock.now())
    clock.move(HOUR)
    run = await ended(app, made.id)
    assert (run.state, run.reason, run.error) == (
        State.CANCELLED,
        "job_disabled",
        "the job 'Morning' was disabled when this follow-up could start, so it was not run",
    )
    assert [order.run_id for order in agent.orders] == [made.parent_run_id]


# When it starts


async def asked_for_by_a_job(app: App, clock: FakeClock, cron: str = "@yearly") -> Run:
    """A follow-up that starts in an hour; the run of a job that asked for it has ended."""
    job = await app.jobs.add(drafted(cron=cron), clock.now())
    parent = job.new_run(Trigger.MANUAL)

    async def ask(order: Order, listener: Listener, stop: Stop) -> Ending:
        if len(app.agent.orders) == 1:  # type: ignore[attr-defined]  # the fake one counts
            await scheduled(app, await app.runs.get(order.run_id))
        return await FakeAgent.say_done(order, listener, stop)

    app.agent._act = ask  # type: ignore[attr-defined]
    await ended(app, await app.runs.add(parent, clock.now()))
    [follow_up] = (await app.runs.list(RunFilter(trigger=Trigger.RUN), 10)).runs
    assert follow_up.state is State.PENDING
    return follow_up


async def test_a_follow_up_runs_at_its_time(app: App, agent: FakeAgent, clock: FakeClock) -> None:
    made = await asked_for_by_a_job(app, clock)
    clock.move(HOUR)
    run = await ended(app, made.id)
    assert (run.state, run.started_at, run.depth) == (State.FINISHED, MORNING + HOUR, 1)
    assert [order.prompt for order in agent.orders] == ["say good morning", "look again"]
    assert agent.orders[0].folder == agent.orders[1].folder


async def test_a_follow_up_waits_for_the_run_that_asked_for_it(parts: Parts) -> None:
    run = await of_job(parts)
    made = await scheduled(parts, run, "0s")
    assert await parts.runs.claim("here:1", "session", parts.clock.now()) is None
    await end(parts, run)
    assert (await claimed(parts)).id == made["id"]


async def test_a_follow_up_of_no_job_waits_for_the_run_that_asked_for_it_alone(parts: Parts) -> None:
    await parts.claimed()
    run = await parts.claimed()
    made = await scheduled(parts, run, "0s")
    assert await parts.runs.claim("here:1", "session", parts.clock.now()) is None
    await end(parts, run)
    assert (await claimed(parts)).id == made["id"]


async def test_a_follow_up_waits_for_every_run_of_its_job_and_holds_up_no_other(parts: Parts) -> None:
    run = await of_job(parts)
    made = await scheduled(parts, run, "0s")
    await end(parts, run)
    await parts.sql("UPDATE runs SET not_before = '2026-11-23T08:59:31.000+00:00' WHERE state = 'pending'")
    other = await parts.claimed(job_id=run.job_id)
    parts.clock.move(1)
    elsewhere = await parts.pending()
    assert (await claimed(parts)).id == elsewhere
    assert await parts.runs.claim("here:1", "session", parts.clock.now()) is None
    await end(parts, other)
    assert (await claimed(parts)).id == made["id"]


async def test_a_follow_up_that_came_due_while_no_server_was_up_runs_once(
    tmp_path: Path, clock: FakeClock
) -> None:
    settings = Settings(home=tmp_path)
    async with open_app(settings, agent=FakeAgent(), clock=clock) as app:
        made = await asked_for_by_a_job(app, clock)
    clock.move(3 * DAY)
    agent = FakeAgent()
    async with open_app(settings, agent=agent, clock=clock) as app:
        assert (await ended(app, made.id)).state is State.FINISHED
    async with open_app(settings, agent=agent, clock=clock) as app:
        assert (await app.runs.list(RunFilter(), 10)).total == 2
    assert [order.run_id for order in agent.orders] == [made.id]


# What else is planned for the job


async def fates(parts: Parts) -> list[str]:
    return [fate for (fate,) in await parts.sql("SELECT fate FROM occurrences ORDER BY scheduled_for")]


async def test_a_follow_up_for_tomorrow_is_in_no_slots_way(parts: Parts) -> None:
    run = await of_job(parts)
    await scheduled(parts, run, "2 days")
    await end(parts, run)
    parts.clock.move(30)
    await Scheduler(parts.database, parts.hub, parts.clock).tick()
    assert await fates(parts) == ["ran"]


async def test_a_follow_up_that_is_due_is_a_run_that_has_not_ended(parts: Parts) -> None:
    run = await of_job(parts)
    made = await scheduled(parts, run, "10s")
    await end(parts, run)
    parts.clock.move(30)
    await Scheduler(parts.database, parts.hub, parts.clock).tick()
    assert await fates(parts) == ["skipped_overlap"]
    [(reason,)] = await parts.sql("SELECT reason FROM occurrences")
    assert reason == f"run {made['id']} of this job had not ended"


async def test_deleting_a_job_deletes_what_it_has_yet_to_do(
    app: App, agent: FakeAgent, clock: FakeClock
) -> None:
    made = await asked_for_by_a_job(app, clock)
    await app.remove_job(made.job_id or "")
    clock.move(HOUR)
    await ended(app, await app.runs.add(NewRun("another", Trigger.QUICK), clock.now()))
    assert [order.prompt for order in agent.orders] == ["say good morning", "another"]
    assert (await app.runs.list(RunFilter(), 10)).total == 1


async def test_killing_the_run_that_asked_leaves_its_follow_up(app: App, clock: FakeClock) -> None:
    app.agent._act = FakeAgent.wait_for_stop  # type: ignore[attr-defined]
    run = await running(app, await app.runs.add(NewRun("go", Trigger.QUICK), clock.now()))
    made = await scheduled(app, run)
    await app.dispatcher.cancel(run.id)
    assert (await app.runs.get(made["id"])).state is State.PENDING


# As people see it


async def test_a_follow_up_that_waits_is_shown_and_can_be_killed(
    app: App, mcp: Client[Any], agent: FakeAgent, clock: FakeClock
) -> None:
    made = await asked_for_by_a_job(app, clock)
    listed = content(await mcp.call_tool("list_runs", {}))["runs"]
    [parent, waiting] = sorted(listed, key=lambda run: run["depth"])
    assert (waiting["id"], waiting["state"], waiting["reason"]) == (made.id, "pending", "followup")
    assert (waiting["parent_run_id"], waiting["depth"]) == (parent["id"], 1)
    assert waiting["not_before"] == "2026-11-23T09:59:30+00:00"
    assert (parent["parent_run_id"], parent["depth"], parent["not_before"]) == (None, 0, None)
    killed = content(await mcp.call_tool("kill_run", {"run_id": made.id}))
    assert (killed["state"], killed["parent_run_id"], killed["depth"]) == ("cancelled", parent["id"], 1)
    clock.move(HOUR)
    await ended(app, await app.runs.add(NewRun("another", Trigger.QUICK), clock.now()))
    assert made.id not in {order.run_id for order in agent.orders}


async def test_a_report_and_a_note_are_shown(
    app: App, mcp: Client[Any], agent: FakeAgent, clock: FakeClock
) -> None:
    async def report(order: Order, listener: Listener, stop: Stop) -> Ending:
        run = await app.runs.get(order.run_id)
        await inside_of(app).call(run, "report", {"status": "nothing_to_do", "summary": "no new mail"})
        await inside_of(app).call(run, "remember", {"note": "seen up to 42"})
        return await FakeAgent.say_done(order, listener, stop)

    agent._act = report
    job = await app.jobs.add(drafted(), clock.now())
    run = await ended(app, (await app.trigger(job.id)).id)
    said = {"status": "nothing_to_do", "summary": "no new mail"}
    assert content(await mcp.call_tool("get_run", {"run_id": run.id}))["report"] == said
    [listed] = content(await mcp.call_tool("list_runs", {}))["runs"]
    assert listed["report"] == said
    assert content(await mcp.call_tool("get_job", {"job_id": job.id}))["note"] == "seen up to 42"


async def test_a_follow_up_made_while_the_server_sleeps_longer_wakes_it(app: App, clock: FakeClock) -> None:
    app.agent._act = FakeAgent.wait_for_stop  # type: ignore[attr-defined]
    run = await running(app, await app.runs.add(NewRun("go", Trigger.QUICK), clock.now()))
    made = await scheduled(app, run, "10s")
    await app.dispatcher.cancel(run.id)

    async def is_running() -> bool:
        return (await app.runs.get(made["id"])).state is State.RUNNING

    clock.move(10)
    await until(is_running, app, Topic.RUNS)
    await app.dispatcher.cancel(made["id"])
