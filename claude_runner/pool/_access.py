"""What a run may reach: the servers and tools that it was granted, for as long as it goes on."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from claude_runner.grants import plain, tool_name
from claude_runner.pool._session import Json
from claude_runner.runs import Run
from claude_runner.servers import RUNNER, Server


class Offered(Protocol):
    """A tool as the protocol lists it (MCP, Tool)."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def title(self) -> str:
        """Return what a person reads."""
        ...

    @property
    def description(self) -> str:
        """Return what a model reads."""
        ...

    @property
    def input_schema(self) -> Json:
        """Return the JSON Schema of its arguments."""
        ...

    @property
    def annotations(self) -> Mapping[str, bool]:
        """Return the protocol's hints."""
        ...


class InProcess(Protocol):
    """A server that is no process of its own but part of this program: what a run says to its runner."""

    @property
    def tools(self) -> Sequence[Offered]:
        """Return what it offers."""
        ...

    async def call(self, run: Run, tool: str, arguments: Mapping[str, Any]) -> Json | str:
        """Do what a run asks; raises `RunnerError` where it is refused."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A server that a run needs, and which of its tools it may call.

    Attributes:
        server: Which; `None` for the server in this process.
        tools: Their names, as a run knows them; `None` for all.
    """

    server: Server | None
    tools: frozenset[str] | None = None

    @property
    def name(self) -> str:
        """Return the server's name."""
        return RUNNER if self.server is None else self.server.name

    def full_names(self) -> tuple[str, ...]:
        """Return the names by which the CLI may call its tools, or the pattern of all."""
        return tuple(tool_name(self.name, tool) for tool in sorted(self.tools or ("*",)))

    def grants(self, tool: str) -> bool:
        """Tell whether the run may call the tool."""
        return self.tools is None or plain(tool) in self.tools


@dataclass(frozen=True, slots=True)
class Access:
    """What one run may reach, for as long as it goes on."""

    run: Run
    wanted: Mapping[str, Wanted]
    calls: set["asyncio.Task[Json]"] = field(default_factory=set)
