"""A tool server that is reached by a URL: somebody else's process, over Streamable HTTP."""

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from claude_runner.errors import ServerFailedError
from claude_runner.pool._session import MAX_RESULT, Json, too_long
from claude_runner.pool._tools import MAX_TOOLS, listed
from claude_runner.servers import PLACEHOLDER, Server

if TYPE_CHECKING:
    from fastmcp import Client


class Remote:
    """A connection to such a server."""

    def __init__(self, client: "Client[Any]") -> None:
        self._client = client
        self._stack = contextlib.AsyncExitStack()
        self._tools: tuple[Json, ...] = ()
        self._failed = False

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked; after a failure a new connection is tried."""
        return not self._failed and self._client.is_connected()

    async def open(self) -> None:
        """Connect and have it list its tools."""
        await self._stack.enter_async_context(self._client)
        tools = await self._client.list_tools()
        dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
        if len(dumped) > MAX_TOOLS:
            raise ServerFailedError(f"it lists more than {MAX_TOOLS} tools")
        self._tools = tuple(listed(dumped))

    async def tools(self) -> tuple[Json, ...]:
        """Return what it listed."""
        return self._tools

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came; raises `ServerFailedError`."""
        try:
            result = await self._client.call_tool_mcp(tool, dict(arguments))
        except Exception as error:
            self._failed = True
            raise ServerFailedError(f"{type(error).__name__}: {error}") from error
        answer: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        if (size := len(json.dumps(answer))) > MAX_RESULT:
            raise too_long(size)
        return answer

    async def close(self) -> None:
        """Disconnect."""
        self._failed = True
        with contextlib.suppress(Exception):  # it may have gone, or refuse to be left
            await self._stack.aclose()

    async def kill(self, _why: str) -> None:
        """Disconnect: the process is not ours to end."""
        await self.close()


async def connect(server: Server, credentials: Mapping[str, str], seconds: float) -> Remote:
    """Connect to a server of a URL.

    Args:
        server: Which; its headers name credentials as `${NAME}`.
        credentials: The server's own, by name.
        seconds: How long it may take.

    Raises:
        ServerFailedError: It can't be reached, does not answer in time, or a credential in a header is not set.
    """
    from fastmcp import Client  # noqa: PLC0415 - only who has such a server needs it
    from fastmcp.client.transports import StreamableHttpTransport  # noqa: PLC0415 - as above

    headers = {name: _filled(value, credentials) for name, value in server.headers.items()}
    remote = Remote(Client(StreamableHttpTransport(server.url or "", headers=headers)))
    try:
        async with asyncio.timeout(seconds):
            await remote.open()
    except TimeoutError as error:
        await remote.close()
        raise ServerFailedError(f"{server.url} did not answer within {seconds:g} seconds") from error
    except Exception as error:
        await remote.close()
        raise ServerFailedError(f"{server.url} can't be used: {type(error).__name__}: {error}") from error
    except BaseException:
        await remote.close()
        raise
    return remote


def _filled(value: str, credentials: Mapping[str, str]) -> str:
    """Return a header's value with credentials in the place of their names."""

    def credential(found: re.Match[str]) -> str:
        if found[1] not in credentials:
            raise ServerFailedError(f"it lacks {found[1]}; set_server_credential sets what a server needs")
        return credentials[found[1]].strip()

    return PLACEHOLDER.sub(credential, value)
