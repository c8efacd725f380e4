"""What the runs of this process spend while they go on, and when that is too much.

A run is asked at each of its messages, hundreds of times a minute, so what it is compared with is in memory: what the
database had of all other runs at the last look, and what those of this process have cost by now, to the message. The
database is looked at where a run begins, and once a second at most while any spends, and so is what bounds them: the
owner may change that meanwhile. So each run that goes on may go too far by the turn that it is in, and by no more.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from claude_runner import runs, settings
from claude_runner.background import background
from claude_runner.budgets._bounds import Bounds, bounds_of_run
from claude_runner.budgets._reached import UNREADABLE, first_reached, period_of, spent_in
from claude_runner.budgets._records import Reached, Scope, in_dollars
from claude_runner.config import Clock
from claude_runner.db import Database
from claude_runner.errors import InvalidError, RunnerError
from claude_runner.runs import Run

LOOK_AGAIN_SECONDS: Final = 1.0
# A run that costs a few cents more than usual is stopped for nothing, however many times as much that is.
MARGIN_USD: Final = 0.05

log = logging.getLogger(__name__)

# A scope and whose it is: the id of a job or a webhook, "" for everybody's.
_Key = tuple[Scope, str]


@dataclass(slots=True, eq=False)
class _Live:
    """What a run of this process has cost up to now."""

    run: Run
    bounds: Bounds
    usual_usd: float | None
    cost_usd: float
    closed: bool = False

    def key(self, scope: Scope) -> _Key:
        """Return what the run counts for within a scope."""
        whose = {Scope.JOB_DAY: self.run.job_id, Scope.WEBHOOK_DAY: self.run.webhook_id}
        return scope, whose.get(scope) or ""

    def counts_for(self, key: _Key) -> bool:
        """Tell whether what it costs is spent there."""
        scope, whose = key
        of_run = self.run.job_id if scope is Scope.JOB_DAY else self.run.webhook_id
        return whose in {"", of_run} and not self.run.rehearsal


@dataclass(frozen=True, slots=True)
class _Look:
    """What the database had of all runs but those of this process.

    Attributes:
        ended: Runs of this process that had ended, so that they are among the others.
    """

    at: datetime
    zone: ZoneInfo
    spent: Mapping[_Key, float]
    ended: frozenset[str]


class Purse:
    """What all runs of this process may spend. One per process."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._look = _Look(clock.now(), ZoneInfo("UTC"), {}, frozenset())
        self._looking = asyncio.Lock()
        self._spending = asyncio.Event()

    async def watch(self, run: Run) -> "Watch":
        """Watch an attempt at a run from before its start on.

        Raises:
            InvalidError: Its job was edited by hand so that it can't be read.
            UnavailableError: The database can't be read.
        """
        bounds, usual = await self._db.read(lambda c: _bounds(c, run))
        live = _Live(run, bounds, usual, run.cost_usd or 0.0)
        self._live[run.id] = live
        try:
            await self._look_again()
        except BaseException:
            self._drop(live)
            raise
        return Watch(self, live)

    async def serve(self) -> None:
        """Look again and again at what others spend while a run of this process does, for ever."""
        while True:
            await self._spending.wait()
            self._spending.clear()
            try:
                await self._look_again()
            except Exception as error:  # until it can be read what is known is compared with
                log.warning(
                    "what was spent can't be read: %s", error, exc_info=not isinstance(error, RunnerError)
                )
                self._spending.set()
            await self._clock.pause(asyncio.Event(), LOOK_AGAIN_SECONDS)

    def reached(self, live: _Live) -> Reached | None:
        """Tell which budget is used up by what is known."""
        return _by_itself(live) or self._together(live)

    def note(self) -> None:
        """Take note that a run has cost something."""
        self._spending.set()

    def _together(self, live: _Live) -> Reached | None:
        now = self._clock.now()

        def spent(scope: Scope) -> float:
            return self._spent(live.key(scope), now)

        return first_reached(live.bounds, spent, now, self._look.zone)

    def _spent(self, key: _Key, now: datetime) -> float:
        look, scope = self._look, key[0]
        mine = sum(
            live.cost_usd
            for live in self._live.values()
            if live.run.id not in look.ended and live.counts_for(key)
        )
        # What was spent until midnight is not today's, and there was no look since then.
        is_past = period_of(scope, look.at, look.zone).end <= now
        return mine + (0.0 if is_past else look.spent.get(key, 0.0))

    async def _look_again(self) -> None:
        async with self._looking:
            now = self._clock.now()
            closed = [live for live in self._live.values() if live.closed]
            mine = [live for live in self._live.values() if not live.closed]
            if mine:
                self._look, bounds = await self._db.read(lambda c: _look(c, mine, now))
                for live in mine:
                    live.bounds = bounds.get(live.run.id, live.bounds)
            for (
                live
            ) in closed:  # their ends were written before they were closed, so they are among the others
                self._drop(live)

    def _drop(self, live: _Live) -> None:
        if self._live.get(live.run.id) is live:
            del self._live[live.run.id]


