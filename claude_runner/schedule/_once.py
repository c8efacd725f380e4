"""When something fires once: `at 2026-12-01 09:00`."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.schedule._moments import instant_of, read_moment, write_moment

_AT: Final = re.compile(r"at\b ?(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Once:
    """A fire at one instant.

    Attributes:
        expression: As it is kept.
        at: The instant, in UTC.
    """

    expression: str
    at: datetime
    _zone: ZoneInfo

    def next(self, after: datetime) -> datetime | None:
        """Return its fire if that comes after an instant."""
        return self.at if self.at > after else None

    def count(self, since: datetime, until: datetime) -> int:
        """Return 1 where it fires from one instant on and before another, else 0."""
        return int(since <= self.at < until)

    def describe(self) -> str:
        """Return it in words, such as "Once, on Tuesday 2026-12-01 at 09:00"."""
        return f"Once, on {self.at.astimezone(self._zone):%A %Y-%m-%d at %H:%M}"


def read_once(expression: str, zone: ZoneInfo) -> Once | None:
    """Return what an expression says that begins with `at`; `None` for another.

    Raises:
        InvalidError: Its time can't be read.
    """
    match = _AT.fullmatch(expression)
    if match is None:
        return None
    moment = read_moment(match[1])
    return Once(f"at {write_moment(moment)}", instant_of(moment, zone).astimezone(UTC), zone)
