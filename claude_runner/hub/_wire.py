"""Carries changes between the server processes of one home, over a Unix socket that the leader listens on.

One line a change: the topic, a space, the key. Whoever is connected hears what is published at the other end, and
a leader passes on what one of the others tells it. A line that can't be read is passed over: it is only a wake-up.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from claude_runner.hub._hub import Hub, Topic

LONGEST_PATH: Final = 100  # bytes; sun_path of unix(7) has 108, of macOS 104

log = logging.getLogger(__name__)


@asynccontextmanager
async def listen(hub: Hub, state: Path) -> AsyncIterator[None]:
    """Take in the other processes of the home while the context is open; only its leader may.

    Args:
        hub: Whose changes are exchanged.
        state: The home's private folder.
    """
    path = _socket_path(state)
    connections: set[asyncio.Task[None]] = set()

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(_exchange(hub, reader, writer))
        connections.add(connection)
        connection.add_done_callback(connections.discard)

    path.unlink(missing_ok=True)  # a leader before us that was killed has left it
    server = await asyncio.start_unix_server(welcome, path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        server.close()
        open_still = set(connections)
        for connection in open_still:
            connection.cancel()
        if open_still:
            await asyncio.wait(open_still)


@asynccontextmanager
async def join(hub: Hub, state: Path) -> AsyncIterator[asyncio.Task[None]]:
    """Exchange changes with the leader of the home; what is given ends when the leader has gone.

    Raises:
        OSError: There is no leader that listens.
    """
    reader, writer = await asyncio.open_unix_connection(_socket_path(state))
    connection = asyncio.create_task(_exchange(hub, reader, writer))
    try:
        yield connection
    finally:
        connection.cancel()
        await asyncio.wait({connection})


async def _exchange(hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass changes on in both directions until either end closes."""
    with hub.subscribe(*Topic) as local:

        async def hear() -> None:
            while line := await reader.readline():
                topic, _, key = line.decode("utf-8", "replace").strip().partition(" ")
                if topic in set(Topic):
                    hub.publish(Topic(topic), key, origin=local)

        async def tell() -> None:
            while True:
                await local.changed.wait()
                writer.writelines(f"{topic} {key}\n".encode() for topic, key in local.take())
                await writer.drain()

        talking = {asyncio.create_task(hear()), asyncio.create_task(tell())}
        try:
            done, _ = await asyncio.wait(talking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in talking:
                task.cancel()
            await asyncio.wait(talking)
            writer.close()
    for task in done:
        with contextlib.suppress(ConnectionError):
            task.result()


def _socket_path(state: Path) -> Path:
    """Return where the socket is: in the home's own folder, unless that path is too long for a socket."""
    path = state / "hub.sock"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    home = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"claude-runner-{os.getuid()}-{home}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder / "hub.sock"
