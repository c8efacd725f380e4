"""What access is given to: the server as it is reached at an origin, or an endpoint of it (RFC 8707)."""

from typing import Final
from urllib.parse import urlsplit

SCOPE: Final = "mcp"  # all that there is to ask for: the tools, with whatever rights the owner gave them
ENDPOINTS: Final = ("/mcp", "/sse")

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def resources_of(origin: str) -> frozenset[str]:
    """Return the resources of an origin: itself and its endpoints, which share their tokens."""
    return frozenset({origin, *(origin + path for path in ENDPOINTS)})


def canonical(uri: str) -> str | None:
    """Return a resource's URI in one form: lower-case scheme and host, no default port, no slash at the end.

    `None` where it is no http or https URL of a host and a path alone.
    """
    try:
        url = urlsplit(uri)
        port = url.port
    except ValueError:
        return None
    plain = not url.query and not url.fragment and "#" not in uri and "@" not in url.netloc
    if url.scheme not in _DEFAULT_PORTS or not url.hostname or not plain or not uri.isprintable():
        return None
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    shown = "" if port in {None, _DEFAULT_PORTS[url.scheme]} else f":{port}"
    return f"{url.scheme}://{host}{shown}{url.path.rstrip('/')}"
