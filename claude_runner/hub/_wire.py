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

from claude_runner.hub._hub import Change, Hub, Subscription, Topic

# What was published while nobody listened is not known, so whoever joins says: look at everything again.
MISSED: Final = tuple(
    Change(topic, "")
    for topic in (Topic.JOBS, Topic.RUNS, Topic.SERVERS, Topic.CREDENTIALS, Topic.WEBHOOKS, Topic.AUTH)
)
LONGEST_PATH: Final = 100  # bytes; sun_path of unix(7) has 108, of macOS 104

log = logging.getLogger(__name__)


@asynccontextmanager
async def listen(hub: Hub, state: Path) -> AsyncIterator[Path]:
    """Take in the other processes of the home while the context is open; only its leader may. Gives the socket's path.

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
        yield path
    finally:
        path.unlink(missing_ok=True)
        server.close()
        open_still = set(connections)
        for connection in open_still:
            connection.cancel()
        if open_still:
            await asyncio.wait(open_still)
        if path.parent != state:
            with contextlib.suppress(OSError):  # it is not empty: somebody else's
                path.parent.rmdir()


@asynccontextmanager
async def join(hub: Hub, state: Path) -> AsyncIterator[asyncio.Task[None]]:
    """Exchange changes with the leader of the home; what is given ends when the leader has gone.

    Raises:
        OSError: There is no leader that listens.
    """
    reader, writer = await asyncio.open_unix_connection(_socket_path(state))
    connection = asyncio.create_task(_exchange(hub, reader, writer, MISSED))
    try:
        yield connection
    finally:
        connection.cancel()
        await asyncio.wait({connection})


async def _exchange(
    hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: tuple[Change, ...] = ()
) -> None:
    """Pass changes on in both directions until either end closes, after some that are told at once."""
    with hub.subscribe(*Topic) as local:
        for change in first:
            local.note(change)
        talking = {
            asyncio.create_task(_hear(hub, reader, local)),
            asyncio.create_task(_tell(writer, local)),
        }
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


async def _hear(hub: Hub, reader: asyncio.StreamReader, local: Subscription) -> None:
    """Publish here what the other end tells, until it closes."""
    while line := await reader.readline():
        topic, _, key = line.decode("utf-8", "replace").strip().partition(" ")
        if topic in set(Topic):
            hub.publish(Topic(topic), key, origin=local)


async def _tell(writer: asyncio.StreamWriter, local: Subscription) -> None:
    """Tell the other end what is published here; raises `ConnectionError` once it has gone."""
    while True:
        await local.changed.wait()
        if writer.is_closing():  # at which uvloop raises what is no ConnectionError
            raise ConnectionResetError("the other process has gone")
        writer.writelines(f"{topic} {key}\n".encode() for topic, key in local.take())
        await writer.drain()


def _socket_path(state: Path) -> Path:
    """Return where the socket is: in the home's own folder, unless that path is too long for a socket."""
    path = state / "hub.sock"
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    home = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    name = f"claude-runner-{os.getuid()}-{home}"
    folder = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(folder / path.name)) > LONGEST_PATH:
        folder = Path("/tmp") / name  # noqa: S108 - private, and looked at below
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder / path.name
