"""What the runner asks of an agent: the order, who listens, how it is stopped."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from claude_runner.permissions import Profile
from claude_runner.prices import Price
from claude_runner.runs import Ending, EventKind, State, Tokens, Verdict


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Messages API other than the owner's: an embedded stand-in model.

    Attributes:
        model: The model it is asked for, whatever the order says; `None` for the order's own.
    """

    base_url: str
    api_key: str
    model: str | None = None


class Transcripts(Protocol):
    """Keeps sessions as Claude Code writes them down, by the session's id and a path within it ("" for the session)."""

    async def append(self, session_id: str, subpath: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep entries, each once: one with a `uuid` that is kept already is passed over."""
        ...

    async def load(self, session_id: str, subpath: str) -> list[dict[str, Any]] | None:
        """Return all entries in their order, `None` where nothing is kept."""
        ...

    async def subpaths(self, session_id: str) -> list[str]:
        """Return the paths other than "" for which something is kept."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done.

    Attributes:
        session_id: A UUID that is new; Claude Code's session gets it.
        instructions: What the model is told besides the prompt (the system prompt).
        built_ins: Claude Code's own tools that exist in the run; it has no others.
        folder: The only folder it may write to; it exists.
        model: `None` for Claude Code's default.
        endpoint: Where the model is asked; `None` for the owner's own.
        profile: What it may do without asking.
        commands: Beginnings of the shell commands it may run, where the profile is `rules`.
        mcp_config: A file that tells Claude Code of its MCP servers, for nobody else to read; `None` for none.
        mcp_tools: Names or patterns of the MCP tools it may call, such as `mcp__email__*`.
        mcp_servers: Those of its MCP servers that must be connected before the model is asked anything.
        kept: Whether Claude Code writes down the session.
        resumes: Whether it goes on in a session that there is, by this id, instead of beginning one.
        max_cost_usd: What it may cost in US dollars, but for one turn. It is Claude Code's own bound, besides the
            runner's, and left out where Claude Code does not know what the model costs.
        transcripts: Where a second copy of the session is kept as it grows, to go on from; `None` for none.
        prices: What models cost by the owner's word, whatever the list says.
    """

    run_id: str
    session_id: str
    prompt: str
    instructions: str
    built_ins: tuple[str, ...]
    folder: Path
    model: str | None = None
    endpoint: Endpoint | None = None
    profile: Profile = Profile.CONTAINED
    commands: tuple[str, ...] = ()
    mcp_config: Path | None = None
    mcp_tools: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    kept: bool = True
    resumes: bool = False
    max_cost_usd: float | None = None
    transcripts: Transcripts | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)


class Listener(Protocol):
    """Hears what happens, at once and without waiting: whoever lags behind the stream loses its end.

    Before a call of a tool it is asked, and that call alone waits for its answer.
    """

    def started(self) -> None:
        """Hear that the agent is up: its start costs the machine nothing any more."""
        ...

    def heard(self) -> None:
        """Hear that the agent is alive, whatever it said."""
        ...

    def happened(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        """Hear of an event; pieces of text and thinking carry the number of their block."""
        ...

    async def calling(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Hear of a call before it is made; returns why it must not be made, `None` where it may.

        A call that is then denied, by this or by a rule, has a `tool_result` event and no `called`.
        """
        ...

    def called(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        """Hear what became of a call that was made."""
        ...

    def used(self, tokens: Tokens, model: str | None, cost_usd: float | None = None) -> None:
        """Hear what the attempt has used up to now, which model answers, and the cost where its price is known."""
        ...


@dataclass(frozen=True, slots=True)
class StopCause:
    """Why a run is stopped, in the words its row will have."""

    state: State
    reason: str
    error: str


class Stop:
    """Asks a run to stop, once: the first cause stands, a second request does no harm."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.cause: StopCause | None = None

    def request(self, cause: StopCause) -> None:
        """Ask the run to stop."""
        if self.cause is None:
            self.cause = cause
            self.requested.set()


class Agent(Protocol):
    """Executes prompts."""

    async def warm_up(self) -> None:
        """Load what the first order needs, so that it does not wait for it."""
        ...

    async def execute(self, order: Order, listener: Listener, stop: Stop) -> Ending:
        """Execute the order to its end; whatever goes wrong is told by the ending.

        Once it returns, or is cancelled, no process that came of the run is left.
        """
        ...

    async def end_leftovers(self, run_ids: Collection[str]) -> int:
        """End the processes that runs of a server that died have left, and return how many there were."""
        ...
