"""The loop that turns due slots into runs.

It sleeps until the next slot or a change of a job. A due slot becomes an occurrence and a run, and the job moves on
to its next slot, in one transaction: no crash can leave one without the others, and `UNIQUE (job_id, scheduled_for)`
lets a slot run once however many schedulers see it.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from claude_runner import jobs
from claude_runner.config import Clock
from claude_runner.db import Database, to_text
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import Broken, Due, Policy
from claude_runner.planning import LATE, apart, plan_slots
from claude_runner.settings import job_defaults
from claude_runner.turns import Turn

LONGEST_SLEEP: Final = timedelta(seconds=60)
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=1)
BATCH: Final = 500

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
            if self.last_tick_at is None or now < self.last_tick_at - LATE:
                await self._plan_anew(now)
            due = await self._db.read(lambda c, now=now: jobs.due(c, now, BATCH))  # type: ignore[misc]
            default = await self._db.read(job_defaults)
            # Together, so that the database can commit them in one go.
            places = _places(due, now)
            await asyncio.gather(
                *(self._fire(job, now, default, apart(place)) for job, place in zip(due, places, strict=True))
            )
            if len(due) < BATCH:
                break
        first = await self._db.read(jobs.next_due_at)
        self.last_tick_at = now
        horizon = now + LONGEST_SLEEP
        return horizon if first is None else min(first, horizon)

    async def _plan_anew(self, now: datetime) -> None:
        """See to jobs that would wait for long, as they were planned by a clock that was ahead."""
        for due, first in await self._db.read(lambda c: jobs.ahead(c, now)):
            log.warning("job %s was planned by a clock that was ahead; it is planned anew", due.job.id)
            await self._db.write(lambda c, due=due, first=first: jobs.take_slot(c, due, first))  # type: ignore[misc]

    async def _fire(self, due: Due | Broken, now: datetime, default: Policy, wait: timedelta) -> None:
        if isinstance(due, Broken):  # it must not hold up the others
            log.warning("job %s can't be scheduled: %s", due.id, due.error)
            await self._db.write(lambda c: jobs.shelve(c, due))
            return
        policy = due.job.policy.or_else(default)
        try:
            if now - due.slot <= LATE:
                plan = plan_slots(due, now, policy)
            else:  # a long stop has many slots to go through
                plan = await asyncio.to_thread(plan_slots, due, now, policy)
        except Exception as error:
            log.exception("job %s can't be planned", due.job.id)
            message = f"its slot can't be planned ({error})"
            await self._db.write(lambda c: jobs.shelve(c, Broken(due.job.id, to_text(due.slot), message)))
            return
        turn = Turn(due.job, policy, now, wait, rehearsal=self._rehearsal)
        done = await self._db.write(lambda c: turn.carry_out(c, due, plan))
        for run_id in done.made:
            log.info("job %s (%s) is due: run %s", due.job.id, due.job.name, run_id)
            self._hub.publish(Topic.RUNS, run_id)
        for run_id in done.superseded:
            self._hub.publish(Topic.CANCEL, run_id)
            self._hub.publish(Topic.RUNS, run_id)
        if done.told:
            self._hub.publish(Topic.OUTBOX, due.job.id)


def _places(due: Sequence[Due | Broken], now: datetime) -> list[int]:
    """Return the place of each job among those that are late; 0 for one that is not."""
    places, late = [], 0
    for job in due:
        is_late = isinstance(job, Due) and now - job.slot > LATE
        places.append(late if is_late else 0)
        late += is_late
    return places


async def _finished(work: Coroutine[Any, Any, T]) -> T:
    """Await work to its end even when cancelled: whoever leads next must find every slot either taken or not."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
