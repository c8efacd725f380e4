"""How an instant stands in an answer, and how one is read."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

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
