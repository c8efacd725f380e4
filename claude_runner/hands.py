"""What runs and callers have tools by: servers, their credentials, the pool of their processes, and the way there."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from claude_runner.agent import sandbox_problem
from claude_runner.background import background
from claude_runner.config import Clock, Settings
from claude_runner.credentials import Credentials
from claude_runner.db import Database
from claude_runner.errors import RunnerError
from claude_runner.hub import Hub
from claude_runner.inside import Inside
from claude_runner.invocation import Invocations
from claude_runner.pool import Door, Environments, Patience, Pool
from claude_runner.reach import Reach
from claude_runner.redaction import Redactor
from claude_runner.runs import Runs
from claude_runner.secrecy import Secrecy
from claude_runner.servers import Servers
from claude_runner.settings import StoredSettings

log = logging.getLogger(__name__)


class Hands(NamedTuple):
    """What runs and callers have tools by."""

    redactor: Redactor
    servers: Servers
    credentials: Credentials
    secrecy: Secrecy
    pool: Pool
    reach: Reach
    door: Door
    invocations: Invocations


@asynccontextmanager
async def open_hands(
    database: Database,
    hub: Hub,
    clock: Clock,
    settings: Settings,
    stored: StoredSettings,
    runs: Runs,
    patience: Patience | None,
) -> AsyncIterator[Hands]:
    """Open what runs and callers have tools by; on leaving, every tool server is ended.

    Args:
        database: Where servers and credentials are kept.
        hub: Is told of changes.
        clock: The time.
        settings: The server's.
        stored: The owner's.
        runs: Where calls are written down.
        patience: How long tool servers may take; the pool's own where `None` is given.
    """
    redactor = Redactor()
    servers = Servers(database, hub, settings)
    credentials = Credentials(database, hub, settings)
    secrecy = Secrecy(servers, credentials, redactor, hub, clock)
    environments = Environments(settings, stored.install_dependencies)
    pool = Pool(settings, servers, credentials, environments, redactor, hub, clock, secrecy.refresh, patience)
    within = Inside(database, hub, clock, redactor.text)
    reach = Reach(database, settings, servers, credentials, pool, within, sandbox_problem)
    door = Door(pool, within, settings)
    invocations = Invocations(servers, pool, runs, redactor, clock)
    with redactor.guard_log():
        await _prepare(servers, secrecy, clock)
        async with background(secrecy.serve()), pool.open(), door.open():
            try:
                yield Hands(redactor, servers, credentials, secrecy, pool, reach, door, invocations)
            finally:
                await invocations.settled()


async def _prepare(servers: Servers, secrecy: Secrecy, clock: Clock) -> None:
    """Do what tool servers need at the start; what is in the way of that is in nobody else's."""
    try:
        await servers.add_samples(clock.now())
        await secrecy.refresh()
    except RunnerError as error:
        log.warning("tool servers: %s", error)
