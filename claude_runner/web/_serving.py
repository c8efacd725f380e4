"""Serves the site on its port, which another process may hold."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from claude_runner.errors import UnavailableError

RETRY_SECONDS = 5
CLOSE_SECONDS = 2

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to us: the stock one raises them again, before the application has closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Capture nothing."""
        yield


async def serve_site(site: ASGIApp, host: str, port: int, stop: asyncio.Event, *, patient: bool) -> None:
    """Serve until told to stop.

    Args:
        site: What to serve.
        host: Address to listen on.
        port: Port to listen on.
        stop: Set when it is time to end.
        patient: Where the port is taken, warn and try again every few seconds instead of raising.

    Raises:
        UnavailableError: The port can't be had.
    """
    listening = await _listen(host, port, stop, patient=patient)
    if listening is None:
        return
    with listening:
        config = uvicorn.Config(
            site,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        log.info("the site is at http://%s:%d", host, listening.getsockname()[1])
        try:
            await stop.wait()
        finally:
            server.should_exit = True
            await serving


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
    return socket.create_server((host, port), family=family, backlog=2048)
