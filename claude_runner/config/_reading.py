"""How the value of a variable is read; what can't be used is refused with the variable's name."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_network
from typing import Final
from urllib.parse import urlsplit

from claude_runner.errors import InvalidError

_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{0,5}))?")


def is_host(text: str) -> bool:
    """Tell whether a text is a name or an address as URLs and Host headers have it, and a port or none (RFC 3986, 3.2).

    A name has only what DNS and certificates know: one of other letters is there as `xn--…` (RFC 5891).
    """
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        return False
    if match["address"] is not None:
        try:
            IPv6Address(match["address"])
        except ValueError:
            return False
    return True


def choice(
    given: Mapping[str, str],
    name: str,
    default: str,
    choices: tuple[str, ...],
    fold: Callable[[str], str] = str.lower,
) -> str:
    """Return one of some words, however it is written."""
    value = fold(given.get(name, default).strip())
    if value not in choices:
        raise InvalidError(f"{name} is {value!r}; it must be one of {', '.join(choices)}", field=name)
    return value


def whole_number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a whole number within bounds."""
    text = given.get(name, str(default)).strip()
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise InvalidError(f"{name} is {text!r}; it must be a whole number from {low} to {high}", field=name)
    return int(text)


def pair(given: Mapping[str, str], name: str, secret: str) -> tuple[str, str] | None:
    """Return a name and the secret that goes with it; `None` where neither is given."""
    if (name in given) != (secret in given):
        there, missing = (name, secret) if name in given else (secret, name)
        raise InvalidError(f"{there} is set and {missing} is not; set both or neither", field=missing)
    return (given[name].strip(), given[secret]) if name in given else None


def long_enough(given: Mapping[str, str], name: str, least: int) -> str | None:
    """Return a text of at least so many characters; `None` where none is given."""
    value = given.get(name)
    if value is not None and len(value) < least:
        raise InvalidError(f"{name} has {len(value)} characters; it needs at least {least}", field=name)
    return value


def base_url(given: Mapping[str, str], name: str) -> str | None:
    """Return an http or https URL of a host alone, without a slash at its end."""
    text = given.get(name)
    if text is None:
        return None
    with suppress(ValueError):  # brackets that hold no address
        url = urlsplit(text.strip())
        plain = url.path in {"", "/"} and not url.query and not url.fragment
        if url.scheme in {"http", "https"} and is_host(url.netloc) and plain:
            return f"{url.scheme}://{url.netloc.lower()}"
    raise InvalidError(f"{name} is {text!r}; it must be like https://runner.example.org", field=name)


def networks(given: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return addresses and networks, as they are written."""
    text = given.get(name)
    networks = default if text is None else tuple(text.replace(",", " ").split())
    for network in networks:
        try:
            ip_network(network)
        except ValueError as error:
            raise InvalidError(
                f"{name} has {network!r}; it takes addresses and networks", field=name
            ) from error
    return networks
