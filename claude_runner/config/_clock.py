"""The clock: the one place that reads the time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

LOOK_AGAIN_SECONDS: Final = 5.0


class Clock(Protocol):
    """Where the time comes from; tests bring one that they move.

    The time of day may jump, forward and back, and does when a machine was suspended. What happens at an instant goes
    by `now`; how long something lasts goes by `elapsed`, which only ever runs on, while the machine does.
    """

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return the seconds since some moment in the past."""
        ...

    async def wait(self, event: asyncio.Event, until: datetime) -> None:
        """Return once the event is set or the instant has come; it may be earlier, so look again."""
        ...

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Return once the event is set or so many seconds have passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads it

    def elapsed(self) -> float:
        """Return the seconds since some moment in the past."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: datetime) -> None:
        """Return once the event is set or the instant has come.

        A timer does not notice that the time of day jumps or the machine sleeps, so it is set anew every few seconds;
        where the time of day was set back, it returns after as long as it looked to be in the beginning.
        """
        left = (until - self.now()).total_seconds()
        enough = self.elapsed() + left
        while left > 0 and not event.is_set():
            await self.pause(event, min(left, LOOK_AGAIN_SECONDS))
            left = min((until - self.now()).total_seconds(), enough - self.elapsed())

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Return once the event is set or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
