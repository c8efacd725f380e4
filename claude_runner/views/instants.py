"""How an instant stands in an answer and in a sentence, and how one is read."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.errors import InvalidError

YEARS: Final = range(
    1000, 9000
)  # in which there is room before and after for what is worked out from an instant


def iso(instant: datetime | None) -> str | None:
    """Return an instant as ISO 8601 in UTC."""
    return None if instant is None else instant.astimezone(UTC).isoformat()


def read_instant(text: str | None, field: str) -> datetime | None:
    """Read an instant of ISO 8601 that has an offset.

    Raises:
        InvalidError: It is none; `field` is the parameter's name.
    """
    if text is None:
        return None
    with suppress(
        ValueError, OverflowError
    ):  # no instant; or one before the first year of UTC, or after the last
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None and instant.year in YEARS:
            return instant.astimezone(UTC)
    raise InvalidError(
        f"{field} is {text[:60]!r}; give an instant with its offset, such as '2026-11-23T09:00:00+01:00'",
        field=field,
    )


def clock_time(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    """Return an instant as short as it can be told from others: the time today, else the day as well."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    days = (local.date() - today).days
    if days == 0:
        return f"{local:%H:%M}"
    if days in {1, -1}:
        return f"{'tomorrow' if days == 1 else 'yesterday'} {local:%H:%M}"
    if abs(days) < 300:
        return f"{local:%a} {local.day} {local:%b} {local:%H:%M}"
    return f"{local.day} {local:%b} {local.year}"
