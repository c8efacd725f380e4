"""Keeps the redactor up to date with the credentials: nothing is given to a server that would not be taken out."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from claude_runner.config import Clock
from claude_runner.credentials import Credentials
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub, Topic
from claude_runner.redaction import Redactor
from claude_runner.servers import Servers

AGAIN_SECONDS: Final = 5.0
FORMER_SECONDS: Final = (
    3600.0  # a value that was replaced goes on being secret: a process or a run may have it still
)

Secret = tuple[str, str]  # name and value

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Secrecy:
    """Tells the redactor which values are secret: all but those whose server declares them not to be.

    A value that was changed or deleted stays secret for another hour.
    """

    servers: Servers
    credentials: Credentials
    redactor: Redactor
    hub: Hub
    clock: Clock
    _current: set[Secret] = field(default_factory=set)
    _former: dict[Secret, float] = field(default_factory=dict)  # and until when they are kept

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
        secrets = [
            secret
            for server, its_values in values.items()
            for secret in its_values.items()
            if (server, secret[0]) not in open_ones
        ]
        self.redactor.set([*secrets, *self._kept(set(secrets))])

    def _kept(self, secrets: set[Secret]) -> list[Secret]:
        """Take note of what is secret now, and return what was until lately."""
        now = self.clock.elapsed()
        self._former.update(dict.fromkeys(self._current - secrets, now + FORMER_SECONDS))
        self._current.clear()
        self._current.update(secrets)
        for secret, until in list(self._former.items()):
            if until <= now or secret in secrets:
                del self._former[secret]
        return list(self._former)

    async def serve(self) -> None:
        """Refresh at every change, of this process or another."""
        with self.hub.subscribe(Topic.CREDENTIALS, Topic.SERVERS) as changes:
            changes.changed.set()  # what came before is unknown
            while True:
                await changes.changed.wait()
                changes.take()
                try:
                    await self.refresh()
                except Exception as error:
                    log.exception(
                        "the credentials can't be read to be kept secret; it is tried again in some seconds: %s",
                        error,  # noqa: TRY401 - the trace is left out where the sentence says it all
                        exc_info=not isinstance(error, RunnerError),
                    )
                    await self.clock.pause(asyncio.Event(), AGAIN_SECONDS)
                    changes.changed.set()
