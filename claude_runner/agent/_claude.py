"""Runs prompts through the Claude Agent SDK, which drives the Claude Code CLI its wheel brings."""

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from claude_runner.agent._endings import ending_of_failure, ending_of_result, ending_without
from claude_runner.agent._environment import RUN_MARK
from claude_runner.agent._hooks import hooks_for
from claude_runner.agent._options import StderrTail, options_of, pid_file, shell_file, write_launcher
from claude_runner.agent._prices import FREE, rates_of
from claude_runner.agent._protocol import Listener, Order, Stop
from claude_runner.agent._servers import missing_servers
from claude_runner.agent._sessions import KeptSessions
from claude_runner.config import Settings
from claude_runner.processes import end_leftovers
from claude_runner.runs import Ending, State

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions

CLI_MISSING: Final = (
    "there is no Claude Code program on this machine: install the requirements again "
    "(pip install -r requirements.txt), or put `claude` on the PATH"
)
INTERRUPT_SECONDS: Final = (
    0.4  # how long an interrupted CLI gets to tell the cost so far; it takes 20 to 60 ms
)
SIGNAL_EVERY_SECONDS: Final = 0.1

log = logging.getLogger(__name__)


class ClaudeAgent:
    """Executes orders with Claude Code, each in a process tree that ends with it."""

    def __init__(self, settings: Settings, cli: Path | None = None) -> None:
        self._settings = settings
        self._cli = cli or find_cli()
        self._launcher: Path | None = None

    async def warm_up(self) -> None:
        """Import the SDK, which takes a good half second, before the first run needs it."""
        await asyncio.to_thread(importlib.import_module, "claude_runner.agent._transcript")

    async def execute(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        """Execute the order to its end; see `Agent`."""
        if self._cli is None or not os.access(self._cli, os.X_OK):
            return Ending(State.ERROR, reason="cli_missing", error=CLI_MISSING)
        await self.warm_up()
        if self._launcher is None:
            self._launcher = write_launcher(self._settings.state, self._cli)
        async with self._workspace(order) as workspace:
            stderr = StderrTail()
            sessions = None if order.transcripts is None else KeptSessions(order.transcripts)
            options = options_of(order, self._settings, self._launcher, workspace, sessions, stderr.note)
            options.hooks = hooks_for(listener, sessions)
            return await _Conversation(order, options, stderr, listener, pid_file(workspace)).hold(stop)

    async def end_leftovers(self, run_ids: Collection[str]) -> int:
        """End the processes that runs of a server that died have left; see `Agent`."""
        return await asyncio.to_thread(_sweep, run_ids, self._settings.state)

    @asynccontextmanager
    async def _workspace(self, order: Order) -> AsyncIterator[Path]:
        """Make a folder for the run's temporary files, which goes when the run has ended.

        In the system's folder for such: the CLI makes sockets there, whose paths may not be long.
        """
        workspace = Path(tempfile.mkdtemp(prefix=_prefix(order.run_id)))
        try:
            yield workspace
        finally:
            shell_file(self._settings.state, order.run_id).unlink(missing_ok=True)
            # On a thread: how much a run has left there is the run's doing, and must not hold the others up.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, workspace, ignore_errors=True))


def _prefix(run_id: str) -> str:
    return f"claude-runner-{run_id}-"


def _sweep(run_ids: Collection[str], state: Path) -> int:
    """End the processes of the runs, remove their temporary files, and return how many processes there were."""
    ended = end_leftovers(RUN_MARK, run_ids)
    for run_id in run_ids:
        shell_file(state, run_id).unlink(missing_ok=True)
        for folder in Path(tempfile.gettempdir()).glob(f"{_prefix(run_id)}*"):
            shutil.rmtree(folder, ignore_errors=True)
    return ended


class _Conversation:
    """One order and the CLI that executes it."""

    def __init__(
        self,
        order: Order,
        options: "ClaudeAgentOptions",
        stderr: StderrTail,
        listener: Listener,
        pid_file: Path,
    ) -> None:
        from claude_agent_sdk import ClaudeSDKClient  # noqa: PLC0415 - see warm_up

        from claude_runner.agent._transcript import Transcript  # noqa: PLC0415 - see warm_up

        self._order = order
        self._client = ClaudeSDKClient(options)
        free = order.endpoint is not None
        self._transcript = Transcript(listener, lambda model: FREE if free else rates_of(model, order.prices))
        self._stderr = stderr
        self._pid_file = pid_file
        self._asked = False
        self._answered = asyncio.Event()
        self._error: Exception | None = None
        self._missing: str | None = None

    async def hold(self, stop: Stop) -> Ending:
        """Talk until the order is executed or the stop requested, and see the processes end."""
        # A task that nobody cancels: a cancelled SDK call gives up the process it should end.
        session = asyncio.create_task(self._converse(), name=f"session of run {self._order.run_id}")
        requested = asyncio.create_task(stop.requested.wait())
        try:
            await asyncio.wait({session, requested}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            requested.cancel()
            await asyncio.shield(asyncio.create_task(self._end(session)))
        return self._ending(stop)

    async def _converse(self) -> None:
        try:
            await self._client.connect()
            self._missing = await missing_servers(self._client, self._order.mcp_servers)
            if self._missing is not None:
                return
            await self._client.query(self._order.prompt)
            self._asked = True
            async for message in self._client.receive_messages():
                self._transcript.hear(message)
                if self._transcript.result is not None:
                    break
        except Exception as error:  # noqa: BLE001 - the SDK raises bare ones too; each is the run's ending
            self._error = error
        finally:
            self._answered.set()
            await self._client.disconnect()

    async def _end(self, session: asyncio.Task[None]) -> None:
        """See the session end: ask it to, so that it tells what it cost, then have its guard end it."""
        if session.done():
            clean = self._transcript.result is not None or self._missing is not None
        else:
            clean = False
            if self._asked:
                with contextlib.suppress(Exception):  # it may be dead, deaf or done: all the same now
                    async with asyncio.timeout(INTERRUPT_SECONDS):
                        await self._client.interrupt()
                        await self._answered.wait()
            while not session.done():
                self._signal_guard()
                await asyncio.wait({session}, timeout=SIGNAL_EVERY_SECONDS)
        if not clean:
            left = await asyncio.to_thread(end_leftovers, RUN_MARK, [self._order.run_id])
            if left:
                log.warning("run %s: ended %d processes that its guard had left", self._order.run_id, left)

    def _signal_guard(self) -> None:
        # No file: it has not started yet. No process: it has just ended. Either shows at the next round.
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int(self._pid_file.read_text(encoding="ascii")), signal.SIGTERM)

    def _ending(self, stop: Stop) -> Ending:
        result = self._transcript.result
        if result is not None:
            ending = ending_of_result(
                result,
                self._transcript.api_error,
                self._order.prices,
                free=self._order.endpoint is not None,
            )
        elif self._missing is not None:
            ending = ending_without(self._missing)
        else:
            said = str(self._error or "its output ended without a result")
            ending = ending_of_failure(said, self._stderr.text(), started=self._transcript.started)
        if ending.reason == "usage_limit":
            ending = replace(ending, resets_at=self._transcript.resets_at)
        if stop.cause is not None and ending.state is not State.FINISHED:
            cause = stop.cause
            return replace(ending, state=cause.state, error=cause.error, reason=cause.reason)
        return ending


def find_cli() -> Path | None:
    """Return the CLI that the SDK's wheel brings, or else the one on the PATH; `None` where there is neither."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bundled" / "claude"
        if os.access(bundled, os.X_OK):
            return bundled
    found = shutil.which("claude")
    return None if found is None else Path(found)
