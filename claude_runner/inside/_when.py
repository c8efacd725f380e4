"""When a follow-up is to start, as a model words it."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from claude_runner.errors import InvalidError

FURTHEST: Final = timedelta(days=30)
EXAMPLES: Final = "'in 30 minutes', '2h', 'PT45M' or '2026-11-24T09:00:00+01:00'"

_LONGEST: Final = 100  # characters
_UNITS: Final = {
    "w": "weeks",
    "d": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
}  # by their first letter
_PART: Final = re.compile(
    r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?"
    r"(weeks?|w|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])(?:,? and |, ?| )?"
)
_SPAN: Final = re.compile(rf"(?:in )?((?:{_PART.pattern})+)")
_ISO_SPAN: Final = re.compile(
    r"P(?=.)(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?"
    r"(?:T(?=.)(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6}(?:\.[0-9]{1,6})?)S)?)?"
)


def read_when(text: str, now: datetime) -> datetime:
    """Return the instant that a text names: as it is, or as a span of time from now. A day is 24 hours.

    Args:
        text: ISO 8601 with an offset; or a span such as "in 30 minutes", "1h30m", "P1DT12H".
        now: The present, in UTC.

    Raises:
        InvalidError: It is neither, it has passed, or it is more than 30 days ahead.
    """
    words = " ".join(text.split())
    if len(words) > _LONGEST:
        raise _unreadable(words)
    span = _span(words)
    if span is not None:
        return now + _near(span)
    at = _instant(words)
    if at < now:
        raise InvalidError(f"{words} has passed; it is now {now.isoformat(timespec='seconds')}", field="when")
    _near(at - now)
    return at


def _near(span: timedelta) -> timedelta:
    if span > FURTHEST:
        raise InvalidError(
            f"that is more than {FURTHEST.days} days ahead; give a time before that", field="when"
        )
    return span


def _span(words: str) -> timedelta | None:
    if iso := _ISO_SPAN.fullmatch(words.upper()):
        amounts = (float(amount or 0) for amount in iso.groups())
        return timedelta(**dict(zip(_UNITS.values(), amounts, strict=True)))
    if not _SPAN.fullmatch(words.lower()):
        return None
    parts = _PART.findall(words.lower())
    return sum((timedelta(**{_UNITS[unit[0]]: float(amount)}) for amount, unit in parts), timedelta())


def _instant(words: str) -> datetime:
    with suppress(ValueError, OverflowError):  # no instant, or one outside of UTC's years
        at = datetime.fromisoformat(words.upper())
        if at.tzinfo is None:
            raise InvalidError(
                f"{words} has no offset from UTC, so it could be anywhere in the world; "
                "add it, such as '2026-11-24T09:00:00+01:00'",
                field="when",
            )
        return at.astimezone(UTC)
    raise _unreadable(words)


def _unreadable(words: str) -> InvalidError:
    return InvalidError(f"when is {words[:60]!r}, which can't be read; write it as {EXAMPLES}", field="when")
