"""What runs may cost: never more than is allowed, but for the turn that each of them is in."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typing_extensions import override

from claude_runner import budgets, jobs, runs
from claude_runner.agent import Listener, Order, Stop
from claude_runner.budgets import Purse, Reached, Scope, Watch, open_purse
from claude_runner.budgets._periods import day_of, month_of
from claude_runner.budgets._records import in_dollars
from claude_runner.db import to_text
from claude_runner.errors import UnavailableError
from claude_runner.jobs import PausedBy, Policy
from claude_runner.runs import Ending, Parking, Run, State, Tokens
from claude_runner.scheduler import Scheduler
from claude_runner.settings import StoredSettings
from tests.parts import Parts, open_parts
from tests.support import MORNING, FakeClock
from tests.test_runner import runner_of
from tests.test_usage import ended

DAY = timedelta(days=1)
TURN = 0.3
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)


class NotingClock(FakeClock):
    """A clock that tells that somebody waits for so many seconds to pass."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = asyncio.Event()

    @override
    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        self.paused.set()
        await super().pause(event, seconds)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


async def allow(parts: Parts, **usd: float | None) -> None:
    await StoredSettings(parts.database).change({"timezone": "UTC", "budgets": dict(usd)})


async def reached(parts: Parts, **whose: str | None) -> Reached | None:
    return await parts.database.read(lambda c: budgets.reached(c, parts.clock.now(), **whose))


async def watched(parts: Parts, purse: Purse, **changes: Any) -> tuple[Run, Watch]:
    run = await parts.claimed(**changes)
    return run, await purse.watch(run)


async def finish(parts: Parts, run: Run, cost: float, state: State = State.FINISHED) -> None:
    reason = None if state is State.FINISHED else "timeout"
    ending = Ending(state, "done", reason, reason, Tokens(1), cost)
    assert await parts.database.write(lambda c: runs.end(c, run, ending, parts.clock.now()))


def scope_of(found: Reached | None) -> Scope | None:
    return None if found is None else found.scope


async def told(parts: Parts) -> list[str]:
    rows = await parts.sql(
        "SELECT body FROM outbox WHERE event IN ('budget', 'paused') ORDER BY created_at, id"
    )
    return [body.partition("\n")[0] for (body,) in rows]


async def somebody_listens(parts: Parts) -> None:
    await parts.sql(
        "INSERT INTO channels (id, name, sealed, shown, created_at, updated_at) VALUES ('c', 'me', '', 'me', :at, :at)",
        at=to_text(MORNING),
    )


# Whether anything may start


async def test_without_budgets_nothing_is_used_up(parts: Parts) -> None:
    await ended(parts, MORNING, cost_usd=1e6)
    assert await reached(parts) is None


async def test_what_ended_today_and_what_is_going_on_use_up_the_day(parts: Parts) -> None:
    await allow(parts, day_usd=2)
    await ended(parts, MIDNIGHT - 2 * DAY, cost_usd=50)
    await ended(parts, MORNING, cost_usd=1.25)
    assert await reached(parts) is None
    run = await parts.claimed()
    await parts.runs.record(run, [], Tokens(5), "sonnet", cost_usd=0.75)
    found = await reached(parts)
    assert found == Reached(
        Scope.DAY,
        "all runs have cost $2 today, and the budget is $2 a day; it begins anew at 2026-11-24 00:00 (UTC)",
        MIDNIGHT,
        2,
    )


