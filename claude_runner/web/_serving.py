"""Serves the site on its port, which another process may hold."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from claude_runner.config import Settings
from claude_runner.errors import UnavailableError
from claude_runner.web._site import Site

RETRY_SECONDS: Final = 5
CLOSE_SECONDS: Final = 1
DATE_SECONDS: Final = 1
MOST_CONNECTIONS: Final = 12_000
MOST_DESCRIPTORS: Final = 16_384
OTHER_DESCRIPTORS: Final = 128  # what the rest of the program has open: files, programs that it started

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to us, and waits for its end instead of looking ten times a second.

    The stock one raises signals again, before the application has closed.
    """

    def __init__(self, config: uvicorn.Config, end: asyncio.Event) -> None:
        super().__init__(config)
        self._end = end

    async def main_loop(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Keep the time in the answers' heads until told to stop."""
        while not await self.on_tick(0) and not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), DATE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # type: ignore[explicit-override]
        """Close; where nobody is connected there is nothing to wait for."""
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Capture nothing."""
        yield


async def serve_site(site: Site, settings: Settings, stop: asyncio.Event, *, patient: bool) -> None:
    """Serve until told to stop.

    Args:
        site: What to serve.
        settings: Tell where to listen, and which proxies are believed.
        stop: Set when it is time to end.
        patient: Where the port is taken, warn and try again every few seconds instead of raising.

    Raises:
        UnavailableError: The port can't be had.
    """
    listening = await _listen(settings.host, settings.port, stop, patient=patient)
    if listening is None:
        return
    with listening:
        end = asyncio.Event()
        server = _Server(_config(site, settings, _most_connections()), end)
        async with site.open():
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            log.info("the site is at http://%s:%d", settings.host, listening.getsockname()[1])
            try:
                await stop.wait()
            finally:
                end.set()
                ending = asyncio.create_task(_end(site, serving))
                try:
                    await asyncio.shield(ending)
                except asyncio.CancelledError:
                    await ending  # whoever told it to stop may not wait; it takes no longer than it must
                    raise


async def _end(site: Site, serving: "asyncio.Task[None]") -> None:
    await site.finish()
    await serving


def _config(site: Site, settings: Settings, most_connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        site,
        http=_protocol(),
        loop="none",  # the one that runs
        log_config=None,
        access_log=False,  # it would hold the tokens of webhooks
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=most_connections,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies),
    )


def _most_connections() -> int:
    """Take as many file descriptors as the system gives, and return how many connections those are enough for.

    The usual 1,024 are taken by as many idle clients, and then the program can open no file and start no run.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    # A quarter above comes before it is refused; see BoundedProtocol.
    return max(1, min(MOST_CONNECTIONS, (most - OTHER_DESCRIPTORS) * 4 // 5))


def _protocol() -> "type[asyncio.Protocol] | str":
    """Return how requests are read: the parser in C where there is one, else Python's own, which has bounds as well."""
    try:
        from claude_runner.web._protocol import BoundedProtocol  # noqa: PLC0415 - not on Windows
    except ImportError:
        return "h11"
    return BoundedProtocol


async def _listen(host: str, port: int, stop: asyncio.Event, *, patient: bool) -> socket.socket | None:
    """Bind the port; `None` where it was not to be had before the stop."""
    warned = False
    while not stop.is_set():
        try:
            return _bind(host, port)
        except OSError as error:
            why = (
                f"can't listen on {host}:{port} ({error.strerror}); set PORT to another or end what holds it"
            )
            if not patient:
                raise UnavailableError(why) from error
            if not warned:
                log.warning("%s. It is tried again every %d seconds; stdio is served.", why, RETRY_SECONDS)
                warned = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RETRY_SECONDS)
    return None


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=2048)
    # Connections have it from here: asyncio sets it only where a socket names its protocol. Without it an answer's body
    # waits 40 ms for the client to acknowledge its head (RFC 1122, section 4.2.3.2).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return bound
