"""The loop that turns due slots into runs.

It sleeps until the next slot or a change of a job. A due slot becomes an occurrence and a run, and the job moves on
to its next slot, in one transaction: no crash can leave one without the others, and `UNIQUE (job_id, scheduled_for)`
lets a slot run once however many schedulers see it.
"""

import asyncio
import logging
import sqlite3
from datetime import datetime, timedelta
from typing import Final

from claude_runner import jobs, runs
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import Broken, Fate, Job
from claude_runner.runs import Trigger

LONGEST_SLEEP: Final = timedelta(seconds=60)
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=1)
LATE: Final = timedelta(seconds=60)  # a slot that runs later than this was caught up
BATCH: Final = 500

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
                    wake_at = await self.tick()
                except Exception:
                    log.exception("the scheduler could not look for due jobs; it tries again in a second")
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

    async def _fire(self, job: Job | Broken, now: datetime) -> None:
        if isinstance(job, Broken):  # it must not hold up the others
            log.warning("job %s can't be scheduled: %s", job.id, job.error)
            await self._db.write(lambda c: jobs.shelve(c, job))
            return
        following = job.schedule.next(now)
        run_id = await self._db.write(lambda c: self._take(c, job, following, now))
        if run_id is not None:
            log.info("job %s (%s) is due: run %s", job.id, job.name, run_id)
            self._hub.publish(Topic.RUNS, run_id)

    def _take(self, c: sqlite3.Connection, job: Job, following: datetime | None, now: datetime) -> str | None:
        """Take the job's slot, if it is still to be had, and make its run."""
        slot = job.next_run_at
        late = slot is not None and now - slot > LATE
        if not jobs.take_slot(c, job, following, Fate.CAUGHT_UP if late else Fate.RAN):
            return None
        trigger = Trigger.CATCH_UP if late else Trigger.SCHEDULE
        run_id = runs.insert(c, job.new_run(trigger, scheduled_for=slot, rehearsal=self._rehearsal), now)
        jobs.link_run(c, job, run_id)
        return run_id
