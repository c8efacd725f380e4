"""A tool server that is reached by a URL: somebody else's process, over Streamable HTTP."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from claude_runner.errors import ServerFailedError
from claude_runner.pool._session import Json
from claude_runner.servers import Server

if TYPE_CHECKING:
    from fastmcp import Client

_PLACEHOLDER: Final = re.compile(r"\$\{(\w+)\}")


class Remote:
    """A connection to such a server.

    Attributes:
        tools: What it listed, as it did.
    """

    def __init__(self, client: "Client[Any]") -> None:
        self.tools: tuple[Json, ...] = ()
        self._client = client
        self._stack = contextlib.AsyncExitStack()

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked."""
        return self._client.is_connected()

    async def open(self) -> None:
        """Connect and have it list its tools."""
        await self._stack.enter_async_context(self._client)
        listed = await self._client.list_tools()
        self.tools = tuple(tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed)

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came; raises `ServerFailedError`."""
        try:
            result = await self._client.call_tool_mcp(tool, dict(arguments))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise ServerFailedError(f"{type(error).__name__}: {error}") from error
        answer: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        return answer

    async def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(Exception):  # it may have gone, or refuse to be left
            await self._stack.aclose()

    async def kill(self) -> None:
        """Disconnect: the process is not ours to end."""
        await self.close()


async def connect(server: Server, credentials: Mapping[str, str], seconds: float) -> Remote:
    """Connect to a server of a URL.

    Args:
        server: Which; its headers name credentials as `${NAME}`.
        credentials: The server's own, by name.
        seconds: How long it may take.

    Raises:
        ServerFailedError: It can't be reached, or does not answer in time.
    """
    from fastmcp import Client  # noqa: PLC0415 - only who has such a server needs it
    from fastmcp.client.transports import StreamableHttpTransport  # noqa: PLC0415 - as above

    def filled(value: str) -> str:
        return _PLACEHOLDER.sub(lambda found: credentials.get(found[1], ""), value)

    headers = {name: filled(value) for name, value in server.headers.items()}
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
    return remote
