"""Pauses of everything: no slot becomes a run and nothing that waits begins, but for what somebody starts by hand."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from claude_runner import holds
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.errors import InvalidError
from claude_runner.holds import Hold, HoldKind
from claude_runner.hub import Hub, Topic

BY_OWNER: Final = "the owner wanted it"
MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Pausing:
    """Pauses everything, and lets it go on."""

    database: Database
    hub: Hub
    clock: Clock

    async def pause_all(self, until: datetime | None = None, reason: str | None = None) -> Hold:
        """Pause everything until an instant, or until somebody says so; runs that are going on go on.

        Raises:
            InvalidError: The instant is past, or the reason too long.
        """
        now = self.clock.now()
        said = checked_pause(until, reason, now)
        hold = await self.database.write(lambda c: holds.hold(c, HoldKind.PAUSED, until, said, now))
        self._tell()
        return hold

    async def resume_all(self) -> bool:
        """Let everything go on; tells whether it was paused. What was skipped meanwhile is not caught up."""
        was_paused = await self.database.write(lambda c: holds.lift(c, HoldKind.PAUSED))
        self._tell()
        return was_paused

    async def held(self) -> tuple[Hold, ...]:
        """Return what holds runs back now, the owner's pause and whatever else."""
        return await self.database.read(lambda c: holds.current(c, self.clock.now()))

    def _tell(self) -> None:
        for topic in (Topic.JOBS, Topic.RUNS):
            self.hub.publish(topic, "")


def checked_pause(until: datetime | None, reason: str | None, now: datetime) -> str:
    """Return the reason of a pause in the form in which it is kept.

    Raises:
        InvalidError: Its end is past, or the reason too long.
    """
    if until is not None and until <= now:
        raise InvalidError(
            f"until is {until.isoformat(timespec='minutes')}, which is past; give an instant to come, or leave it out",
            field="until",
        )
    said = " ".join((reason or "").split()) or BY_OWNER
    if len(said) > MAX_REASON:
        raise InvalidError(f"reason has {len(said):,} characters; give at most {MAX_REASON}", field="reason")
    return said
