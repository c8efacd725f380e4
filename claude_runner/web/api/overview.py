"""Endpoints about the server as a whole: what needs the owner, how it is, and a copy of what it knows."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from claude_runner import __version__
from claude_runner.jobs import Job
from claude_runner.signing_in import SignInState
from claude_runner.views.decisions import owners_zone
from claude_runner.views.instants import iso
from claude_runner.views.slots import SlotView, slot_view
from claude_runner.views.unconfigured import UnconfiguredServer, unconfigured_list
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._periods import Period, edges_of
from claude_runner.web.api.usage import Used, used

RECENT: Final = timedelta(days=2)  # for how long a missed slot is told of
MOST: Final = 20  # of one kind


@dataclass(frozen=True, slots=True)
class SignInView:
    """Whether Claude is signed in, and how that is known or what to do about it."""

    state: SignInState
    how: str


@dataclass(frozen=True, slots=True)
class FailingJob:
    """A job whose last run failed, or that can't be scheduled."""

    id: str
    name: str
    last_error: str | None
    last_executed_at: str | None


@dataclass(frozen=True, slots=True)
class SpentOfBudget:
    """What was spent of a budget; `budget_usd` is null where there is none."""

    period: Period
    spent_usd: float
    budget_usd: float | None


@dataclass(frozen=True, slots=True)
class Needs:
    """What needs the owner."""

    sign_in: SignInView
    failing_jobs: list[FailingJob]
    missed_slots: list[SlotView]
    unconfigured_servers: list[UnconfiguredServer]
    budgets: list[SpentOfBudget]


@dataclass(frozen=True, slots=True)
class Overview:
    """What was used today, this week, this month and in all, and what needs the owner."""

    timezone: str
    today: Used
    week: Used
    month: Used
    in_all: Used
    needs: Needs


@dataclass(frozen=True, slots=True)
class Status:
    """The server: its version, its clock, where it is reached, and how its parts are."""

    version: str
    now: str
    timezone: str
    rehearsal: bool
    base_url: str
    mcp_url: str
    sign_in: SignInView
    checks: dict[str, str]


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the database."""

    path: str
    bytes: int
    created_at: str


class OverviewEndpoints(EndpointGroup):
    """The server as a whole."""

    subject = "Server"

    @endpoint("GET /api/overview")
    async def get_overview(self) -> Overview:
        """Tell what was used today, this week and this month, and what needs the owner."""
        now, zone = self.app.clock.now(), await owners_zone(self.app)
        rehearsal = self.app.settings.rehearsal
        sums = []
        for period in (Period.DAY, Period.WEEK, Period.MONTH):
            edges = edges_of(now, now + timedelta(microseconds=1), period, zone, 1)
            (totals,) = await self.app.runs.usage(edges, rehearsal=rehearsal)
            sums.append(used(totals, *edges))
        day, week, month = sums
        return Overview(
            timezone=zone.key,
            today=day,
            week=week,
            month=month,
            in_all=used(await self.app.runs.usage_in_all(rehearsal=rehearsal)),
            needs=await self._needs(day, month),
        )

    @endpoint("GET /api/status")
    async def get_status(self) -> Status:
        """Tell which version it is, where it is reached, whether Claude is signed in, and how its parts are."""
        base = await self.app.addresses.base()
        return Status(
            version=__version__,
            now=self.app.clock.now().isoformat(),
            timezone=(await owners_zone(self.app)).key,
            rehearsal=self.app.settings.rehearsal,
            base_url=base,
            mcp_url=f"{base}/mcp",
            sign_in=await self._sign_in(),
            checks=await self.app.checks(),
        )

    @endpoint("POST /api/backup", status=201)
    async def back_up(self) -> Backup:
        """Make a copy of the database, beside it, that only its owner can read."""
        path = await self.app.backup()
        size = (await asyncio.to_thread(path.stat)).st_size
        return Backup(str(path), size, self.app.clock.now().isoformat())

    async def _needs(self, day: Used, month: Used) -> Needs:
        now, budgets = self.app.clock.now(), (await self.app.stored.owned()).budgets
        lacking = (await unconfigured_list(self.app)).servers
        return Needs(
            sign_in=await self._sign_in(),
            failing_jobs=[_failing(job) for job in await self.app.jobs.failing(MOST)],
            missed_slots=[slot_view(slot) for slot in await self.app.jobs.missed(now - RECENT, MOST)],
            unconfigured_servers=[server for server in lacking if server.enabled],
            budgets=[
                SpentOfBudget(Period.DAY, day.cost_usd, budgets.day_usd),
                SpentOfBudget(Period.MONTH, month.cost_usd, budgets.month_usd),
            ],
        )

    async def _sign_in(self) -> SignInView:
        it = await self.app.sign_in()
        return SignInView(it.state, it.how)


def _failing(job: Job) -> FailingJob:
    return FailingJob(job.id, job.name, job.last_error, iso(job.last_executed_at))