@asynccontextmanager
async def open_purse(database: Database, clock: Clock) -> AsyncIterator[Purse]:
    """Look at what others spend while the context is open, for as long as any run of this process does."""
    purse = Purse(database, clock)
    async with background(purse.serve()):
        yield purse


class Watch:
    """Watches what one attempt at a run spends.

    Attributes:
        met: The first budget that was told to be used up.
    """

    def __init__(self, purse: Purse, live: _Live) -> None:
        self._purse = purse
        self._live = live
        self.met: Reached | None = None

    def reached(self) -> Reached | None:
        """Tell which budget is used up now, so that the attempt must not begin."""
        reached = None if self._live.run.rehearsal else self._purse.reached(self._live)
        self.met = self.met or reached
        return reached

    def spent(self, cost_usd: float | None) -> Reached | None:
        """Hear what the run has cost up to now, all its attempts together, and tell what is used up by it.

        Args:
            cost_usd: US dollars; `None` where the price is not known, so that nothing can be told.
        """
        if cost_usd is None:
            return None
        self._live.cost_usd = cost_usd
        self._purse.note()
        return self.reached()

    def unkept(self, model: str | None) -> str | None:
        """Return what there is to say where the price of its model is not known; `None` where nothing bounds it."""
        return None if self._live.run.rehearsal else self._live.bounds.unkept(model)

    def close(self) -> None:
        """Stop watching, once the end of the attempt is written; what it has cost counts until that was read."""
        self._live.closed = True
        self._purse.note()


class _Own(NamedTuple):
    bounds: Bounds
    usual_usd: float | None


def _bounds(c: sqlite3.Connection, run: Run) -> _Own:
    if run.rehearsal:
        return _Own(Bounds(), None)
    bounds = bounds_of_run(c, run)
    usual = None if run.job_id is None or not bounds.breaker else runs.usual_cost(c, run.job_id)
    return _Own(bounds, usual)


def _by_itself(live: _Live) -> Reached | None:
    """Tell whether the run alone has cost too much."""
    cost, bound = live.cost_usd, live.bounds.run_usd
    if bound is not None and cost >= bound:
        said = f"it has cost {in_dollars(cost)}, and its budget is {in_dollars(bound)}"
        return Reached(Scope.RUN, UNREADABLE if bound == 0 else said, None, bound)
    times, usual = live.bounds.breaker, live.usual_usd
    if not times or usual is None:
        return None
    most = max(times * usual, usual + MARGIN_USD)
    if cost <= most:
        return None
    return Reached(
        Scope.BREAKER,
        f"it has cost {in_dollars(cost)}, more than {times:g} times what is usual for its job, {in_dollars(usual)}",
        None,
        most,
    )


def _look(c: sqlite3.Connection, mine: list[_Live], now: datetime) -> tuple[_Look, Mapping[str, Bounds]]:
    """Read what others spend, and what bounds each run as far as that can be read."""
    bounds = {}
    for live in mine:
        with suppress(InvalidError):  # its job was spoiled by hand meanwhile
            bounds[live.run.id] = Bounds() if live.run.rehearsal else bounds_of_run(c, live.run)
    zone = settings.owners_zone(c)
    written = {live.run.id: runs.cost_so_far(c, live.run.id) for live in mine}
    ended = frozenset(run_id for run_id, cost in written.items() if cost is None)
    spent = {}
    keys = {live.key(scope) for live in mine for scope in bounds.get(live.run.id, live.bounds).together()}
    for key in keys:
        scope, whose = key
        own = sum(written[live.run.id] or 0.0 for live in mine if live.counts_for(key))
        spent[key] = spent_in(c, scope, whose or None, period_of(scope, now, zone)) - own
    return _Look(now, zone, spent, ended), bounds
