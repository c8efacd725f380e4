"""One process of a tool server, from its start to its end, with everything it starts."""

import asyncio
import contextlib
import shutil
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from claude_runner.errors import ServerFailedError, unusable
from claude_runner.pool._session import MAX_LINE, Json, RemoteError, Session
from claude_runner.pool._stderr import StderrLog
from claude_runner.processes import end_leftovers, guard_variables, guarded

MARK: Final = "CLAUDE_RUNNER_SERVER"  # each process of a server bears it
WORDS_SECONDS: Final = 2.0  # how long a dead server's last words are waited for
CLOSE_SECONDS: Final = 3.0  # its guard takes half a second to ask, and then kills
MAX_TOOLS: Final = 500


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started.

    Attributes:
        command: The program and its arguments.
        environment: All the variables it gets.
        folder: Where it works.
        workspace: A folder for its temporary files, which goes with it.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    workspace: Path


class Child:
    """A server's process.

    Attributes:
        tools: What it listed, as it did.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, workspace: Path, mark: str, log: StderrLog
    ) -> None:
        """Take over a process that was just started, its three streams piped; see `start_child`."""
        reader, errors = cast("StreamReader", process.stdout), cast("StreamReader", process.stderr)
        self._writer = cast("StreamWriter", process.stdin)
        self.tools: tuple[Json, ...] = ()
        self._process = process
        self._workspace = workspace
        self._mark = mark
        self._log = log
        self._session = Session(reader, self._writer)
        self._stderr = asyncio.create_task(log.drain(errors))
        self._hearing = asyncio.create_task(self._hear())

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked."""
        return not self._hearing.done()

    async def open(self) -> None:
        """Open the conversation and have it list its tools."""
        await self._session.initialize()
        self.tools = await self._listed()

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came (MCP, CallToolResult); raises `ServerFailedError`."""
        return await self._session.request("tools/call", {"name": tool, "arguments": arguments})

    async def close(self) -> None:
        """End it, gently first, with all that came of it."""
        self._writer.close()
        await self._gone(CLOSE_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End it at once, with all that came of it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)  # its guard does the rest
            if not await self._gone(CLOSE_SECONDS):
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        await asyncio.to_thread(end_leftovers, MARK, [self._mark])
        self._hearing.cancel()
        await asyncio.wait({self._stderr}, timeout=WORDS_SECONDS)
        self._stderr.cancel()
        await asyncio.wait({self._hearing, self._stderr})
        self._session.end("it was ended")
        await asyncio.to_thread(shutil.rmtree, self._workspace, ignore_errors=True)

    async def _gone(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        return self._process.returncode is not None

    async def _hear(self) -> None:
        wrong = await self._session.hear()
        await asyncio.wait({self._stderr}, timeout=WORDS_SECONDS)
        self._session.end(wrong or self._log.last_words())

    async def _listed(self) -> tuple[Json, ...]:
        tools: list[Json] = []
        cursor: str | None = None
        while len(tools) < MAX_TOOLS:
            page = await self._session.request("tools/list", {} if cursor is None else {"cursor": cursor})
            listed = page.get("tools")
            if not isinstance(listed, list) or not all(_is_tool(tool) for tool in listed):
                raise RemoteError("it lists its tools in a form that can't be read")
            tools += listed
            cursor = page.get("nextCursor")
            if cursor is None:
                return tuple(tools)
        raise RemoteError(f"it lists more than {MAX_TOOLS} tools")


async def start_child(launch: Launch, mark: str, log: StderrLog, seconds: float) -> Child:
    """Start a server and have it list its tools.

    Args:
        launch: How it is started.
        mark: Tells its processes from all others.
        log: Where its standard error goes.
        seconds: How long it may take.

    Raises:
        ServerFailedError: It could not be started, ended, or did not answer in time; nothing of it is left.
        UnavailableError: The system refused to start anything.
    """
    environment = {**launch.environment, MARK: mark}
    try:
        process = await asyncio.create_subprocess_exec(
            *guarded(launch.command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**environment, **guard_variables(environment)},
            cwd=launch.folder,
            limit=MAX_LINE,
            start_new_session=True,
        )
    except OSError as error:
        await asyncio.to_thread(shutil.rmtree, launch.workspace, ignore_errors=True)
        raise unusable(error, launch.folder) from error
    child = Child(process, launch.workspace, mark, log)
    try:
        async with asyncio.timeout(seconds):
            await child.open()
    except TimeoutError as error:
        await child.kill()
        said = log.last_words()
        raise ServerFailedError(
            f"it did not answer within {seconds:g} seconds{': ' + said if said else ''}; does its code end in a loop, "
            "or wait for something, before the server runs?"
        ) from error
    except BaseException:
        await asyncio.shield(asyncio.create_task(child.kill()))
        raise
    return child


def _is_tool(tool: object) -> bool:
    return (
        isinstance(tool, dict)
        and isinstance(tool.get("name"), str)
        and isinstance(tool.get("inputSchema"), dict)
    )
