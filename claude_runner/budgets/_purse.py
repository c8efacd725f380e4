"""What the runs of this process spend while they go on, and when that is too much."""

# ruff: noqa: ARG001, ARG002

from claude_runner.budgets._records import Reached
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.hub import Hub
from claude_runner.runs import Run


class Watch:
    """Watches what one run spends."""

    def spent(self, cost_usd: float | None) -> Reached | None:
        """Hear what the run has cost up to now, all its attempts together, and tell what is used up by it.

        Args:
            cost_usd: US dollars; `None` where the price is not known, so that nothing can be told.
        """
        return None

    def close(self) -> None:
        """Stop watching, once the end of the attempt is written."""


class Purse:
    """What all runs of this process may spend. One per process."""

    def __init__(self, database: Database, hub: Hub, clock: Clock) -> None:
        self._db = database
        self._hub = hub
        self._clock = clock

    async def watch(self, run: Run) -> Watch:
        """Watch an attempt at a run from its start on; what bounds it is read once."""
        return Watch()
