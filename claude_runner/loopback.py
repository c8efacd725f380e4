"""Serves an ASGI application to this machine alone, on a port that the system chooses, and stops without waiting.

For what the server says to the programs it starts: the stand-in model and the tools of runs. Uvicorn's own `serve`
takes over the process's signals and looks ten times a second whether to stop; here it does neither.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

STOP_SECONDS: Final = 0.2  # what requests under way get to notice that they are over


@asynccontextmanager
async def listening(app: "ASGIApp", port: int = 0) -> AsyncIterator[str]:
    """Serve on 127.0.0.1 while the context is open, and yield the base URL.

    Args:
        app: Who answers. When the context is left, its clients count as gone.
        port: Where to listen; 0 takes a free port.

    Raises:
        OSError: The port is taken.
    """
    import uvicorn  # noqa: PLC0415 - a server that only answers over stdio starts without

    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", loop="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        await server.startup([listener])
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await _stop(server)


async def _stop(server: "uvicorn.Server") -> None:
    # Not `shutdown`, which lets answers finish: a client that reads slowly would decide when this ends.
    for listener in server.servers:
        listener.close()
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    late = await _ended(server.server_state.tasks)
    for task in late:
        task.cancel()
    await _ended(late)


async def _ended(tasks: Collection[asyncio.Task[None]]) -> Collection[asyncio.Task[None]]:
    """Return the tasks that have not ended after `STOP_SECONDS`."""
    return (await asyncio.wait(set(tasks), timeout=STOP_SECONDS))[1] if tasks else ()
