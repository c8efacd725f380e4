"""Keeps the redactor up to date with the credentials: nothing is given to a server that would not be taken out."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from claude_runner.config import Clock
from claude_runner.credentials import Credentials
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.redaction import Redactor
from claude_runner.servers import Servers

AGAIN_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secrecy:
    """Tells the redactor which values are secret: all but those whose server declares them not to be."""

    servers: Servers
    credentials: Credentials
    redactor: Redactor
    hub: Hub
    clock: Clock

    async def refresh(self) -> None:
        """Read the secrets anew.

        Raises:
            UnavailableError: They can't be read.
        """
        values = await self.credentials.everything()
        open_ones: set[tuple[str, str]] = set()
        if values:
            for server in await self.servers.list():
                open_ones |= {(server.name, it.name) for it in server.variables if not it.sensitive}
        self.redactor.set((key, value) for server, key, value in values if (server, key) not in open_ones)

    async def serve(self) -> None:
        """Refresh at every change, of this process or another."""
        with self._changes() as changed:
            while True:
                await changed.wait()
                changed.clear()
                try:
                    await self.refresh()
                except RunnerError as error:
                    log.warning("the credentials can't be read to be kept secret: %s", error)
                    await self.clock.pause(asyncio.Event(), AGAIN_SECONDS)
                    changed.set()

    @contextmanager
    def _changes(self) -> Iterator[asyncio.Event]:
        with self.hub.subscribe(Topic.CREDENTIALS, Topic.SERVERS) as changes:
            changes.changed.set()  # what came before is unknown
            yield changes.changed
