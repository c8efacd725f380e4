"""Keeps the index of words up with the runs that end: in small pieces, so that nobody who writes waits for it."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from claude_runner.config import Clock
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.runs import Runs

REST_SECONDS: Final = 1.0  # so that runs that end one after the other are taken in together
BREATH_SECONDS: Final = 0.02  # between two pieces of work, for others to write
PAUSE_AFTER_FAILURE_SECONDS: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexing:
    """Looks after the index of words."""

    runs: Runs
    hub: Hub
    clock: Clock

    async def serve(self) -> None:
        """Take in the words of runs as they end, for ever; what goes wrong is logged and tried again."""
        with self.hub.subscribe(Topic.RUNS) as changes:
            while True:
                changes.take()
                try:
                    await self._catch_up()
                except Exception as error:
                    log.exception(
                        "the words of runs could not be taken in; it is tried again in a minute: %s",
                        error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                        exc_info=not isinstance(error, RunnerError),
                    )
                    await self._pause(PAUSE_AFTER_FAILURE_SECONDS)
                    continue
                await self._pause(REST_SECONDS)
                await changes.changed.wait()

    async def _catch_up(self) -> None:
        while await self.runs.take_words():
            await self._pause(BREATH_SECONDS)
        while await self.runs.merge_words():
            await self._pause(BREATH_SECONDS)

    async def _pause(self, seconds: float) -> None:
        await self.clock.pause(asyncio.Event(), seconds)
