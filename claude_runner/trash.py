"""The trash of jobs: what is in there can be taken back for an hour, then it is deleted with its runs.

Every process looks after it: whoever is first deletes, and the others find nothing left.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from claude_runner.config import Clock
from claude_runner.dispatcher import Dispatcher
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import Jobs
from claude_runner.runs import Runs

LONGEST_SLEEP: Final = timedelta(minutes=10)
PAUSE_AFTER_FAILURE_SECONDS: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trash:
    """Where deleted jobs wait."""

    jobs: Jobs
    runs: Runs
    dispatcher: Dispatcher
    hub: Hub
    clock: Clock

    async def put(self, job_id: str) -> None:
        """Put a job in, after ending its runs that wait or are going on.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: Another server process executes a run of it, and does not answer.
        """
        while not await self.jobs.discard(job_id, self.clock.now()):  # meanwhile there may come another run
            for run_id in await self.runs.unfinished(job_id):
                await self.dispatcher.cancel(run_id)

    async def serve(self) -> None:
        """Delete what has been in there for long enough, for ever; what goes wrong is logged and tried again."""
        with self.hub.subscribe(Topic.JOBS) as changes:
            while True:
                changes.take()
                now = self.clock.now()
                try:
                    look_again_at = await self.jobs.empty_trash(now)
                except Exception as error:
                    log.exception(
                        "the trash could not be emptied; it is tried again in a minute: %s",
                        error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                        exc_info=not isinstance(error, RunnerError),
                    )
                    await self.clock.pause(asyncio.Event(), PAUSE_AFTER_FAILURE_SECONDS)
                    continue
                horizon = now + LONGEST_SLEEP
                await self.clock.wait(changes.changed, min(look_again_at or horizon, horizon))
