"""Where the site is reached: the one place that knows its addresses.

A URL that leaves the machine begins with `PUBLIC_URL`, else the tunnel's, else the setting `webhook_base_url`, else
localhost. What a client sees (OAuth's issuer, a protected resource) begins with the origin that it came by, so that a
client on this machine and one on the other side of the world are both told what is right for them; only origins that
are known count, so that no Host header is ever believed (DNS rebinding).
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from claude_runner.config import Settings, is_host, is_loopback
from claude_runner.errors import InvalidError
from claude_runner.settings import StoredSettings

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(slots=True)
class Addresses:
    """The addresses of the site.

    Attributes:
        tunnel: Base URL of the tunnel to this process, while one is open.
    """

    settings: Settings
    stored: StoredSettings
    tunnel: str | None = None

    async def base(self) -> str:
        """Return what every URL that leaves the machine begins with, without a slash at its end."""
        return self._fixed or await self.stored.webhook_base_url() or self.local

    @property
    def local(self) -> str:
        """Return where the site is reached on this machine."""
        return f"http://localhost:{self.settings.port}"

    async def named(self, url: str) -> str:
        """Return the origin of a URL of ours, that of `base` where it is empty.

        Raises:
            InvalidError: It is not ours.
        """
        if not url:
            return origin_of(await self.base())
        with suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme in _DEFAULT_PORTS and (own := await self.origin(parts.netloc, parts.scheme)):
                return own
        raise InvalidError(
            f"{url!r} is not where this server is reached; {await self.base()} is", field="url"
        )

    async def origin(self, host: str, scheme: str) -> str | None:
        """Return the origin that a request came by (RFC 6454), or `None` where it is not one of ours.

        Args:
            host: The request's Host header: a name or an address, and a port where it is not the scheme's own.
            scheme: `http` or `https`, as the client or a trusted proxy has it.
        """
        if scheme not in _DEFAULT_PORTS or not is_host(host):
            return None
        host = host.lower()
        if (own := self._own(host, scheme)) is not None:
            return own
        for base in (self.settings.public_url, self.tunnel):
            if base is not None and same_host(base, host):
                return origin_of(base)
        stored = await self.stored.webhook_base_url()
        return origin_of(stored) if stored is not None and same_host(stored, host) else None

    def _own(self, host: str, scheme: str) -> str | None:
        """Return the origin where the host is this machine itself, by whatever port it was forwarded."""
        name = urlsplit(f"{scheme}://{host}").hostname or ""
        served = is_loopback(name) if is_loopback(self.settings.host) else self._names_this_machine(name)
        return origin_of(f"{scheme}://{host}") if served else None

    @staticmethod
    def _names_this_machine(name: str) -> bool:
        """Tell whether a name is an address, which no one else's DNS can point at us, or the machine's own."""
        try:
            ip_address(name)
        except ValueError:
            return is_loopback(name) or name == socket.gethostname().casefold()
        return True

    @property
    def _fixed(self) -> str | None:
        return self.settings.public_url or self.tunnel


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, the port only where it is not the scheme's own."""
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


def same_host(base: str, host: str) -> bool:
    """Tell whether a Host header is that of a base URL; the scheme's own port may be named or not."""
    return origin_of(base) == origin_of(f"{urlsplit(base).scheme}://{host}")
