"""What a schedule needs to know of its kind, whichever that is."""

from datetime import datetime
from typing import Protocol

from claude_runner.errors import InvalidError


class Rule(Protocol):
    """When something fires, as pure arithmetic."""

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire strictly after an instant, in UTC; `None` where none comes."""

    def count(self, since: datetime, until: datetime) -> int:
        """Return how often it fires from one instant on and before another."""

    def describe(self) -> str:
        """Return the rule in words."""


def invalid(message: str) -> InvalidError:
    """Return the refusal of a schedule."""
    return InvalidError(message, field="cron")
