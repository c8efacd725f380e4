"""The owner's login in the browser: HTTP basic authentication (RFC 7617), throttled, and safe from other sites' forms.

Where no login is configured, only a browser on this machine is served: the connection comes from it, the Host header
names it, and no proxy stood between (whoever comes through a proxy on this machine comes from it, too).
"""

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from claude_runner.config import Clock, Login, Settings, is_loopback
from claude_runner.web._answers import error_answer

FREE_TRIES: Final = 5  # wrong logins before an address has to wait
LONGEST_WAIT_SECONDS: Final = 900.0
MOST_DOUBLINGS: Final = 10  # of a second, beyond the longest wait
REMEMBERED: Final = 10_000  # addresses whose wrong logins are counted

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES: Final = frozenset(
    {"same-origin", "none"}
)  # as browsers call it: this one, or whoever types an address
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Claude Runner", charset="UTF-8"'}
_FORWARDED: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
)


@dataclass(slots=True)
class _Failures:
    """Wrong logins from an address, and until when (on the clock's elapsed seconds) it has to wait."""

    count: int = 0
    wait_until: float = 0.0


class LoginGate:
    """Tells who is not let in."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._login = settings.dashboard
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    async def refusal(self, request: Request) -> Response | None:
        """Return the answer to whoever is not let in, `None` to the owner."""
        if _is_part_of_another_site(request) or (
            request.method not in _SAFE and _is_of_another_site(request)
        ):
            return error_answer(
                "cross_site",
                "this was sent by a page of another site; go to the page itself and try again",
                403,
            )
        if self._login is None:
            return None if _is_on_this_machine(request) else _closed()
        return self._check(request, self._login)

    def _check(self, request: Request, login: Login) -> Response | None:
        address = network_of(request)
        failures = self._failures.get(address)
        now = self._clock.elapsed()
        if failures is not None and failures.wait_until > now:
            seconds = ceil(failures.wait_until - now)
            return error_answer(
                "too_many_logins",
                f"too many wrong logins from your address; wait {seconds} seconds",
                429,
                headers={"Retry-After": str(seconds)},
            )
        given = _given(request)
        if given is not None and _is_same(given, login):
            self._failures.pop(address, None)
            return None
        if given is not None:
            self._count(address, now)
        return error_answer("login", "log in as the owner", 401, headers=_CHALLENGE)

    def _count(self, address: str, now: float) -> None:
        failures = self._failures.setdefault(address, _Failures())
        self._failures.move_to_end(address)
        failures.count += 1
        if failures.count >= FREE_TRIES:
            doublings = min(failures.count - FREE_TRIES, MOST_DOUBLINGS)
            failures.wait_until = now + min(2.0**doublings, LONGEST_WAIT_SECONDS)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)


def _is_of_another_site(request: Request) -> bool:
    """Tell whether a browser says that a page of another site made the request (Fetch Metadata; RFC 6454)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in _OWN_SITES:
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin.casefold() != request.state.origin


def _is_part_of_another_site(request: Request) -> bool:
    """Tell whether a page of another site loads it as a part of itself, rather than that somebody follows a link here.

    It could read nothing, but it would be served as the owner: it could tell by the time what he has, hold streams
    open, and have servers started (Fetch Metadata; "Resource Isolation Policy", https://web.dev/articles/fetch-metadata).
    """
    if request.headers.get("sec-fetch-site", "none") in _OWN_SITES:
        return False
    is_followed = request.headers.get("sec-fetch-mode", "navigate") == "navigate"
    return not is_followed or request.headers.get("sec-fetch-dest", "document") != "document"


def _is_on_this_machine(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    if (
        request.scope.get("http_version") == "1.0"
    ):  # which no browser speaks, and nginx does unless told otherwise
        return False
    return is_loopback(request.client.host) and is_loopback(request.url.hostname or "")


def _closed() -> Response:
    return error_answer(
        "no_login",
        "no login is configured, so only a browser on this machine is served: "
        "set DASHBOARD_USERNAME and DASHBOARD_PASSWORD and restart",
        403,
    )


def _given(request: Request) -> Login | None:
    """Return the name and secret of the request's header, `None` where it has none that can be read."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.casefold() != "basic":
        return None
    with suppress(binascii.Error, UnicodeDecodeError, ValueError):
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        return Login(name, secret) if colon else None
    return None


def _is_same(given: Login, login: Login) -> bool:
    """Compare in a time that tells nothing about either part or its length."""
    same = [
        hmac.compare_digest(hashlib.sha256(one.encode()).digest(), hashlib.sha256(other.encode()).digest())
        for one, other in zip(given, login, strict=True)
    ]
    return all(same)


def network_of(request: Request) -> str:
    """Return whose tries are counted together: an address, or the network that an IPv6 user has to himself."""
    host = "" if request.client is None else request.client.host
    with suppress(ValueError):
        address = ip_address(host)
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                return str(address.ipv4_mapped)
            return str(ip_network((address, 64), strict=False))
    return host
