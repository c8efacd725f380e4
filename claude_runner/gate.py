"""Whether runs may begin that nobody started by hand: not while anything holds them back."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from claude_runner import holds
from claude_runner.config import Clock, Settings
from claude_runner.db import Database
from claude_runner.holds import HoldKind

# Between the runs that are let through to see whether a model answers again, while none of them has ended.
TRIAL: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets runs through."""

    database: Database
    clock: Clock
    settings: Settings

    def is_closed(self, c: sqlite3.Connection) -> bool:
        """Tell whether runs are held back, in the transaction that begins one where they are not.

        Where a login or a bill had held them back and it is time to see, this one goes through and the next waits.
        """
        now = self.clock.now()
        if self._has_new_login(c):
            holds.lift(c, HoldKind.NOT_SIGNED_IN)
        if holds.are_held(c, now):
            return True
        holds.pass_on(c, now, now + TRIAL)
        return False

    async def opens_at(self, now: datetime) -> datetime | None:
        """Return when what holds runs back ends, as far as that is known."""
        return await self.database.read(lambda c: holds.next_end(c, now))

    async def open(self) -> None:
        """Lift what a model held back: this server may have another login than the one before it."""
        await self.database.write(holds.lift_those_of_the_model)

    def _has_new_login(self, c: sqlite3.Connection) -> bool:
        since = holds.since(c, HoldKind.NOT_SIGNED_IN)
        if since is None:
            return False
        try:
            changed_at = (self.settings.login / ".credentials.json").stat().st_mtime
        except OSError:  # it is not there, or not ours to see
            return False
        return datetime.fromtimestamp(changed_at, UTC) > since
