"""Names of time zones, for fields in which one is chosen."""

from functools import cache
from typing import Final
from zoneinfo import available_timezones

AREAS: Final = frozenset(
    (
        "Africa",
        "America",
        "Antarctica",
        "Arctic",
        "Asia",
        "Atlantic",
        "Australia",
        "Europe",
        "Indian",
        "Pacific",
    )
)


@cache
def zone_names() -> tuple[str, ...]:
    """Return the zones that are named after places, which are those that people look for; it reads files at first."""
    return ("UTC", *sorted(name for name in available_timezones() if name.partition("/")[0] in AREAS))
