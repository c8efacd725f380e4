"""The webhooks as deliveries meet them: in memory, found by the hash of a token, until somebody changes one."""

import asyncio
import logging
from dataclasses import dataclass

from claude_runner.config import Clock
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.hub import Subscription
from claude_runner.webhooks import Holds, Template, Webhook, Webhooks, hash_of

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Allowance:
    """How much may be taken still: it fills up evenly and holds a minute's worth (a token bucket)."""

    per_minute: int
    at: float
    left: float

    def take(self, now: float) -> float:
        """Take one, and return 0; or return in how many seconds there is one."""
        self.left = min(self.per_minute, self.left + (now - self.at) * self.per_minute / 60)
        self.at = now
        if self.left >= 1:
            self.left -= 1
            return 0.0
        return (1 - self.left) * 60 / self.per_minute


@dataclass(slots=True)
class Entrance:
    """A webhook as deliveries meet it, with what was read of it once.

    Attributes:
        accepted: What it may still take.
        refused: How many refusals may still be written down: who has no signature takes nothing from the others.
    """

    webhook: Webhook
    template: Template
    holds: Holds | None
    accepted: Allowance
    refused: Allowance


class Entrances:
    """Where deliveries come in."""

    def __init__(self, kept: Webhooks, changes: Subscription, clock: Clock) -> None:
        self._webhooks = kept
        self._changes = changes
        self._changes.changed.set()  # nothing was read yet
        self._clock = clock
        self._reading = asyncio.Lock()
        self._entrances: dict[str, Entrance] = {}

    async def at(self, token: str) -> Entrance:
        """Return where deliveries with this token come in.

        Raises:
            NotFoundError: No webhook has it.
        """
        if (
            self._changes.changed.is_set() or self._reading.locked()
        ):  # while they are read, those there are are old
            async with self._reading:
                if self._changes.changed.is_set():
                    await self._read()
        return self._found(hash_of(token))

    async def again(self, entrance: Entrance) -> Entrance:
        """Return the entrance as it is now, where another process has changed its webhook.

        Raises:
            NotFoundError: Its token lets in no more.
        """
        async with self._reading:
            await self._read()
        return self._found(entrance.webhook.token_sha256)

    def _found(self, token_sha256: str) -> Entrance:
        found = self._entrances.get(token_sha256)
        if found is None:
            raise NotFoundError(
                "there is no webhook at this address; ask whoever set it up for the one it has now"
            )
        return found

    async def _read(self) -> None:
        self._changes.take()
        before = {it.webhook.id: it for it in self._entrances.values()}
        entrances = {}
        try:
            for webhook in await self._webhooks.readable():
                try:
                    entrances[webhook.token_sha256] = self._made(webhook, before.get(webhook.id))
                except InvalidError as error:
                    log.warning("webhook %s takes no deliveries: %s", webhook.id, error)
        except BaseException:
            self._changes.changed.set()
            raise
        self._entrances = entrances

    def _made(self, webhook: Webhook, before: Entrance | None) -> Entrance:
        """Read a webhook; what it has taken of late still counts."""
        now, most = self._clock.elapsed(), webhook.max_per_minute
        made = Entrance(
            webhook, webhook.template, webhook.holds, Allowance(most, now, most), Allowance(most, now, most)
        )
        if before is not None and before.webhook.max_per_minute == most:
            made.accepted, made.refused = before.accepted, before.refused
        return made
