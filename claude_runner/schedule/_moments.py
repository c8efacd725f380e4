"""Dates with a time as people write them into a schedule: `2026-12-01 09:00`, with seconds or an offset if need be."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.schedule._clocks import first_shown
from claude_runner.schedule._rules import invalid

_FORM: Final = re.compile(
    r"(\d{4})-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?: ?(?:Z|[+-]\d\d:?\d\d))?", re.ASCII | re.IGNORECASE
)
_YEARS: Final = range(2000, 2200)  # of them every time can be told in every zone


def read_moment(text: str) -> datetime:
    """Return the time that a text gives, without a zone where it gives no offset.

    Raises:
        InvalidError: It can't be read, or there is no such day or time.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        hint = "write the date and the time, such as '2026-12-01 09:00' or '2026-12-01T09:00+01:00'"
        raise invalid(f"{text!r} is not a time; {hint}")
    if int(form[1]) not in _YEARS:
        raise invalid(f"the year of {text!r} is not from {_YEARS[0]} to {_YEARS[-1]}")
    with suppress(ValueError):
        return datetime.fromisoformat(text.upper().replace(" ", "T", 1).replace(" ", ""))
    raise invalid(f"{text!r} is not a time; there is no such day, time or offset")


def write_moment(moment: datetime) -> str:
    """Return a time as it is read again."""
    return moment.isoformat(sep=" ", timespec="seconds" if moment.second else "minutes")


def instant_of(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant, in UTC; of a time without an offset when the zone's clock first shows it, or comes after."""
    return first_shown(moment, zone) if moment.tzinfo is None else moment.astimezone(UTC)
