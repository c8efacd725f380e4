"""Calls a tool of a server at once, without a run, and keeps what came of it."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_runner.config import Clock
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, RunnerError
from claude_runner.grants import split_name
from claude_runner.pool import Pool
from claude_runner.redaction import Redactor
from claude_runner.runs import ClosedCall, NewCall, Runs, Verdict
from claude_runner.servers import RUNNER, Server, Servers

MAX_SHOWN: Final = 300  # characters of what is wrong with a payload


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool answered (MCP, CallToolResult).

    Attributes:
        tool: Its full name, `mcp__<server>__<tool>`.
        is_error: Whether the tool says that it failed.
        content: Its blocks, such as `{"type": "text", "text": …}`.
        structured: Its structured answer, where it gives one.
    """

    tool: str
    is_error: bool
    content: list[dict[str, Any]]
    structured: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Invocations:
    """Calls tools through the pool."""

    servers: Servers
    pool: Pool
    runs: Runs
    redactor: Redactor
    clock: Clock
    _checkers: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def invoke(self, name: str, payload: Mapping[str, Any], seconds: float) -> Outcome:
        """Call a tool; the call is kept in the log of tool calls, however it ends.

        Args:
            name: The tool, in any form that a job's `tools` may have.
            payload: Its arguments, by name.
            seconds: How long it may take.

        Raises:
            InvalidError: The name is none, or the payload does not fit the tool's schema.
            NotFoundError: There is no such server or tool.
            ConflictError: The server is disabled.
            ServerFailedError: The server does not start, died, or did not answer in time.
        """
        server, tool = await self._found(name)
        full = f"mcp__{server.name}__{tool}"
        call = NewCall(full, self.redactor.value(dict(payload)), self.clock.now())
        begun = self.clock.elapsed()
        try:
            await self._check(server, tool, payload)
            result = await self.pool.call(server, tool, payload, seconds=seconds)
        except RunnerError as error:
            await self._keep(call, Verdict.ERROR, str(error), begun)
            raise
        except BaseException:
            await self._keep(call, Verdict.ABANDONED, None, begun)
            raise
        is_error = result.get("isError") is True
        outcome = Outcome(full, is_error, list(result.get("content") or ()), result.get("structuredContent"))
        await self._keep(call, Verdict.ERROR if is_error else Verdict.OK, _text(outcome), begun)
        return outcome

    async def _found(self, name: str) -> tuple[Server, str]:
        split = split_name(name)
        if split is None or split[1] == "*":
            raise InvalidError(
                f"{name[:100]!r} is not the name of a server's tool; give one such as mcp__weather__get_weather",
                field="tool",
            )
        if split[0] == RUNNER:
            raise InvalidError(
                "the tools of 'runner' are for runs: they act on the run that calls", field="tool"
            )
        server = await self.servers.get(split[0])
        if not server.enabled:
            raise ConflictError(f"the server '{server.name}' is disabled; enable it first", field="tool")
        return server, split[1]

    async def _check(self, server: Server, tool: str, payload: Mapping[str, Any]) -> None:
        """Refuse a tool that is not there, or arguments that do not fit its schema (JSON Schema)."""
        listed = {str(each["name"]): each for each in await self.pool.tools(server)}
        if tool not in listed:
            close = difflib.get_close_matches(tool, listed, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(listed) or 'none'}"
            raise NotFoundError(f"{server.name} has no tool {tool!r}; {hint}", field="tool")
        key = (server.fingerprint, tool)
        if key not in self._checkers:
            from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # noqa: PLC0415 - only who calls needs it

            schema = listed[tool]["inputSchema"]
            self._checkers[key] = validator_for(schema)(schema)
        if wrong := next(self._checkers[key].iter_errors(dict(payload)), None):
            place = "".join(f"[{step!r}]" for step in wrong.absolute_path)
            raise InvalidError(
                f"payload{place} does not fit {tool}: {wrong.message[:MAX_SHOWN]}", field="payload"
            )

    async def _keep(self, call: NewCall, verdict: Verdict, result: str | None, begun: float) -> None:
        duration_ms = round((self.clock.elapsed() - begun) * 1000, 3)
        said = None if result is None else self.redactor.text(result)
        await self.runs.note_call(ClosedCall(None, call, verdict, said, duration_ms))


def _text(outcome: Outcome) -> str:
    """Return the blocks as the log keeps them: texts as they are, of others their kind."""
    if not outcome.content and outcome.structured is not None:
        return json.dumps(outcome.structured, ensure_ascii=False)
    return "\n".join(str(block.get("text", f"[{block.get('type')}]")) for block in outcome.content)
