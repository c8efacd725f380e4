"""The loop that turns due slots into runs.

It sleeps until the next slot or a change of a job. A due slot becomes an occurrence and a run, and the job moves on
to its next slot, in one transaction: no crash can leave one without the others, and `UNIQUE (job_id, scheduled_for)`
lets a slot run once however many schedulers see it.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar

from claude_runner import jobs, runs
from claude_runner.config import Clock
from claude_runner.db import Database, to_text
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import Broken, Due, Fate, Occurrence
from claude_runner.runs import Trigger
from claude_runner.schedule import Schedule

LONGEST_SLEEP: Final = timedelta(seconds=60)
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=1)
LATE: Final = timedelta(seconds=60)  # a slot that runs later than this was caught up
BATCH: Final = 500
COUNTED: Final = 100  # missed slots that are counted one by one; of more it is only said that there were more
NOBODY: Final = "no server was at work when it came, or the machine slept"

T = TypeVar("T")

log = logging.getLogger(__name__)


class Scheduler:
    """Fires the jobs of a database.

    Attributes:
        last_tick_at: When it last fired all that was due; `None` before the first time.
    """

    def __init__(self, database: Database, hub: Hub, clock: Clock, *, rehearsal: bool = False) -> None:
        """Make a scheduler that is not running yet; `rehearsal` marks every run it makes."""
        self._db = database
        self._rehearsal = rehearsal
        self._hub = hub
        self._clock = clock
        self.last_tick_at: datetime | None = None

    async def serve(self) -> None:
        """Fire what is due, for ever; what goes wrong is logged and tried again."""
        log.info("Scheduler loop started")
        with self._hub.subscribe(Topic.JOBS) as changes:
            while True:
                changes.take()
                try:
                    wake_at = await _finished(self.tick())
                except Exception as error:
                    log.exception(
                        "the scheduler could not look for due jobs; it tries again in a second: %s",
                        error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                        exc_info=not isinstance(error, RunnerError),
                    )
                    wake_at = self._clock.now() + PAUSE_AFTER_FAILURE
                await self._clock.wait(changes.changed, wake_at)

    async def tick(self) -> datetime:
        """Fire every slot that is due and return when to look again."""
        while True:
            now = self._clock.now()
            due = await self._db.read(lambda c, now=now: jobs.due(c, now, BATCH))  # type: ignore[misc]
            # Together, so that the database can commit them in one go.
            await asyncio.gather(*(self._fire(job, now) for job in due))
            if len(due) < BATCH:
                break
        first = await self._db.read(jobs.next_due_at)
        self.last_tick_at = now
        horizon = now + LONGEST_SLEEP
        return horizon if first is None else min(first, horizon)

    async def _fire(self, due: Due | Broken, now: datetime) -> None:
        if isinstance(due, Broken):  # it must not hold up the others
            log.warning("job %s can't be scheduled: %s", due.id, due.error)
            await self._db.write(lambda c: jobs.shelve(c, due))
            return
        try:
            if now - due.slot <= LATE:
                plan = plan_slot(due, now)
            else:  # a long stop has many slots to go through
                plan = await asyncio.to_thread(plan_slot, due, now)
        except Exception as error:
            log.exception("job %s can't be planned", due.job.id)
            message = f"its slot can't be planned ({error})"
            await self._db.write(lambda c: jobs.shelve(c, Broken(due.job.id, to_text(due.slot), message)))
            return
        run_id = await self._db.write(lambda c: self._carry_out(c, due, plan, now))
        if run_id is not None:
            log.info("job %s (%s) is due: run %s", due.job.id, due.job.name, run_id)
            self._hub.publish(Topic.RUNS, run_id)

    def _carry_out(self, c: sqlite3.Connection, due: Due, plan: "Plan", now: datetime) -> str | None:
        """Take the job's slot, if it is still to be had, write down its fate, and make its run where it gets one."""
        if not jobs.take_slot(c, due, plan.following):
            return None
        job = due.job
        if plan.missed is not None:
            jobs.record(c, job.id, plan.missed)
        slot = plan.slot.scheduled_for
        if other := runs.in_the_way(c, job.id, now):
            reason = f"run {other} of this job had not ended"
            jobs.record(c, job.id, Occurrence(slot, Fate.SKIPPED_OVERLAP, reason))
            return None
        if not jobs.record(c, job.id, plan.slot):
            return None
        trigger = Trigger.CATCH_UP if plan.slot.fate is Fate.CAUGHT_UP else Trigger.SCHEDULE
        run_id = runs.insert(c, job.new_run(trigger, scheduled_for=slot, rehearsal=self._rehearsal), now)
        jobs.link_run(c, job.id, slot, run_id)
        return run_id


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end even when cancelled: whoever leads next must find every slot either taken or not."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class Plan(NamedTuple):
    """What is to become of a job's slots that have come.

    Attributes:
        slot: The one that is run, if nothing is in its way.
        missed: Those before it that are not run any more.
        following: The next one, to be looked at when it comes.
    """

    slot: Occurrence
    missed: Occurrence | None
    following: datetime | None


def plan_slot(due: Due, now: datetime) -> Plan:
    """Decide what becomes of a job's slot that has come.

    A slot on time runs, and the one after it is looked at next, even if that has come as well. Of the slots that came
    while no server was at work the latest is caught up and the others are missed: never a stampede.
    """
    slot, schedule = due.slot, due.job.schedule
    if now - slot <= LATE:
        return Plan(Occurrence(slot, Fate.RAN), None, schedule.next(slot))
    latest = schedule.latest(slot, now) or slot
    missed = None if latest == slot else _missed(schedule, slot, latest)
    late = now - latest
    run = Occurrence(latest, Fate.RAN)
    if late > LATE:
        run = Occurrence(latest, Fate.CAUGHT_UP, f"{_spoken(late)} late: {NOBODY}")
    return Plan(run, missed, schedule.next(now))


def _missed(schedule: Schedule, first: datetime, latest: datetime) -> Occurrence:
    """Return one occurrence for the slots from the first to the one before the latest."""
    slots = [first]
    while (
        len(slots) <= COUNTED and (following := schedule.next(slots[-1])) is not None and following < latest
    ):
        slots.append(following)
    last: datetime | None = slots[-1]
    count: int | None = len(slots)
    if len(slots) > COUNTED:
        last, count = schedule.latest(first, latest - timedelta(seconds=1)), None
    reason = f"{NOBODY}; of the slots that came meanwhile only the latest is caught up"
    return Occurrence(first, Fate.MISSED, reason, until=last if last != first else None, count=count)


def _spoken(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
