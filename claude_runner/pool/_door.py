"""The door through which runs reach tool servers: one endpoint on loopback, a token for each run that dies with it.

A server that is up costs a run less than a tenth of a second; one that each run started for itself would cost it
1.25 s and 90 MiB. What a run may call is decided when the token is made: it sees no other tool, of this server or
another.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from claude_runner.config import Settings
from claude_runner.errors import RunnerError, ServerFailedError, unusable
from claude_runner.grants import plain
from claude_runner.pool._access import Access, InProcess, Wanted
from claude_runner.pool._pool import Pool
from claude_runner.pool._session import Json
from claude_runner.runs import Run

log = logging.getLogger(__name__)


class Door:
    """Lets runs in."""

    def __init__(self, pool: Pool, inside: InProcess, settings: Settings) -> None:
        self._pool = pool
        self._inside = inside
        self._folder = settings.state / "mcp"
        self._open: dict[str, Access] = {}
        self._closing = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._base_url: asyncio.Future[str] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let runs in while the context is open; the endpoint is opened when the first comes."""
        try:
            yield
        finally:
            self._closing.set()
            if self._serving is not None:
                await asyncio.wait({self._serving})

    @asynccontextmanager
    async def lend(self, run: Run, wanted: Sequence[Wanted]) -> AsyncIterator[Path]:
        """See that every server is up and lists the tools named, and yield the path of a configuration for the CLI.

        On leaving, the token in it is worth nothing any more, the calls that go on are cancelled, and the servers
        that were kept for this run are ended.

        Raises:
            ServerFailedError: A server is not up or lacks a tool; the sentence has its own last words.
            UnavailableError: The configuration can't be written.
        """
        base_url = await self._opened()
        token = secrets.token_urlsafe(32)
        access = self._open[token] = Access(run, {each.name: each for each in wanted})
        path = self._folder / f"{run.id}-{run.attempt}.json"
        try:
            await self._check_all(wanted, run.id)
            await asyncio.to_thread(_write, path, _configuration(access, base_url, token))
            yield path
        finally:
            del self._open[token]
            for call in access.calls:
                call.cancel()
            if access.calls:
                await asyncio.wait(access.calls)
            await self._pool.end_of_run(run.id)
            try:
                await asyncio.to_thread(path.unlink, missing_ok=True)
            except OSError as error:  # what it opens is closed
                log.warning("a configuration of a run is left: %s", unusable(error, path))

    async def _check_all(self, wanted: Sequence[Wanted], run_id: str) -> None:
        try:
            async with asyncio.TaskGroup() as checks:
                for each in wanted:
                    checks.create_task(self.check(each, run_id))
        except* RunnerError as errors:
            raise _first(errors) from errors

    async def check(self, wanted: Wanted, run_id: str) -> None:
        """See that a server is up and lists the tools named; raises `ServerFailedError` where it does not."""
        listed = {plain(str(tool["name"])) for tool in await self._tools(wanted, run_id)}
        if missing := sorted((wanted.tools or frozenset()) - listed):
            raise ServerFailedError(
                f"{wanted.name} is up but has no tool {', '.join(missing)}; "
                f"it has {', '.join(sorted(listed)) or 'none'}"
            )

    async def _tools(self, wanted: Wanted, run_id: str) -> Sequence[Json]:
        if wanted.server is not None:
            return await self._pool.tools(wanted.server, run_id)
        return [
            {
                "name": tool.name,
                "title": tool.title,
                "description": tool.description,
                "inputSchema": tool.input_schema,
                "annotations": tool.annotations,
            }
            for tool in self._inside.tools
        ]

    async def _opened(self) -> str:
        """Return where the endpoint listens, after opening it for the first who asks."""
        if self._base_url is None:
            self._base_url = asyncio.get_running_loop().create_future()
            self._serving = asyncio.create_task(self._serve(self._base_url), name="the door of runs")
        return await asyncio.shield(self._base_url)

    async def _serve(self, base_url: "asyncio.Future[str]") -> None:
        """Serve the endpoint until it is closed; in a task of its own, since what it is made of ends where it began."""
        from claude_runner.loopback import listening  # noqa: PLC0415 - only a run with servers needs it
        from claude_runner.pool._endpoint import endpoint  # noqa: PLC0415 - as above

        try:
            async with endpoint(self._open.get, self.list, self.call) as app, listening(app) as url:
                base_url.set_result(url)
                await self._closing.wait()
        except Exception as error:
            self._base_url = None  # whoever comes next tries again
            if base_url.done():
                log.exception("the door of runs was closed by a mistake")
            else:
                base_url.set_exception(
                    unusable(error, "a port of 127.0.0.1") if isinstance(error, OSError) else error
                )

    async def list(self, access: Access, name: str) -> list[Json]:
        """Return the tools of a server that the run may call, as the server lists them."""
        wanted = access.wanted[name]
        return [tool for tool in await self._tools(wanted, access.run.id) if wanted.grants(tool["name"])]

    async def call(self, access: Access, name: str, tool: str, arguments: Json) -> Json:
        """Call a tool for a run; what is refused or goes wrong is a result that says so (MCP, `isError`)."""
        wanted = access.wanted[name]
        if not wanted.grants(tool):
            return failed(f"this run may not call {tool[:100]!r} of {name}")
        call = asyncio.create_task(self._carry_out(access.run, wanted, tool, arguments))
        access.calls.add(call)
        call.add_done_callback(access.calls.discard)
        try:
            await asyncio.wait({call})
        finally:
            call.cancel()
        return failed("the run has ended") if call.cancelled() else call.result()

    async def _carry_out(self, run: Run, wanted: Wanted, tool: str, arguments: Json) -> Json:
        try:
            if wanted.server is not None:
                return await self._pool.call(wanted.server, tool, arguments, run_id=run.id)
            said = await self._inside.call(run, tool, arguments)
        except RunnerError as error:
            return failed(str(error))
        except Exception:
            error_id = secrets.token_hex(4)
            log.exception("run %s: %s of %s: unexpected error %s", run.id, tool, wanted.name, error_id)
            return failed(f"the server made a mistake; its log tells more under {error_id}")
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return {"content": [{"type": "text", "text": text}]}


def failed(sentence: str) -> Json:
    """Return the result of a call that failed."""
    return {"content": [{"type": "text", "text": sentence}], "isError": True}


def _configuration(access: Access, base_url: str, token: str) -> str:
    """Return the CLI's configuration of the servers."""
    headers = {"Authorization": f"Bearer {token}"}
    servers = {
        name: {"type": "http", "url": f"{base_url}/{name}", "headers": headers} for name in access.wanted
    }
    return json.dumps({"mcpServers": servers})


def _write(path: Path, text: str) -> None:
    """Write a file that its owner alone may read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unusable(error, path) from error


def _first(errors: ExceptionGroup[RunnerError]) -> RunnerError:
    """Return one failure for several that came together, all of them in its words."""
    every = [error for error in errors.exceptions if isinstance(error, RunnerError)]
    return every[0] if len(every) == 1 else ServerFailedError("; ".join(map(str, every)))
