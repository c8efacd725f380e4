"""What a measurement comes to, how much effort it takes, and the table that shows it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How often things are done; each field is an option of the command line.

    Attributes:
        slots: Due slots that are timed, one a second.
        requests: Pairs of first model requests.
        starts: Starts of each server.
        rests: Idle servers of each kind that are weighed.
        crowds: Crowds of jobs that are due at once.
        quiet: Seconds for which a scheduler without due jobs is watched; more than a minute.
        volleys: Pairs of volleys of runs.
        going: Runs that go on at once in the server that is weighed.
        kills: Runs that are killed.
        successions: Leaders that are killed.
        listings: Listings of two hundred servers.
        streams: Streams of each kind that are redacted.
        invocations: Pairs of calls of a server's tool.
        posts: Pairs of rounds of posts to a webhook.
        calls: Turns of a hundred calls over the network, of each server.
        stops: Busy servers that are stopped.
        pages: Visits to each page.
        words: Words of a run that are watched for in its page.
        visits: Visits to each page by a browser.
        costs: Rounds of runs whose cost is compared.
    """

    slots: int = 60
    requests: int = 10
    starts: int = 7
    rests: int = 3
    crowds: int = 5
    quiet: int = 70
    volleys: int = 3
    going: int = 16
    kills: int = 20
    successions: int = 5
    listings: int = 50
    streams: int = 5
    invocations: int = 300
    posts: int = 21
    calls: int = 15
    stops: int = 5
    pages: int = 30
    words: int = 100
    visits: int = 8
    costs: int = 5


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        name: What is measured.
        asked: What it has to reach.
        measured: What it came to.
        met: Whether it reaches it; `None` where this machine can't tell.
        raw: The numbers behind it, a line each.
    """

    name: str
    asked: str
    measured: str
    met: bool | None
    raw: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """Return the verdict as a word."""
        return {True: "ok", False: "misses", None: "-"}[self.met]


def ratio(name: str, most: float, ours: Sequence[float], bare: Sequence[float], raw: Sequence[str]) -> Figure:
    """Return the figure of a series against one that was taken in turns with it.

    What is told is the median of the rounds' ratios: two that ran one after the other saw the same machine, which the
    medians of two whole series need not have.
    """
    measured = median(one / other for one, other in zip(ours, bare, strict=True))
    others = (
        f"ratio of the medians {median(ours) / median(bare):.2f}, of the least {min(ours) / min(bare):.2f}"
    )
    return Figure(name, f"<= {most:g} x", f"{measured:.2f} x", measured <= most, (*raw, others))


def rotated(items: Sequence[T], by: int) -> list[T]:
    """Return the items beginning with another one, so that none is always first."""
    start = by % len(items)
    return [*items[start:], *items[:start]]


def median(values: Iterable[float]) -> float:
    """Return the middle value, of an even number the mean of the two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that so large a share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(label: str, values: Sequence[float], unit: str, digits: int = 0) -> str:
    """Return a line about a series: median, extremes and each value."""
    shown = " ".join(f"{value:.{digits}f}" for value in values)
    return (
        f"{label}: median {median(values):.{digits}f} {unit}, "
        f"min {min(values):.{digits}f}, max {max(values):.{digits}f} ({shown})"
    )


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as aligned columns, the raw numbers beneath."""
    rows = [("figure", "asked", "measured", "verdict")]
    rows += [(figure.name, figure.asked, figure.measured, figure.verdict) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for figure in figures:
        if figure.raw:
            lines += ["", figure.name, *(f"    {line}" for line in figure.raw)]
    return "\n".join(lines)
