"""How numbers and instants are put into words: the filters of the templates."""

import re
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from claude_runner.views.instants import clock_time
from claude_runner.web.dashboard._visible import visible

_STEPS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_MARKS: Final = re.compile(r"\*\*|`|^[ \t]*(?:#+|[-*>])[ \t]", re.MULTILINE)
NOTHING: Final = Markup("\N{EN DASH}")


def money(usd: float | None) -> str:
    """Return an amount of US dollars, with the digits that matter; a dash where it is not known."""
    if usd is None:
        return NOTHING
    if usd and abs(usd) < 0.01:
        return f"${usd:.4f}"
    return f"${usd:,.2f}"


def count(number: float | None) -> str:
    """Return a number in full, its thousands marked off."""
    return NOTHING if number is None else f"{number:,.0f}"


def short_count(number: float | None) -> str:
    """Return a number with three digits at the most and a letter for thousands, millions or more."""
    if number is None:
        return NOTHING
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size * 0.9995:
            value = number / size
            return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}{letter}"
    return f"{number:.0f}"


def span(seconds: float | None) -> str:
    """Return a length of time in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for size, unit in _STEPS:
        amount, left = divmod(left, int(size))
        if amount:
            parts.append(f"{amount} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def relative(at: datetime, now: datetime) -> str:
    """Return how far an instant is from now, in one unit, as people say it."""
    seconds = (at - now).total_seconds()
    away = abs(seconds)
    if away < 1:
        return "now"
    for size, unit in _STEPS:
        if away >= size * 0.995:
            amount = max(1, round(away / size))
            return f"in {amount} {unit}" if seconds > 0 else f"{amount} {unit} ago"
    return "now"


def exact(at: datetime, zone: ZoneInfo) -> str:
    """Return an instant on the owner's clock, to the second."""
    return f"{at.astimezone(zone):%a %d %b %Y, %H:%M:%S %Z}"


def time_tag(at: datetime | None, now: datetime, zone: ZoneInfo, *, as_clock: bool = False) -> Markup:
    """Return an instant as markup: relative, or on the clock, and the exact one on hover."""
    if at is None:
        return NOTHING
    told = clock_time(at, now, zone) if as_clock else relative(at, now)
    kind = Markup("") if as_clock else Markup(" data-relative")
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        at.isoformat(timespec="milliseconds"), exact(at, zone), kind, told
    )


def plain(text: str) -> str:
    """Return the beginning of a Markdown text as one line without its marks, for where no more than a line is shown."""
    return visible(" ".join(_MARKS.sub("", text).split()))


def percent(share: float | None) -> str:
    """Return a share of one as per cent, 100 only where it is all."""
    if share is None:
        return NOTHING
    value = share * 100
    return f"{min(value, 99.9):.1f}" if value < 100 else "100"


def day_edges(now: datetime, zone: ZoneInfo, days: int) -> list[datetime]:
    """Return the midnights on the owner's clock that bound so many days, the last of which is today."""
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return [
        midnight + timedelta(days=offset) for offset in range(1 - days, 2)
    ]  # on the wall: DST is the zone's
