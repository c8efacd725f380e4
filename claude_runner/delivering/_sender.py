"""The loop that sends what waits in the outbox, in the process that leads.

Each channel and each job's heartbeat is a lane: what waits there goes in order, and one that hangs or fails holds up
no other. What is sent is noted afterwards, so that a death in between sends it again: at least once.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from claude_runner import notifications
from claude_runner.addresses import Addresses
from claude_runner.config import Clock
from claude_runner.db import Connection, Database
from claude_runner.delivering._pings import Pings
from claude_runner.delivering._wording import worded
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.notifications import Channels, Claim, Courier, Delivered, Lane, Message, Parcel

FIRST_PAUSE: Final = timedelta(seconds=30)  # doubled with each failure
LONGEST_PAUSE: Final = timedelta(hours=1)
JITTER: Final = 0.2
REST: Final = timedelta(seconds=10)  # between two sendings to one channel: what comes meanwhile goes together
LONGEST_SLEEP: Final = timedelta(minutes=10)
PAUSE_AFTER_FAILURE: Final = timedelta(seconds=10)
TIDY_EVERY: Final = timedelta(hours=1)
PINGS_AT_ONCE: Final = 10
MAILS_AT_ONCE: Final = 2
BATCH: Final = 8  # channels that one process of Apprise sends to

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends what waits."""

    database: Database
    hub: Hub
    clock: Clock
    channels: Channels
    courier: Courier
    addresses: Addresses
    pings: Pings = field(default_factory=Pings)
    _busy: set[tuple[bool, str]] = field(default_factory=set)
    _resting: dict[str, datetime] = field(default_factory=dict)  # channels, and until when
    _pinging: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PINGS_AT_ONCE))
    _mailing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAILS_AT_ONCE))

    async def serve(self) -> None:
        """Send what is due, for ever; what goes wrong is logged and tried again."""
        try:
            await self._serve()
        finally:
            await self.pings.close()

    async def _serve(self) -> None:
        tidy_at = self.clock.now()
        topics = (Topic.OUTBOX, Topic.RUNS, Topic.CREDENTIALS, Topic.SERVERS)
        with self.hub.subscribe(*topics) as changes:
            async with asyncio.TaskGroup() as sending:
                while True:
                    taken = changes.take()
                    now = self.clock.now()
                    try:
                        if any(it.topic in {Topic.CREDENTIALS, Topic.SERVERS} for it in taken):
                            await self._hurry_mail(now)
                        if now >= tidy_at:
                            await self._tidy(now)
                            tidy_at = now + TIDY_EVERY
                        wake_at = await self._round(sending, changes.changed, now)
                    except Exception as error:
                        log.exception(
                            "what waits in the outbox could not be looked at; it is tried again soon: %s",
                            error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                            exc_info=not isinstance(error, RunnerError),
                        )
                        wake_at = now + PAUSE_AFTER_FAILURE
                    await self.clock.wait(changes.changed, wake_at)

    async def _round(self, sending: asyncio.TaskGroup, wake: asyncio.Event, now: datetime) -> datetime:
        """Begin to send what is due, and return when to look again."""
        lanes = await self.database.read(notifications.due)
        free = [it for it in lanes if (it.is_ping, it.key) not in self._busy]
        ready = [it for it in free if self._due_at(it) <= now]
        for batch in _batches(ready):
            self._busy.update((it.is_ping, it.key) for it in batch)
            sending.create_task(self._send(batch, wake))
        return min((now + LONGEST_SLEEP, *(self._due_at(it) for it in free if it not in ready)))

    def _due_at(self, lane: Lane) -> datetime:
        rested = None if lane.is_ping else self._resting.get(lane.key)
        return lane.at if rested is None else max(lane.at, rested)

    async def _send(self, lanes: Sequence[Lane], wake: asyncio.Event) -> None:
        """Send what is due in some lanes; what goes wrong with that is logged, and tried again after a while."""
        held = set(lanes)
        try:
            if lanes[0].is_ping:
                async with self._pinging:
                    await self._ping(lanes)
            elif lanes[0].is_mail:
                async with self._mailing:
                    await self._deliver(lanes, held)
            else:
                await self._deliver(lanes, held)
        except Exception as error:
            log.exception(
                "what waits in the outbox could not be sent; it is tried again in a while: %s",
                error,  # noqa: TRY401 - as above
                exc_info=not isinstance(error, RunnerError),
            )
            await self.clock.pause(asyncio.Event(), PAUSE_AFTER_FAILURE.total_seconds())
        finally:
            self._busy.difference_update((it.is_ping, it.key) for it in held)
            wake.set()

    async def _ping(self, lanes: Sequence[Lane]) -> None:
        now = self.clock.now()
        for claim in await self.database.write(lambda c: notifications.claim(c, lanes, now)):
            [it] = claim.first
            error = await self.pings.ping(it.ping_url or "", it.body)
            await self._settle(claim, 1 if error is None else 0, error)

    async def _deliver(self, lanes: Sequence[Lane], held: set[Lane]) -> None:
        now = self.clock.now()
        claims = await self.database.write(lambda c: notifications.claim(c, lanes, now))
        if not claims:
            return
        try:
            urls = await self.channels.urls({it.lane.key: it.sealed or "" for it in claims})
        except RunnerError as error:
            for claim in claims:
                await self._settle(claim, 0, str(error))
            return
        for claim in claims:
            if urls[claim.lane.key] is None:
                await self._settle(claim, 0, self.channels.unreadable)
        await self._bring([it for it in claims if urls[it.lane.key] is not None], urls, held)

    async def _bring(self, claims: Sequence[Claim], urls: Mapping[str, str | None], held: set[Lane]) -> None:
        """Send what is claimed; a lane of which it is known what came of it is free for what comes next."""
        base = await self.addresses.base()
        told: list[tuple[Message, ...]] = [worded(it, base) for it in claims]
        parcels = [
            Parcel(urls[it.lane.key] or "", messages) for it, messages in zip(claims, told, strict=True)
        ]
        if not parcels:
            return

        async def heard(done: Delivered) -> None:
            claim, messages = claims[done.place], told[done.place]
            whole = done.taken == len(messages)
            self._resting[claim.lane.key] = (
                self.clock.now() + REST
            )  # from now, however long it takes to note it
            await self._settle(claim, len(claim.ids) if whole else done.taken, done.error)
            held.discard(claim.lane)  # the others of the batch may take long
            self._busy.discard((claim.lane.is_ping, claim.lane.key))

        await self.courier.deliver(parcels, heard)

    async def _settle(self, claim: Claim, taken: int, error: str | None) -> None:
        """Note what of a claim was sent, and put the rest off."""
        now = self.clock.now()
        if error is not None:
            who = "a heartbeat" if claim.lane.is_ping else "a channel"
            log.info("%s (%s) did not take what there is to tell: %s", who, claim.lane.key, error)
        then = now + _pause(claim.attempts)

        def write(c: Connection) -> None:
            notifications.sent(c, claim.ids[:taken], now)
            if error is not None:
                notifications.put_off(c, claim, error, now, then)

        await self.database.write(write)
        self.hub.publish(Topic.OUTBOX, claim.lane.key)

    async def _hurry_mail(self, now: datetime) -> None:
        """Try mails again that could not be sent: what the mail server needs may be there now."""
        lanes = await self.database.read(notifications.due)
        mails = [it.key for it in lanes if it.is_mail and it.at > now]
        if mails:
            await self.database.write(lambda c: notifications.hurry(c, mails, now))

    async def _tidy(self, now: datetime) -> None:
        more = True
        while more:
            more = await self.database.write(lambda c: notifications.tidy(c, now))
        self.hub.publish(Topic.OUTBOX, "")
        for key in [key for key, until in self._resting.items() if until <= now]:
            self._resting.pop(key)


def _batches(lanes: Sequence[Lane]) -> list[Sequence[Lane]]:
    """Return what is sent together: some channels of Apprise; each mail and each ping by itself."""
    together = [it for it in lanes if not it.is_ping and not it.is_mail]
    alone: list[Sequence[Lane]] = [[it] for it in lanes if it.is_ping or it.is_mail]
    return [*alone, *(together[place : place + BATCH] for place in range(0, len(together), BATCH))]


def _pause(attempts: int) -> timedelta:
    """Return how long it is until the next attempt, after so many."""
    doubled = FIRST_PAUSE * (1 << min(attempts - 1, 20))
    return min(doubled, LONGEST_PAUSE) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
