"""The endpoint about what runs came to: how many, how they ended, tokens and cost, stretch by stretch of time."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Annotated, Final

from pydantic import Field

from claude_runner.runs import Totals
from claude_runner.views.decisions import owners_zone
from claude_runner.views.instants import iso, read_instant
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._periods import Period, edges_of
from claude_runner.web.api._types import Since, Until

MOST_INTERVALS: Final = 400
USUAL: Final = timedelta(days=29)  # before today


@dataclass(frozen=True, slots=True)
class UsageSearch:
    """Which time, and how it is cut."""

    since: Since = None
    until: Until = None
    period: Annotated[Period, Field(description="How long each interval is, on the owner's clock.")] = (
        Period.DAY
    )
    rehearsal: Annotated[bool | None, Field(description="Of rehearsals, which count apart.")] = None


@dataclass(frozen=True, slots=True)
class Used:
    """What runs came to that ended in a stretch of time.

    `cost_usd` is the sum of those whose price is known; `unpriced` are the others that have run. `success_rate` is the
    part of those that finished, of those that nobody cancelled.
    """

    since: str | None
    until: str | None
    runs: int
    finished: int
    failed: int
    cancelled: int
    success_rate: float | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    total_tokens: int
    cost_usd: float
    unpriced: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: interval by interval, in these together, and in all."""

    timezone: str
    rehearsal: bool
    intervals: list[Used]
    together: Used
    in_all: Used


class UsageEndpoints(EndpointGroup):
    """What was used."""

    subject = "Usage"

    @endpoint("GET /api/usage")
    async def get_usage(self, query: UsageSearch) -> Usage:
        """Tell what runs came to, by when they ended; the last 30 days where no time is named.

        Runs that were deleted since still count. Rehearsals cost nothing and count apart.
        """
        now, zone = self.app.clock.now(), await owners_zone(self.app)
        until = read_instant(query.until, "until") or now
        since = read_instant(query.since, "since") or until - USUAL
        edges = edges_of(since, until, query.period, zone, MOST_INTERVALS)
        rehearsal = self.app.settings.rehearsal if query.rehearsal is None else query.rehearsal
        totals = await self.app.runs.usage(edges, rehearsal=rehearsal)
        return Usage(
            timezone=zone.key,
            rehearsal=rehearsal,
            intervals=[used(it, *between) for it, between in zip(totals, pairwise(edges), strict=True)],
            together=used(reduce(add, totals), edges[0], edges[-1]),
            in_all=used(await self.app.runs.usage_in_all(rehearsal=rehearsal)),
        )


def used(totals: Totals, since: datetime | None = None, until: datetime | None = None) -> Used:
    """Return what runs came to in a stretch of time."""
    return Used(
        since=iso(since),
        until=iso(until),
        runs=totals.runs,
        success_rate=totals.success_rate,
        total_tokens=totals.total_tokens,
        **asdict(totals),
    )
