"""One process of a tool server, from its start to its end, with everything it starts."""

import asyncio
import contextlib
import json
import shutil
import signal
from asyncio import StreamReader, StreamWriter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from claude_runner.errors import ServerFailedError, unusable
from claude_runner.pool._session import MAX_LINE, MAX_RESULT, Json, RemoteError, Session
from claude_runner.pool._stderr import StderrLog
from claude_runner.pool._tools import MAX_TOOLS, listed
from claude_runner.processes import end_leftovers, guard_variables, guarded

MARK: Final = "CLAUDE_RUNNER_SERVER"  # each process of a server bears it
WORDS_SECONDS: Final = 2.0  # how long a dead server's last words are waited for
CLOSE_SECONDS: Final = 3.0  # its guard takes half a second to ask, and then kills
_PLAIN_CODES: Final = (None, 0, 1)  # exit codes that say nothing by themselves


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
    """A server's process."""

    def __init__(
        self, process: asyncio.subprocess.Process, workspace: Path, mark: str, log: StderrLog
    ) -> None:
        """Take over a process that was just started, its three streams piped; see `start_child`."""
        reader, errors = cast("StreamReader", process.stdout), cast("StreamReader", process.stderr)
        self._writer = cast("StreamWriter", process.stdin)
        self._process = process
        self._workspace = workspace
        self._mark = mark
        self._log = log
        self._session = Session(reader, self._writer)
        self._tools: tuple[Json, ...] = ()
        self._alive = True
        self._stderr = asyncio.create_task(log.drain(errors))
        self._hearing = asyncio.create_task(self._hear())
        self._ending: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Tell whether it can be asked."""
        return self._alive

    async def open(self) -> None:
        """Open the conversation and have it list its tools."""
        await self._session.initialize()
        self._tools = await self._listed()

    async def tools(self) -> tuple[Json, ...]:
        """Return what it lists; it is asked again only where it has said that this has changed."""
        if self._session.tools_changed:
            self._session.tools_changed = False
            self._tools = await self._listed()
        return self._tools

    async def call(self, tool: str, arguments: Json) -> Json:
        """Call a tool and return its result as it came (MCP, CallToolResult); raises `ServerFailedError`."""
        return await self._session.request("tools/call", {"name": tool, "arguments": arguments})

    async def close(self) -> None:
        """End it, gently first, with all that came of it."""
        self._writer.close()
        await self._gone(CLOSE_SECONDS)
        await self.kill("it was closed")

    async def kill(self, why: str) -> None:
        """End it at once, with all that came of it; who waits for an answer is told why."""
        self._alive = False
        self._session.end(why)
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)  # its guard does the rest
            if not await self._gone(CLOSE_SECONDS):
                self._signal(signal.SIGKILL)
                await self._process.wait()
        await asyncio.to_thread(end_leftovers, MARK, [self._mark])
        self._hearing.cancel()
        await asyncio.wait({self._stderr}, timeout=WORDS_SECONDS)
        self._stderr.cancel()
        await asyncio.wait({self._hearing, self._stderr})
        await asyncio.to_thread(shutil.rmtree, self._workspace, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _gone(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        return self._process.returncode is not None

    async def _hear(self) -> None:
        wrong = await self._session.hear()
        self._alive = False
        if wrong:
            self._session.end(wrong)
            self._signal(signal.SIGTERM)
        await self._gone(WORDS_SECONDS)
        await asyncio.wait({self._stderr}, timeout=WORDS_SECONDS)
        self._session.end(_epitaph(self._process.returncode, self._log.last_words()))

    async def _listed(self) -> tuple[Json, ...]:
        tools: list[Json] = []
        size = 0
        cursor: object = None
        while True:
            page = await self._session.request("tools/list", {} if cursor is None else {"cursor": cursor})
            tools += listed(page.get("tools"))
            size += len(json.dumps(page))
            cursor = page.get("nextCursor")
            if len(tools) > MAX_TOOLS:
                raise RemoteError(f"it lists more than {MAX_TOOLS} tools")
            if size > MAX_RESULT:
                raise RemoteError(f"its list of tools has more than {MAX_RESULT:,} bytes")
            if cursor is None:
                return tuple(tools)


async def start_child(launch: Launch, mark: str, log: StderrLog, seconds: float) -> Child:
    """Start a server and have it list its tools; of one that was not to be, nothing is left but its workspace.

    Args:
        launch: How it is started.
        mark: Tells its processes from all others.
        log: Where its standard error goes.
        seconds: How long it may take.

    Raises:
        ServerFailedError: It could not be started, ended, or did not answer in time.
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
        raise unusable(error, launch.folder) from error
    except asyncio.CancelledError:
        await asyncio.to_thread(end_leftovers, MARK, [mark])
        raise
    child = Child(process, launch.workspace, mark, log)
    try:
        async with asyncio.timeout(seconds):
            await child.open()
    except TimeoutError as error:
        await child.kill("it did not answer in time")
        said = log.last_words()
        raise ServerFailedError(
            f"it did not answer within {seconds:g} seconds{': ' + said if said else ''}; does its code end in a loop, "
            "or wait for something, before the server runs?"
        ) from error
    except BaseException:
        await child.kill("it was ended")
        raise
    return child


def _epitaph(code: int | None, words: str) -> str:
    """Return the sentence about a server that has ended by itself."""
    how = "" if code in _PLAIN_CODES else f" ({_named(code or 0)})"
    return f"the server has ended{how}{': ' + words if words else ' without a word'}"


def _named(code: int) -> str:
    """Return what an exit code says, of itself or as its guard passes it on: 128 and a signal's number."""
    try:
        return f"by {signal.Signals(-code if code < 0 else code - 128).name}"
    except ValueError:
        return f"exit code {code}"
