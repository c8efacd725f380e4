"""Endpoints about the server as a whole: what needs the owner, how it is, and a copy of what it knows."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import timedelta

from claude_runner import __version__
from claude_runner.signing_in import SignInState
from claude_runner.views.decisions import owners_zone
from claude_runner.views.instants import iso
from claude_runner.views.needs import Need, NeedKind, needs
from claude_runner.web.api._endpoints import EndpointGroup, endpoint
from claude_runner.web.api._periods import Period, edges_of
from claude_runner.web.api.usage import Used, used


@dataclass(frozen=True, slots=True)
class SignInView:
    """Whether Claude is signed in, and how that is known or what to do about it."""

    state: SignInState
    how: str


@dataclass(frozen=True, slots=True)
class NeedView:
    """Something that needs the owner: what is the matter, in words, and what it is about.

    `urgent` is what fails or is not begun until somebody does something about it; `until` is when it is over by itself.
    """

    kind: NeedKind
    title: str
    words: str
    urgent: bool
    job_id: str | None
    run_id: str | None
    webhook_id: str | None
    channel_id: str | None
    server: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What was used today, this week, this month and in all, and what needs the owner, the most pressing first."""

    timezone: str
    today: Used
    week: Used
    month: Used
    in_all: Used
    needs: list[NeedView]


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
            needs=[_view(need) for need in await needs(self.app)],
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

    async def _sign_in(self) -> SignInView:
        it = await self.app.sign_in()
        return SignInView(it.state, it.how)


def _view(need: Need) -> NeedView:
    return NeedView(**asdict(need) | {"until": iso(need.until)})
