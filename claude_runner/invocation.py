"""Calls a tool of a server at once, without a run, and keeps what came of it."""

import asyncio
import difflib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from claude_runner.config import Clock
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, RunnerError, UnavailableError
from claude_runner.grants import plain, split_name, tool_name
from claude_runner.pool import Json, Pool
from claude_runner.redaction import Redactor
from claude_runner.runs import ClosedCall, NewCall, Runs, Verdict, text_of
from claude_runner.servers import RUNNER, Server, Servers

MAX_SHOWN: Final = 300  # characters of what is wrong with a payload
MAX_CHECKERS: Final = 500  # tools whose schemas are kept ready
# Left to the server to check: an expression can be written so that looking for it never ends.
_EXPRESSIONS: Final = ("pattern", "patternProperties", "unevaluatedProperties")
MAX_STEPS: Final = (
    20_000  # keywords of a schema that are looked at: a short one can lead to more than will ever end
)

log = logging.getLogger(__name__)


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
    _notes: set["asyncio.Task[None]"] = field(default_factory=set)
    _checkers: dict[tuple[str, str], "_Checker"] = field(default_factory=dict)

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
        full = tool_name(server.name, tool)
        call = NewCall(full, self.redactor.value(dict(payload)), self.clock.now())
        begun = self.clock.elapsed()
        try:
            listed = await self._listed(server, tool)
            self._check(server, listed, payload)
            result = await self.pool.call(server, listed["name"], payload, seconds=seconds)
        except RunnerError as error:
            self._keep(call, Verdict.ERROR, str(error), begun)
            raise
        except BaseException:
            self._keep(call, Verdict.ABANDONED, None, begun)
            raise
        is_error = result.get("isError") is True
        outcome = Outcome(full, is_error, list(result.get("content") or ()), result.get("structuredContent"))
        self._keep(call, Verdict.ERROR if is_error else Verdict.OK, _text(outcome), begun)
        return outcome

    async def settled(self) -> None:
        """Wait until every call that was answered is written down."""
        while self._notes:
            await asyncio.wait(self._notes)

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
        server = await self.servers.get(split[0], "tool")
        if not server.enabled:
            raise ConflictError(f"the server '{server.name}' is disabled; enable it first", field="tool")
        return server, split[1]

    async def _listed(self, server: Server, tool: str) -> Json:
        """Return a tool as its server lists it, by its name there or that which runs know it by."""
        tools = await self.pool.tools(server)
        names = [str(each["name"]) for each in tools]
        for each, name in zip(tools, names, strict=True):
            if tool in {name, plain(name)}:
                return each
        close = difflib.get_close_matches(tool, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names) or 'none'}"
        raise NotFoundError(f"{server.name} has no tool {tool!r}; {hint}", field="tool")

    def _check(self, server: Server, listed: Json, payload: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit a tool's schema (JSON Schema); a schema that is none refuses nothing."""
        try:
            wrong = self._checker(server, listed).wrong_with(dict(payload))
        except Exception as error:  # noqa: BLE001 - a schema may be wrong in any way, and point anywhere
            log.debug("%s: the schema of %s can't be used: %s", server.name, listed["name"], error)
            return
        if wrong is not None:
            place = "".join(f"[{step!r}]" for step in wrong.absolute_path)
            why = self.redactor.text(wrong.message)[:MAX_SHOWN]  # cut before, half of a secret might be left
            sentence = f"payload{self.redactor.text(place)} does not fit {listed['name']}: {why}"
            raise InvalidError(sentence, field="payload")

    def _checker(self, server: Server, listed: Json) -> "_Checker":
        """Return what checks a tool's arguments, the same for as long as the server lists the same."""
        key, schema = (server.name, str(listed["name"])), listed["inputSchema"]
        known = self._checkers.get(key)
        if known is not None and known.schema is schema:
            return known
        if len(self._checkers) >= MAX_CHECKERS:
            self._checkers.clear()
        self._checkers[key] = checker = _Checker(schema)
        return checker

    def _keep(self, call: NewCall, verdict: Verdict, result: str | None, begun: float) -> None:
        """Have a call written down, without its caller waiting for the disk."""
        duration_ms = round((self.clock.elapsed() - begun) * 1000, 3)
        said = None if result is None else self.redactor.text(result)
        note = asyncio.create_task(self._write(ClosedCall(None, call, verdict, said, duration_ms)))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _write(self, call: ClosedCall) -> None:
        try:
            await self.runs.note_call(call)
        except UnavailableError as error:  # it was made: what came of it is not to be lost for that
            log.warning("a call of %s can't be written down: %s", call.call.tool, error)


class _Checker:
    """Checks arguments by a schema that somebody else wrote: nothing in it makes us fetch, or look for ever."""

    def __init__(self, schema: Json) -> None:
        from jsonschema import validators  # type: ignore[import-untyped]  # noqa: PLC0415 - only who calls needs it
        from referencing import Registry  # noqa: PLC0415 - as above

        self.schema = schema
        self._steps = 0
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        others = kind.VALIDATORS["additionalProperties"]
        changed = kind.VALIDATORS | dict.fromkeys(_EXPRESSIONS, _leave)
        changed["additionalProperties"] = lambda *it: () if "patternProperties" in it[-1] else others(*it)
        counted = {keyword: self._counting(check) for keyword, check in changed.items()}
        # With an empty registry, so that no schema makes us fetch another.
        self._checker = validators.extend(kind, counted)(_of_one_kind(schema), registry=Registry())

    def wrong_with(self, payload: dict[str, Any]) -> Any:
        """Return what is most wrong with arguments, `None` where nothing is; raises where the schema can't be used."""
        from jsonschema import exceptions  # noqa: PLC0415 - as above

        self._steps = 0
        return exceptions.best_match(self._checker.iter_errors(payload))

    def _counting(self, check: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*it: Any) -> Any:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise RecursionError(f"it takes more than {MAX_STEPS} steps")
            return check(*it)

        return counted


def _of_one_kind(schema: Any) -> Any:
    """Return a schema whose parts name no kind of their own: they would be checked by all the rules of that."""
    match schema:
        case dict():
            return {
                key: _of_one_kind(part)
                for key, part in schema.items()
                if key != "$schema" or not isinstance(part, str)
            }
        case list():
            return [_of_one_kind(part) for part in schema]
        case _:
            return schema


def _leave(*_: object) -> tuple[()]:
    """Find nothing wrong."""
    return ()


def _text(outcome: Outcome) -> str:
    """Return the blocks as the log keeps them: texts as they are, of others their kind."""
    if not outcome.content and outcome.structured is not None:
        return json.dumps(outcome.structured, ensure_ascii=False)
    return text_of(outcome.content)
