"""What a rehearsal finds out."""

from dataclasses import dataclass
from enum import StrEnum

from claude_runner.permissions import Profile


class Verdict(StrEnum):
    """What would become of a run."""

    WOULD_RUN = "would_run"
    WOULD_FAIL = "would_fail"


@dataclass(frozen=True, slots=True)
class Problem:
    """What a run would fail for, in the words that its row would have."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """A tool server that a run needs.

    Attributes:
        was_up: Whether it was running already.
        start_seconds: How long its start took; `None` where it was not started.
        tools: Full names of those of its tools that were granted.
        problem: Why it can't be had, or `None`.
    """

    name: str
    was_up: bool
    start_seconds: float | None
    tools: list[str]
    problem: str | None


@dataclass(frozen=True, slots=True)
class NotGranted:
    """A tool that was asked for, or comes by default, and that a run does not get; `mcp__x__*` for all of a server."""

    tool: str
    why: str


@dataclass(frozen=True, slots=True)
class MissingCredentials:
    """Credentials that a server lacks.

    Attributes:
        needed: Whether runs fail without them; else they only go without the server.
        how_to_set: The calls that set them.
    """

    server: str
    names: list[str]
    needed: bool
    how_to_set: str


class PartKind(StrEnum):
    """What a part of a request is."""

    SERVER = "server_tools"
    BUILT_INS = "built_in_tools"
    INSTRUCTIONS = "instructions"
    PROMPT = "prompt"
    REST = "claude_code_itself"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the first request; the parts add up to the whole.

    Attributes:
        server: Whose tools they are, where it is a server's.
        share: Of the whole, from 0 to 1.
    """

    kind: PartKind
    server: str | None
    bytes: int
    estimated_tokens: int
    share: float


@dataclass(frozen=True, slots=True)
class RequestSize:
    """How large the first request to the model is.

    Attributes:
        usd: What it costs at the list price of input tokens; `None` where the model's price is not known.
        about: How tokens and price were come by.
    """

    bytes: int
    estimated_tokens: int
    usd: float | None
    about: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would become of a run.

    Attributes:
        verdict: Whether it would get as far as Claude.
        reason: The code that it would fail with.
        error: The sentence that it would fail with.
        problems: All that is in its way.
        job_id: Whose run it would be, if a job's.
        prompt: What Claude would be told by the user.
        instructions: What it would be told besides (the system prompt).
        model: Which would answer; `None` where it is not known.
        model_asked: The model named; `None` for Claude Code's default.
        folder: Where it works.
        tools: Full names of all that Claude could call.
        next_runs: When the job fires next, on its own clock.
        report: All of this, for a person to read.
    """

    verdict: Verdict
    reason: str | None
    error: str | None
    problems: list[Problem]
    job_id: str | None
    job_name: str | None
    prompt: str
    instructions: str
    model: str | None
    model_asked: str | None
    profile: Profile
    commands: list[str]
    folder: str
    tools: list[str]
    not_granted: list[NotGranted]
    servers: list[ServerState]
    missing_credentials: list[MissingCredentials]
    warnings: list[str]
    next_runs: list[str]
    first_request: RequestSize | None
    report: str
