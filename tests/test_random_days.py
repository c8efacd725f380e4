"""Days of a home in which anything comes at any time: each slot has one fate, none runs twice, and everything ends."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from claude_runner.attempts import conclude
from claude_runner.config import Settings
from claude_runner.errors import InvalidError
from claude_runner.gate import Gate
from claude_runner.jobs import CatchUp, Job, OnCrash, Overlap, Pause, PausedBy, Policy
from claude_runner.pausing import Pausing
from claude_runner.recovery import ENDING
from claude_runner.runs import Ending, Run, State, Tokens, Trigger
from claude_runner.scheduler import Scheduler
from tests.parts import Parts, open_parts

STEPS = 100
CRONS = ("* * * * *", "*/5 * * * *", "0 * * * *", "every 7 minutes", "every 90 minutes", "30 8 * * *")
INSTANT = timedelta(milliseconds=1)


def failed(reason: str, **changes: Any) -> Ending:
    ending = Ending(State.ERROR, reason=reason, error="it failed", tokens=Tokens(1, 1), cost_usd=0.01)
    return replace(ending, **changes)


DONE = Ending(State.FINISHED, output="done", tokens=Tokens(5, 5), cost_usd=0.1)
ENDINGS = (
    DONE,
    failed("overloaded"),
    failed("agent_crashed"),
    failed("usage_limit", tokens=Tokens(), cost_usd=0.0),
    failed("not_signed_in", tokens=Tokens(), cost_usd=0.0),
    ENDING,
    Ending(State.CANCELLED, reason="cancelled", error="cancelled", tokens=Tokens(1, 1), cost_usd=0.01),
)


class Days:
    """A home without a server: a test does by chance what a server, its owner and its runs would do."""

    def __init__(self, parts: Parts, home: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.parts = parts
        self.jobs: dict[str, Job] = {}
        self.going: dict[str, Run] = {}
        self._gate = Gate(parts.database, parts.clock, Settings(home=home))
        self._scheduler = Scheduler(parts.database, parts.hub, parts.clock)
        self._pausing = Pausing(parts.database, parts.hub, parts.clock)

    async def add(self) -> None:
        pick = self.chance.choice
        policy = Policy(
            overlap=pick(list(Overlap)),
            catch_up=pick([CatchUp.NONE, CatchUp.LATEST, None]),
            on_crash=pick(list(OnCrash)),
            jitter_seconds=pick([None, 30]),
            max_retries=pick([0, None]),
            pause_after_failures=pick([None, 3]),
            blackouts=pick([(), ("10:00-11:30",)]),
            max_cost_per_day_usd=pick([None, 0.5]),
        )
        if pick([True, False]):
            policy = replace(policy, catch_up=CatchUp.ALL, overlap=pick([Overlap.QUEUE_ALL, Overlap.ALLOW]))
        job = await self.parts.job(cron=pick(CRONS), policy=policy)
        self.jobs[job.id] = job

    async def pass_time(self) -> None:
        self.parts.clock.move(self.chance.choice([20, 61, 61, 300, 3600]))
        await self.plan()

    async def sleep(self) -> None:
        self.parts.clock.jump(timedelta(hours=self.chance.choice([2, 9])))
        await self.plan()

    async def plan(self) -> None:
        for _ in range(5):
            if await self._scheduler.tick() > self.parts.clock.now():
                return
        raise AssertionError("the scheduler does not come to rest")

    async def begin(self) -> bool:
        run = await self.parts.runs.claim("here", "session", self.parts.clock.now(), self._gate.is_closed)
        if run is not None:
            self.going[run.id] = run
        return run is not None

    async def end(self, ending: Ending | None = None) -> None:
        if self.going:
            run = self.going.pop(self.chance.choice(list(self.going)))
            it, now = ending or self.chance.choice(ENDINGS), self.parts.clock.now()
            assert await self.parts.database.write(lambda c: conclude(c, run, it, now))

    async def by_hand(self) -> None:
        job = self._any()
        await self.parts.runs.add(job.new_run(Trigger.MANUAL), self.parts.clock.now())

    async def pause(self) -> None:
        now = self.parts.clock.now()
        until = self.chance.choice([None, now + timedelta(minutes=90)])
        if self.chance.random() < 0.3:
            await self._pausing.pause_all(until)
        else:
            await self.parts.jobs.pause(self._any().id, Pause(now, until, PausedBy.OWNER, "holidays"))

    async def resume(self) -> None:
        await self._pausing.resume_all()
        await self.parts.jobs.resume(self._any().id, self.parts.clock.now())

    async def change(self) -> None:
        changes = self.chance.choice([{"prompt": "other"}, {"cron": self.chance.choice(CRONS)}])
        with suppress(InvalidError):  # jitter that is longer than the new step
            await self.parts.jobs.change(self._any().id, changes, self.parts.clock.now())

    def _any(self) -> Job:
        return self.jobs[self.chance.choice(list(self.jobs))]

    async def no_two_go_on_that_must_not(self) -> None:
        rows = await self.parts.sql(
            "SELECT job_id, count(*) FROM runs WHERE state = 'running' AND trigger <> 'manual' GROUP BY job_id"
        )
        for job_id, count in rows:
            assert count == 1 or self.jobs[job_id].policy.overlap is Overlap.ALLOW

    async def each_slot_has_one_fate(self) -> None:
        for job_id, made in self.jobs.items():
            job, now = await self.parts.jobs.get(job_id), self.parts.clock.now()
            rows = await self.parts.sql(
                "SELECT scheduled_for, coalesce(until, scheduled_for), count, fate IN ('ran', 'caught_up'), run_id"
                " FROM occurrences WHERE job_id = :id ORDER BY scheduled_for",
                id=job_id,
            )
            assert all(row[1] < following[0] for row, following in pairwise(rows))
            assert all((run_id is not None) == ran for *_, ran, run_id in rows)
            assert job.next_run_at is None or job.next_run_at > now
            if job.updated_at == made.updated_at:
                slots = job.timetable.count(made.created_at + INSTANT, now + INSTANT)
                assert sum(row[2] for row in rows) == slots

    async def everything_ends(self) -> None:
        for _ in range(2000):
            await self.end(DONE)
            if await self.begin() or self.going:
                continue
            for job_id in self.jobs:
                await self.parts.jobs.resume(job_id, self.parts.clock.now())
            if await self.parts.sql("SELECT 1 FROM runs WHERE state = 'pending'") == []:
                return
            await self._pausing.resume_all()
            self.parts.clock.move(1200)
        raise AssertionError("something waits for ever")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path / "jobs.db") as parts:
        yield parts


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_comes_each_slot_has_one_fate_and_every_run_ends(
    parts: Parts, tmp_path: Path, seed: int
) -> None:
    days = Days(parts, tmp_path, seed)
    for _ in range(4):
        await days.add()
    weights: dict[Callable[[], Awaitable[object]], int] = {
        days.pass_time: 35,
        days.begin: 25,
        days.end: 20,
        days.by_hand: 5,
        days.pause: 5,
        days.resume: 5,
        days.change: 2,
        days.add: 1,
        days.sleep: 2,
    }
    for _ in range(STEPS):
        [act] = days.chance.choices([*weights], [*weights.values()])
        await act()
        await days.no_two_go_on_that_must_not()
    await days.plan()
    await days.each_slot_has_one_fate()
    await days.everything_ends()
