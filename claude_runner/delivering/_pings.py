"""Pings of heartbeats, in Healthchecks' form (https://healthchecks.io/docs/http_api/)."""

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx2

SECONDS: Final = 10.0
MAX_REDIRECTS: Final = 3


class Pings:
    """Pings addresses."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def ping(self, url: str, body: str) -> str | None:
        """Post to an address; returns what was wrong, `None` where it was taken.

        A redirect is followed where it keeps the scheme, so that nobody is led from https to what can be read on the
        way, or to anything that is no web at all.
        """
        import httpx2  # noqa: PLC0415 - a server without heartbeats does without

        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=SECONDS)
        try:
            async with asyncio.timeout(SECONDS):
                return await self._post(self._client, url, body)
        except TimeoutError:
            return f"{_host(url)} did not answer within {SECONDS:g} seconds"
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            return f"{_host(url)} can't be reached: {type(error).__name__}"

    async def close(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, client: "httpx2.AsyncClient", url: str, body: str) -> str | None:
        request = client.build_request(
            "POST", url, content=body.encode(), headers={"content-type": "text/plain; charset=utf-8"}
        )
        scheme = request.url.scheme
        for _ in range(MAX_REDIRECTS + 1):
            response = await client.send(request, stream=True)
            await response.aclose()  # what it says is nothing to us, however long it is
            following = response.next_request
            if following is None:
                return None if response.is_success else f"{_host(url)} answered {response.status_code}"
            if following.url.scheme != scheme:
                return f"{_host(url)} sends on from {scheme} to {following.url.scheme}; give the address that is meant"
            request = following
        return f"{_host(url)} sends on and on"


def _host(url: str) -> str:
    """Return whose an address is: the rest of it lets anybody ping who knows it."""
    return urlsplit(url).netloc.rpartition("@")[2]