async def test_what_a_run_that_waits_to_be_taken_up_again_has_cost_counts(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    run = await parts.claimed()
    parking = Parking(
        MORNING + DAY, "usage_limit", "so", resumes=True, retries=0, tokens=Tokens(1), cost_usd=1.5
    )
    await parts.database.write(lambda c: runs.park(c, run, parking))
    assert scope_of(await reached(parts)) is Scope.DAY


async def test_a_jobs_day_is_its_own_and_the_narrower_of_two_bounds_holds(parts: Parts) -> None:
    job = await parts.job(policy=Policy(max_cost_per_day_usd=3))
    other = await parts.job(name="Other")
    await ended(parts, MORNING, cost_usd=2, job_id=job.id)
    assert await reached(parts, job_id=job.id) is None
    await allow(parts, job_day_usd=1.5)
    found = await reached(parts, job_id=job.id)
    assert found is not None
    assert found.sentence.startswith("the job's runs have cost $2 today, and its budget is $1.50 a day")
    assert await reached(parts, job_id=other.id) is None
    assert await reached(parts) is None


async def test_the_owners_default_for_jobs_bounds_those_that_decide_nothing(parts: Parts) -> None:
    job = await parts.job()
    await StoredSettings(parts.database).change({"job_defaults": {"max_cost_per_day_usd": 1}})
    await ended(parts, MORNING, cost_usd=1, job_id=job.id)
    assert scope_of(await reached(parts, job_id=job.id)) is Scope.JOB_DAY


async def test_a_webhooks_day_is_its_own(parts: Parts) -> None:
    await allow(parts, webhook_day_usd=1)
    await ended(parts, MORNING, cost_usd=1, webhook_id="hook0001")
    found = await reached(parts, webhook_id="hook0001")
    assert found is not None
    assert found.sentence.startswith("the webhook's runs have cost $1 today")
    assert await reached(parts, webhook_id="hook0002") is None


async def test_a_month_is_told_before_its_day(parts: Parts) -> None:
    await allow(parts, day_usd=1, month_usd=10)
    for day in range(1, 11):
        await ended(parts, datetime(2026, 11, day, 12, tzinfo=UTC), cost_usd=1)
    await ended(parts, MORNING, cost_usd=1)
    found = await reached(parts)
    assert found is not None
    assert (found.scope, found.until) == (Scope.MONTH, datetime(2026, 12, 1, tzinfo=UTC))
    assert "all runs have cost $11 this month, and the budget is $10 a month" in found.sentence


async def test_deleting_a_job_gives_no_money_back(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    job = await parts.job()
    await ended(parts, MORNING, cost_usd=1, job_id=job.id)
    await parts.jobs.remove(job.id)
    assert scope_of(await reached(parts)) is Scope.DAY


async def test_rehearsals_spend_nothing(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    await ended(parts, MORNING, cost_usd=5, rehearsal=True)
    assert await reached(parts) is None


async def test_while_the_budgets_can_not_be_read_nothing_is_spent_and_it_is_said(parts: Parts) -> None:
    await allow(parts)
    await parts.sql("UPDATE settings SET value = '{\"day_usd\": \"much\"}' WHERE key = 'budgets'")
    found = await reached(parts)
    assert found is not None
    assert found.sentence.startswith(
        "the budgets in the settings can't be read, so nothing may be spent; set them"
    )


async def test_it_is_told_how_much_of_each_budget_is_used(parts: Parts) -> None:
    """Of those of jobs, what bounds the job that spent something: its own or everybody's, whichever is narrower."""
    own, usual = (
        await parts.job(name="Own", policy=Policy(max_cost_per_day_usd=2)),
        await parts.job(name="Usual"),
    )
    await parts.job(name="Idle")
    await allow(parts, day_usd=20, month_usd=100, job_day_usd=4)
    await ended(parts, MORNING - 2 * DAY, cost_usd=6, job_id=own.id)
    await ended(parts, MORNING, cost_usd=1, job_id=own.id)
    await ended(parts, MORNING, cost_usd=3, job_id=usual.id)
    run = await parts.claimed(job_id=usual.id)
    await parts.runs.record(run, [], Tokens(5), "sonnet", cost_usd=0.5)
    found = await parts.database.read(lambda c: budgets.standings(c, parts.clock.now()))
    assert [(it.scope, it.name, it.spent_usd, it.bound_usd, it.is_near) for it in found] == [
        (Scope.MONTH, None, 10.5, 100, False),
        (Scope.DAY, None, 4.5, 20, False),
        (Scope.JOB_DAY, "Usual", 3.5, 4, True),
        (Scope.JOB_DAY, "Own", 1, 2, False),
    ]
    assert {it.until for it in found} == {MIDNIGHT, datetime(2026, 12, 1, tzinfo=UTC)}


# The owner's days and months


@pytest.mark.parametrize(
    ("now", "zone", "begin", "end"),
    [
        (
            "2026-11-24T22:59:59+00:00",
            "Europe/Berlin",
            "2026-11-23T23:00:00+00:00",
            "2026-11-24T23:00:00+00:00",
        ),
        (
            "2026-11-24T23:00:00+00:00",
            "Europe/Berlin",
            "2026-11-24T23:00:00+00:00",
            "2026-11-25T23:00:00+00:00",
        ),
        (
            "2026-03-29T12:00:00+00:00",
            "Europe/Berlin",
            "2026-03-28T23:00:00+00:00",
            "2026-03-29T22:00:00+00:00",
        ),
        (
            "2026-10-25T12:00:00+00:00",
            "Europe/Berlin",
            "2026-10-24T22:00:00+00:00",
            "2026-10-25T23:00:00+00:00",
        ),
        # The first hour of the day is skipped, and there are two midnights.
        (
            "2026-09-06T12:00:00+00:00",
            "America/Santiago",
            "2026-09-06T04:00:00+00:00",
            "2026-09-07T03:00:00+00:00",
        ),
        (
            "2026-11-01T12:00:00+00:00",
            "America/Havana",
            "2026-11-01T04:00:00+00:00",
            "2026-11-02T05:00:00+00:00",
        ),
    ],
)
def test_a_day_is_from_midnight_to_midnight_on_the_owners_clock(
    now: str, zone: str, begin: str, end: str
) -> None:
    day = day_of(datetime.fromisoformat(now), ZoneInfo(zone))
    assert day == (datetime.fromisoformat(begin), datetime.fromisoformat(end))


@pytest.mark.parametrize(
    ("now", "begin", "end"),
    [
        ("2026-01-31T23:30:00+00:00", "2026-01-31T23:00:00+00:00", "2026-02-28T23:00:00+00:00"),
        ("2026-12-31T22:30:00+00:00", "2026-11-30T23:00:00+00:00", "2026-12-31T23:00:00+00:00"),
        ("2026-10-31T22:30:00+00:00", "2026-09-30T22:00:00+00:00", "2026-10-31T23:00:00+00:00"),
    ],
)
def test_a_month_is_the_owners_as_well(now: str, begin: str, end: str) -> None:
    month = month_of(datetime.fromisoformat(now), ZoneInfo("Europe/Berlin"))
    assert month == (datetime.fromisoformat(begin), datetime.fromisoformat(end))


async def test_at_the_owners_midnight_a_day_begins_anew(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    await StoredSettings(parts.database).change({"timezone": "Europe/Berlin"})
    await ended(parts, MORNING, cost_usd=1)
    parts.clock.jump(datetime(2026, 11, 23, 22, 59, 59, tzinfo=UTC) - MORNING)
    assert scope_of(await reached(parts)) is Scope.DAY
    parts.clock.jump(timedelta(seconds=1))
    assert await reached(parts) is None


def test_amounts_are_told_as_exactly_as_matters() -> None:
    amounts = (0, 1, 1.5, 1234.5, 0.012, 0.0004, 2.004)
    assert [in_dollars(it) for it in amounts] == [
        "$0",
        "$1",
        "$1.50",
        "$1,234.50",
        "$0.0120",
        "$0.0004",
        "$2.00",
    ]


# While runs go on


async def test_a_run_is_stopped_at_the_first_message_above_its_own_bound(parts: Parts) -> None:
    purse = Purse(parts.database, parts.clock)
    _, watch = await watched(parts, purse, max_cost_usd=1)
    assert watch.reached() is None
    assert [watch.spent(cost) for cost in (0.0, 0.5, None, 0.99)] == [None] * 4
    found = watch.spent(1.01)
    assert found == watch.met == Reached(Scope.RUN, "it has cost $1.01, and its budget is $1", None, 1)


async def test_what_its_earlier_attempts_have_cost_bounds_a_run_that_is_taken_up_again(parts: Parts) -> None:
    run = await parts.claimed(max_cost_usd=1)
    parking = Parking(MORNING, "usage_limit", "so", resumes=True, retries=0, tokens=Tokens(1), cost_usd=1.2)
    await parts.database.write(lambda c: runs.park(c, run, parking))
    again = await parts.runs.claim("here:1", "session", MORNING)
    assert again is not None
    assert scope_of((await Purse(parts.database, parts.clock).watch(again)).reached()) is Scope.RUN


async def test_a_run_by_hand_of_a_job_has_the_jobs_bound(parts: Parts) -> None:
    job = await parts.job(policy=Policy(max_cost_usd=0.5))
    _, watch = await watched(parts, Purse(parts.database, parts.clock), job_id=job.id)
    assert scope_of(watch.spent(0.6)) is Scope.RUN


async def test_the_owners_bound_of_a_run_is_above_all_others(parts: Parts) -> None:
    await allow(parts, run_usd=0.2)
    _, watch = await watched(parts, Purse(parts.database, parts.clock), max_cost_usd=1)
    assert scope_of(watch.spent(0.3)) is Scope.RUN


async def test_runs_of_this_process_count_to_the_message(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    purse = Purse(parts.database, parts.clock)
    _, one = await watched(parts, purse)
    _, two = await watched(parts, purse)
    assert one.spent(0.6) is None
    assert scope_of(two.spent(0.4)) is Scope.DAY
    assert scope_of(one.reached()) is Scope.DAY


async def test_what_was_written_of_a_run_of_this_process_is_not_counted_twice(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    purse = Purse(parts.database, parts.clock)
    run, one = await watched(parts, purse)
    assert one.spent(0.6) is None
    await parts.runs.record(run, [], Tokens(5), "sonnet", cost_usd=0.6)
    other, two = await watched(parts, purse)  # looks at the database again
    assert two.spent(0.1) is None
    await finish(parts, run, 0.6)
    third, three = await watched(parts, purse)  # while the end of the first is written, and its watch is open
    assert three.spent(0.1) is None
    one.close()
    assert three.spent(0.2) is None
    await finish(parts, other, 0.1)
    two.close()
    _, four = await watched(parts, purse)
    assert scope_of(three.spent(0.31)) is Scope.DAY
    assert third.id
    assert scope_of(four.reached()) is Scope.DAY


async def test_eight_runs_at_once_share_a_days_budget_and_go_too_far_by_a_turn_each_at_most(
    parts: Parts,
) -> None:
    await allow(parts, day_usd=3)
    purse = Purse(parts.database, parts.clock)
    going = [await watched(parts, purse) for _ in range(8)]
    costs = dict.fromkeys(range(8), 0.0)
    stopped: set[int] = set()
    while len(stopped) < 8:
        for number, (run, watch) in enumerate(going):
            if number in stopped:
                continue
            costs[number] += TURN
            if watch.spent(costs[number]) is not None:
                await finish(parts, run, costs[number], State.ERROR)
                watch.close()
                stopped.add(number)
    assert 3 <= sum(costs.values()) <= 3 + 8 * TURN
    [(spent,)] = await parts.sql("SELECT sum(cost_usd) FROM runs")
    assert spent == pytest.approx(sum(costs.values()))


async def test_what_another_process_spends_is_seen_within_a_second_of_spending(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    clock = NotingClock()
    purse = Purse(parts.database, clock)
    _, watch = await watched(parts, purse)
    serving = asyncio.create_task(purse.serve())
    async with open_parts(parts.path, parts.clock) as other:
        theirs = await other.claimed()
        await other.runs.record(theirs, [], Tokens(5), "sonnet", cost_usd=0.9)
    assert watch.spent(0.05) is None  # nobody has looked yet; now somebody does
    await asyncio.wait_for(clock.paused.wait(), 10)
    assert scope_of(watch.spent(0.1)) is Scope.DAY
    serving.cancel()


async def test_a_budget_that_is_set_while_a_run_goes_on_stops_it(parts: Parts) -> None:
    clock = NotingClock()
    async with open_purse(parts.database, clock) as purse:
        _, watch = await watched(parts, purse)
        assert watch.spent(0.5) is None
        await clock.paused.wait()  # it has looked, and does so again in a second
        clock.paused.clear()
        await allow(parts, day_usd=1)
        watch.spent(0.9)
        clock.move(1)
        await clock.paused.wait()
        assert scope_of(watch.spent(1.1)) is Scope.DAY
        clock.paused.clear()
        await allow(parts, day_usd=5)
        clock.move(1)
        await clock.paused.wait()
        assert watch.spent(1.2) is None


async def test_a_job_that_is_spoiled_while_its_run_goes_on_leaves_the_bounds_it_had(parts: Parts) -> None:
    clock = NotingClock()
    job = await parts.job(policy=Policy(max_cost_usd=1))
    async with open_purse(parts.database, clock) as purse:
        _, watch = await watched(parts, purse, job_id=job.id)
        await parts.sql("UPDATE jobs SET tools = 'spoiled'")
        watch.spent(0.5)
        await clock.paused.wait()
        assert scope_of(watch.spent(1)) is Scope.RUN


async def test_where_the_database_can_not_be_read_for_a_while_runs_are_bounded_by_what_is_known(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await allow(parts, day_usd=1)
    purse = Purse(parts.database, parts.clock)
    _, watch = await watched(parts, purse)
    asked = asyncio.Event()

    async def refuse(_: Any) -> None:
        asked.set()
        raise UnavailableError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(parts.database, "read", refuse)
        serving = asyncio.create_task(purse.serve())
        assert watch.spent(0.5) is None
        await asyncio.wait_for(asked.wait(), 10)
        assert scope_of(watch.spent(1.1)) is Scope.DAY
    assert not serving.done()
    serving.cancel()


async def test_a_run_that_goes_on_over_midnight_is_not_held_to_yesterday(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    await ended(parts, MORNING, cost_usd=0.9)
    _, watch = await watched(parts, Purse(parts.database, parts.clock))
    assert watch.spent(0.05) is None
    parts.clock.jump(MIDNIGHT - MORNING)
    assert watch.spent(0.5) is None
    assert scope_of(watch.spent(1.0)) is Scope.DAY


async def test_a_rehearsal_is_bounded_by_nothing(parts: Parts) -> None:
    await allow(parts, day_usd=1, run_usd=0.1)
    _, watch = await watched(parts, Purse(parts.database, parts.clock), rehearsal=True)
    assert watch.spent(5) is None
    assert watch.unkept("x") is None


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (
            {"run_usd": 1},
            "the price of 'x' is not known, so its budget of $1 can't be kept; give it with set_policies(",
        ),
        ({"day_usd": 20}, "so the budget of $20 a day can't be kept"),
        ({"month_usd": 20}, "so the budget of $20 a month can't be kept"),
    ],
)
async def test_of_a_model_without_a_price_it_is_said_which_budget_can_not_be_kept(
    parts: Parts, usd: dict[str, float], said: str
) -> None:
    await allow(parts, **usd)
    _, watch = await watched(parts, Purse(parts.database, parts.clock))
    assert said in (watch.unkept("x") or "")
    assert watch.spent(None) is None


async def test_without_a_budget_a_price_need_not_be_known(parts: Parts) -> None:
    _, watch = await watched(parts, Purse(parts.database, parts.clock))
    assert watch.unkept("x") is None


# What is usual for a job


async def test_a_run_far_above_its_jobs_usual_cost_is_stopped(parts: Parts) -> None:
    job = await parts.job(policy=Policy(cost_breaker=3))
    for number, cost in enumerate((0.1, 0.1, 0.1, 0.2, 5.0)):
        await ended(parts, MORNING - DAY + timedelta(hours=number), cost_usd=cost, job_id=job.id)
    await ended(parts, MORNING - timedelta(hours=1), State.ERROR, 90.0, job_id=job.id)  # it did not finish
    _, watch = await watched(parts, Purse(parts.database, parts.clock), job_id=job.id)
    assert watch.spent(0.29) is None
    found = watch.spent(0.31)
    assert found is not None
    assert found.scope is Scope.BREAKER
    assert found.sentence == "it has cost $0.31, more than 3 times what is usual for its job, $0.10"


async def test_of_few_runs_nothing_is_usual_and_cents_are_no_matter(parts: Parts) -> None:
    job = await parts.job(policy=Policy(cost_breaker=2))
    for number in range(5):
        if number == 4:
            _, watch = await watched(parts, Purse(parts.database, parts.clock), job_id=job.id)
            assert watch.spent(9.0) is None
            await parts.sql("DELETE FROM runs WHERE state = 'running'")
        await ended(parts, MORNING + timedelta(minutes=number), cost_usd=0.01, job_id=job.id)
    _, watch = await watched(parts, Purse(parts.database, parts.clock), job_id=job.id)
    assert watch.spent(0.05) is None
    assert scope_of(watch.spent(0.07)) is Scope.BREAKER


# What follows


async def test_a_job_whose_day_is_used_up_is_paused_until_tomorrow_and_the_owner_told_once(
    parts: Parts,
) -> None:
    await somebody_listens(parts)
    await allow(parts, job_day_usd=1)
    job = await parts.job()
    await ended(parts, MORNING, cost_usd=1, job_id=job.id)
    found, run = await reached(parts, job_id=job.id), await parts.claimed(job_id=job.id)
    assert found is not None
    now = parts.clock.now()
    assert await parts.database.write(lambda c: budgets.settle(c, run, found, now))
    after = await parts.database.read(lambda c: jobs.find(c, job.id))
    assert after is not None
    assert after.pause is not None
    assert (after.pause.by, after.pause.until) == (PausedBy.BUDGET, MIDNIGHT)
    assert not await parts.database.write(lambda c: budgets.settle(c, run, found, now))
    assert not await parts.database.write(lambda c: budgets.pass_over(c, job, found, now))
    assert await told(parts) == [f"{found.sentence}. The job is paused until then."]


async def test_a_job_that_costs_more_than_usual_is_paused_until_somebody_resumes_it(parts: Parts) -> None:
    job = await parts.job()
    run = await parts.claimed(job_id=job.id)
    found = Reached(Scope.BREAKER, "it has cost too much", None, 1)
    await parts.database.write(lambda c: budgets.settle(c, run, found, MORNING))
    after = await parts.database.read(lambda c: jobs.find(c, job.id))
    assert after is not None
    assert after.pause is not None
    assert (after.pause.by, after.pause.until) == (PausedBy.COST_BREAKER, None)


async def test_everybodys_budget_pauses_no_job_and_is_told_once_a_day_and_again_where_it_was_raised(
    parts: Parts,
) -> None:
    await somebody_listens(parts)
    one, two = await parts.job(), await parts.job(name="Other")
    run = await parts.claimed(job_id=one.id)
    for day, bound in ((0, 1.0), (0, 1.0), (0, 2.0), (1, 2.0)):
        now = MORNING + day * DAY
        found = Reached(Scope.DAY, f"all have cost {bound}", MIDNIGHT, bound)
        await parts.database.write(lambda c, f=found, n=now: budgets.settle(c, run, f, n))  # type: ignore[misc]
        await parts.database.write(lambda c, f=found, n=now: budgets.pass_over(c, two, f, n))  # type: ignore[misc]
    assert len(await told(parts)) == 3
    for job in (one, two):
        after = await parts.database.read(lambda c, job=job: jobs.find(c, job.id))  # type: ignore[misc]
        assert after is not None
        assert after.pause is None


async def test_a_rehearsal_that_is_stopped_has_no_consequences(parts: Parts) -> None:
    job = await parts.job()
    run = await parts.claimed(job_id=job.id, rehearsal=True)
    found = Reached(Scope.BREAKER, "so", None, 1)
    assert not await parts.database.write(lambda c: budgets.settle(c, run, found, MORNING))


async def test_slots_of_a_job_whose_day_is_used_up_are_skipped_and_say_so(parts: Parts) -> None:
    await allow(parts, job_day_usd=1)
    job = await parts.job(cron="* * * * *")
    await ended(parts, MORNING, cost_usd=1.5, job_id=job.id)
    scheduler = Scheduler(parts.database, parts.hub, parts.clock)
    for _ in range(3):
        parts.clock.move(60)
        await scheduler.tick()
    rows = await parts.sql("SELECT fate, reason, count FROM occurrences ORDER BY scheduled_for")
    assert rows[0][0] == "skipped_budget"
    assert "the job's runs have cost $1.50 today, and its budget is $1 a day" in rows[0][1]
    assert sum(count for *_, count in rows) == 3
    assert await parts.sql("SELECT count(*) FROM runs WHERE state = 'pending'") == [(0,)]
    parts.clock.jump(MIDNIGHT + timedelta(seconds=30) - parts.clock.now())
    await scheduler.tick()
    assert await parts.sql("SELECT count(*) FROM runs WHERE state = 'pending'") == [(1,)]


# Under the runner


async def costly(_order: Order, listener: Listener, stop: Stop) -> Ending:
    """A run that takes turn after turn until it is stopped."""
    listener.started()
    cost = 0.0
    while not stop.requested.is_set():
        cost += TURN
        listener.used(Tokens(int(cost * 1000)), "sonnet", cost)
    assert stop.cause is not None
    return Ending(stop.cause.state, error=stop.cause.error, reason=stop.cause.reason)


async def executed(parts: Parts, run: Run) -> Run:
    await (await runner_of(parts, costly))[0].execute(run, Stop(), lambda: None)
    return await parts.runs.get(run.id)


async def test_a_run_ends_with_budget_and_has_cost_a_turn_too_much_at_most(parts: Parts) -> None:
    run = await executed(parts, await parts.claimed(max_cost_usd=1))
    assert (run.state, run.reason) == (State.ERROR, "budget")
    assert run.error == "it was stopped: it has cost $1.20, and its budget is $1"
    assert run.cost_usd == pytest.approx(1.2)


async def test_a_job_is_paused_with_the_run_that_uses_up_its_day_and_the_next_is_not_begun(
    parts: Parts,
) -> None:
    await somebody_listens(parts)
    await allow(parts, job_day_usd=1)
    job = await parts.job()
    assert (await executed(parts, await parts.claimed(job_id=job.id))).reason == "budget"
    after = await parts.database.read(lambda c: jobs.find(c, job.id))
    assert after is not None
    assert after.is_paused(parts.clock.now())
    assert after.failures == 0
    run = await executed(parts, await parts.claimed(job_id=job.id))
    assert (run.reason, run.cost_usd) == ("budget", 0)
    assert (run.error or "").startswith("it was not started: the job's runs have cost $1.20 today")
    assert len(await told(parts)) == 1


async def test_a_day_that_is_used_up_begins_no_run_of_a_webhook_or_by_hand(parts: Parts) -> None:
    await allow(parts, day_usd=1)
    await ended(parts, MORNING, cost_usd=1)
    for changes in ({"webhook_id": "hook0001"}, {}):
        run = await executed(parts, await parts.claimed(**changes))
        assert (run.state, run.reason) == (State.ERROR, "budget")
        assert (run.error or "").startswith("it was not started: all runs have cost $1 today")
        assert run.cost_usd == 0  # known, though nothing was asked


async def stopped_by_claude_code(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    """A run that Claude Code itself has stopped, which counts calls that it tells of at the end only."""
    listener.started()
    listener.used(Tokens(1000), "sonnet", 0.9)
    return Ending(
        State.ERROR, error="it reached its budget", reason="budget", tokens=Tokens(2000), cost_usd=1.1
    )


async def test_a_budget_that_claude_code_met_first_is_told_as_well(parts: Parts) -> None:
    await somebody_listens(parts)
    job = await parts.job(policy=Policy(max_cost_usd=1))
    run = await parts.claimed(job_id=job.id)
    await (await runner_of(parts, stopped_by_claude_code))[0].execute(run, Stop(), lambda: None)
    assert await told(parts) == ["it reached its budget."]
    assert (await parts.runs.get(run.id)).reason == "budget"


async def unpriced(_order: Order, listener: Listener, _stop: Stop) -> Ending:
    """A run of a model whose price is not known, told of in two turns."""
    listener.started()
    for turn in (1, 2):
        listener.used(Tokens(1000 * turn), "mystery", None)
    return Ending(State.FINISHED, output="done", tokens=Tokens(2000))


async def test_a_run_whose_price_is_not_known_says_which_budget_was_not_kept(parts: Parts) -> None:
    run = await parts.claimed(max_cost_usd=1)
    await (await runner_of(parts, unpriced))[0].execute(run, Stop(), lambda: None)
    done = await parts.runs.get(run.id)
    [said] = [warning for warning in done.warnings if "budget" in warning]
    assert said.startswith("the price of 'mystery' is not known, so its budget of $1 can't be kept")
    assert (done.state, done.cost_usd) == (State.FINISHED, None)
