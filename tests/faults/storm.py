"""A server under load that is killed again and again, and what has become of everything by the end."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from claude_runner.config import Settings, SystemClock
from tests.faults.ledger import Ledger, read_ledger
from tests.faults.load import LOAD, Prepared, Senders, prepare, settings_for
from tests.faults.servers import Server, left_of, nothing_left, now, within
from tests.scripted_model import ScriptedModel
from tests.served import access_token
from tests.sites import free_port

HANDOVER_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 3.0
LONGEST_ROUND: Final = 3.0  # seconds from a server's being up to its death
LONGEST_START: Final = 1.5  # within which it may be killed while it starts


@dataclass(frozen=True)
class Account:
    """What a storm came to.

    Attributes:
        kills: How many servers were killed or asked to end.
        handovers: How often another server was there to take over.
        wrong: What is not as it was promised, a sentence each.
        slowest_end: Seconds until nothing was left of what a server had started, the worst of all.
    """

    ledger: Ledger
    kills: int
    handovers: int
    wrong: tuple[str, ...]
    slowest_end: float

    @property
    def told(self) -> str:
        """What happened, for who wants to know how much the storm was."""
        return (
            f"{self.kills} kills, {self.handovers} handovers, nothing left after {self.slowest_end:.2f} s;"
            f" runs: {self.ledger.states}; slots: {self.ledger.told_fates}"
        )


async def storm(home: Path, model: ScriptedModel, kills: int, seed: int) -> Account:
    """Keep a home under load, kill its servers so many times, and read its books."""
    settings, environment = settings_for(home, model)
    clock = SystemClock()
    begun = clock.now()
    prepared = await prepare(settings, LOAD)
    token = await asyncio.to_thread(access_token, environment | {"RUNNER_HOME": str(settings.home)})
    chance = random.Random(seed)
    senders = Senders(prepared, token, chance)
    weather = Weather(settings, environment, senders, chance)
    await weather.start()
    try:
        async with senders.at_work():
            while weather.kills < kills:
                await weather.round()
        await asyncio.sleep(SETTLE_SECONDS)  # slots come, and runs end, with nobody in their way
        ended = clock.now() - timedelta(seconds=1)
    finally:
        await weather.calm()
    ledger = read_ledger(settings)
    wrong = [*senders.wrong, *weather.wrong, *audit(ledger, prepared, senders, model, begun, ended)]
    return Account(ledger, weather.kills, weather.handovers, tuple(wrong), weather.slowest_end)


class Weather:
    """The servers of a home, and their deaths.

    Attributes:
        kills: How many there were.
        handovers: How many of them with another server about.
        slowest_end: The worst seconds until nothing was left of what a dead one had started.
        wrong: What was not as it was promised.
    """

    def __init__(
        self, settings: Settings, environment: dict[str, str], senders: Senders, chance: random.Random
    ) -> None:
        self.kills = self.handovers = 0
        self.slowest_end = 0.0
        self.wrong: list[str] = []
        self._settings, self._environment = settings, environment
        self._senders, self._chance = senders, chance
        self._alive: list[Server] = []
        self._rounds = 0

    async def start(self) -> Server:
        """Start a server and see it serve."""
        server = await self._begin()
        await server.until(server.listens)
        self._senders.ports.append(server.port)
        return server

    async def round(self) -> None:
        """Let the server work for a while and kill it; now and then another is about, or dies as it starts."""
        [leader] = self._alive
        await leader.until(leader.leads)
        self._rounds += (
            1  # the first has two servers, the second one that is asked to end, however short the storm
        )
        other = await self.start() if self._rounds == 1 or self._chance.random() < 0.3 else None
        number = self._chance.choice([signal.SIGKILL] * 4 + [signal.SIGTERM])
        number = {1: signal.SIGKILL, 2: signal.SIGTERM}.get(self._rounds, number)
        await asyncio.sleep(self._chance.uniform(0, LONGEST_ROUND))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._senders.burst())
            await asyncio.sleep(self._chance.uniform(0, 0.1))
            await self._kill(leader, number)
            if other is not None:
                self.handovers += 1
                await within(HANDOVER_SECONDS, "a handover", other.until(other.leads))
                return
            while self._chance.random() < 0.25:
                starting = await self._begin()
                await asyncio.sleep(self._chance.uniform(0, LONGEST_START))
                await self._kill(starting, signal.SIGKILL)
            await self.start()

    async def calm(self) -> None:
        """Ask the servers to end, and see nothing left."""
        while self._alive:
            await self._kill(self._alive[-1], signal.SIGTERM, counts=False)

    async def _begin(self) -> Server:
        server = Server(self._settings.home, free_port(), self._environment)
        await server.start()
        self._alive.append(server)
        return server

    async def _kill(self, server: Server, number: signal.Signals, *, counts: bool = True) -> None:
        self.kills += counts
        self._alive.remove(server)
        if number is signal.SIGTERM and server.port in self._senders.ports:
            self._senders.ports.remove(server.port)  # nobody is sent to one that is known to end
        if server.exit_code is not None:
            self.wrong.append(
                f"a server ended by itself with {server.exit_code}:\n{''.join(server.said[-30:])}"
            )
        sent = await server.end(number)
        if server.port in self._senders.ports:
            self._senders.ports.remove(server.port)
        gone = now()
        if number is signal.SIGTERM and server.exit_code != 0:
            self.wrong.append(f"a server that was to end did with {server.exit_code}")
        if traces := [line for line in server.said if "Traceback" in line]:
            self.wrong.append(f"a server's log has {len(traces)} traces:\n{''.join(server.said[-60:])}")
        pids = {each.pid for each in self._alive} | {os.getpid()}
        before = sent if self._alive else gone  # of what came later it is not known whose it is
        took, left = await nothing_left(lambda: left_of(self._settings.home, before, pids), gone)
        self.slowest_end = max(self.slowest_end, took)
        self.wrong += [f"{took:.1f} s after {number.name}: {each.told}" for each in left]


def audit(
    ledger: Ledger,
    prepared: Prepared,
    senders: Senders,
    model: ScriptedModel,
    begun: datetime,
    ended: datetime,
) -> list[str]:
    """Return what in the books of a home is not as it was promised, a sentence each."""
    integrity = [] if ledger.integrity == "ok" else [f"the database: {ledger.integrity}"]
    return [
        *integrity,
        *ledger.answered([*senders.taken.values(), *senders.triggered]),
        *ledger.posted([*senders.taken]),
        *ledger.fates(prepared.jobs, begun, ended),
        *ledger.of_slots(prepared.jobs),
        *ledger.executed(prepared.jobs, model.requests),
    ]
