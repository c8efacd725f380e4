"""Looks after the runs whose server process died: first their processes are ended, then their rows.

What becomes of each is what its job's rules say of a crash. Pending runs need no recovery. What is kept of sessions for
runs to go on in is deleted where none does any more.
"""

import asyncio
import logging
from datetime import datetime
from typing import Final

from claude_runner import runs
from claude_runner.agent import Agent
from claude_runner.attempts import conclude, ended_by
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.hub import Hub, Topic
from claude_runner.leader import Workers
from claude_runner.runs import Ending, Run, State, Transcripts

EVERY_SECONDS: Final = 30
ENDING: Final = Ending(
    State.ERROR,
    reason="server_stopped",
    error="the server died while this run was going on",
)

log = logging.getLogger(__name__)


class Recovery:
    """Looks for runs that nobody executes any more."""

    def __init__(self, database: Database, hub: Hub, clock: Clock, agent: Agent, workers: Workers) -> None:
        self._db = database
        self._hub = hub
        self._clock = clock
        self._agent = agent
        self._workers = workers
        self._transcripts = Transcripts(database, clock)

    async def recover(self) -> None:
        """End the runs of workers that are no more, once nothing of them is left."""
        by_worker = await self._db.read(runs.running)
        lost = [run for worker in self._workers.dead(by_worker) for run in by_worker[worker]]
        if not lost:
            return
        ended = await self._agent.end_leftovers([run.id for run in lost])
        log.warning("%d runs of a server that died are ended, %d processes with them", len(lost), ended)
        now = self._clock.now()
        # Together, so that the database can commit them in one go.
        await asyncio.gather(*(self._end(run, now) for run in lost))
        for run in lost:
            self._hub.publish(Topic.RUNS, run.id)

    async def _end(self, run: Run, now: datetime) -> None:
        await ended_by(self._db, lambda c: conclude(c, run, ENDING, now), run, ENDING, now)

    async def serve(self) -> None:
        """Look from time to time: a server that hands over may die before its last runs have ended."""
        never = asyncio.Event()
        while True:
            await self._clock.pause(never, EVERY_SECONDS)
            try:
                await self.recover()
                await self._transcripts.sweep()
            except Exception:
                log.exception("could not look for lost runs; trying again later")
