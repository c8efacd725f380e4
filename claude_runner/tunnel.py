"""A tunnel of ngrok's to the site, for machines that nobody reaches from outside.

It is opened only where `NGROK_AUTHTOKEN` is set, and never to a site without a login. What keeps it from opening is one
line in the log, not the server's end.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final, Protocol, TypeVar

from claude_runner.addresses import Addresses
from claude_runner.config import Settings

CLOSE_SECONDS: Final = 3.0
SHOWN: Final = 300  # characters of what ngrok says that a line of the log repeats

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tunnel(Protocol):
    """A tunnel that is open.

    Attributes:
        public_url: Leads to the site.
    """

    public_url: str

    def close(self) -> None:
        """Close it; its process ends."""
        ...


Dig = Callable[[str, int], Tunnel]


@asynccontextmanager
async def open_tunnel(
    settings: Settings, addresses: Addresses, dig: Dig | None = None
) -> AsyncIterator[None]:
    """Keep a tunnel open, where one is wanted, and tell `addresses` of it.

    Args:
        settings: The server's.
        addresses: Learns the tunnel's URL, and that it is gone.
        dig: Opens a tunnel with an authtoken to a port; ngrok's where none is given.
    """
    if settings.ngrok_authtoken is None:
        yield
    elif settings.dashboard is None:
        log.warning("no tunnel: NGROK_AUTHTOKEN needs DASHBOARD_USERNAME and DASHBOARD_PASSWORD besides")
        yield
    else:
        opening = asyncio.create_task(
            _open(settings.ngrok_authtoken, settings.port, addresses, dig or NgrokTunnel)
        )
        try:
            yield
        finally:
            addresses.tunnel = None
            await _close(opening)


async def _open(token: str, port: int, addresses: Addresses, dig: Dig) -> Tunnel | None:
    """Open the tunnel on a thread, while the site serves already."""
    try:
        tunnel = await _aside(lambda: dig(token, port))
    except Exception as error:  # noqa: BLE001 - whatever a download, a process and a service may come to
        said = " ".join(str(error).replace(token, "[authtoken]").split())
        log.warning("no tunnel: ngrok says %s", said[:SHOWN] or type(error).__name__)
        return None
    addresses.tunnel = tunnel.public_url.rstrip("/")
    log.info("the tunnel is at %s", addresses.tunnel)
    return tunnel


async def _close(opening: "asyncio.Task[Tunnel | None]") -> None:
    """Close the tunnel, or what is becoming one; what does not close in time is left to die with this process."""
    done, _ = await asyncio.wait({opening}, timeout=CLOSE_SECONDS)
    if not done:
        opening.cancel()
        return
    tunnel = opening.result()
    if tunnel is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await _aside(tunnel.close)


async def _aside(call: Callable[[], T]) -> T:
    """Return what comes of a call on a thread that nobody waits for at the end: it may download for minutes."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settling: Callable[[Any], None], value: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if future.done() else settling(value))

    def work() -> None:
        try:
            settle(future.set_result, call())
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            settle(future.set_exception, error)

    Thread(target=work, name="ngrok", daemon=True).start()
    return await future


class NgrokTunnel:
    """A tunnel by ngrok's own program, which pyngrok fetches on first use and drives."""

    def __init__(self, token: str, port: int, program: Path | None = None) -> None:
        """Open it; `program` is ngrok's, where it is not to be the one that pyngrok fetches."""
        from pyngrok import conf, ngrok  # noqa: PLC0415 - only where a tunnel is wanted

        logging.getLogger("pyngrok").setLevel(logging.CRITICAL)  # it repeats what ngrok says, the token too
        self._ngrok = ngrok
        self._conf = conf.PyngrokConfig(
            auth_token=token, ngrok_path=None if program is None else str(program)
        )
        tunnel = ngrok.connect(str(port), "http", pyngrok_config=self._conf)
        self.public_url = str(tunnel.public_url)

    def close(self) -> None:
        """End ngrok's process."""
        self._ngrok.kill(self._conf)
