"""Instants as texts whose order is their order in time."""

from datetime import UTC, datetime


def to_text(instant: datetime) -> str:
    """Return an instant as ISO 8601 in UTC, always as wide as `2026-11-23T09:00:00.000+00:00`.

    What is finer than a millisecond is cut off.

    Raises:
        ValueError: The instant is naive.
    """
    if instant.utcoffset() is None:
        raise ValueError(f"{instant!r} has no time zone, so it is no instant")
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")


def from_text(text: str) -> datetime:
    """Return the instant that an ISO 8601 text with an offset names, in UTC.

    Raises:
        ValueError: The text is not such a text.
    """
    instant = datetime.fromisoformat(text)
    if instant.utcoffset() is None:
        raise ValueError(f"{text!r} has no offset, so it names no instant")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is outside of the calendar in UTC") from None
