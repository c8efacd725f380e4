"""What a run is: before it starts, as stored, and how it ended."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from claude_runner.db import from_text
from claude_runner.permissions import Profile


class State(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    ERROR = "error"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing changes any more."""
        return self in {State.FINISHED, State.ERROR, State.CANCELLED}


class ReportStatus(StrEnum):
    """What a run says itself about its task."""

    DONE = "done"
    PARTLY = "partly"
    NOTHING_TO_DO = "nothing_to_do"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """What a run says itself about its task, for whoever reads lists of runs."""

    status: ReportStatus
    summary: str


class Trigger(StrEnum):
    """What started a run."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    WEBHOOK = "webhook"
    QUICK = "quick"
    RETRY = "retry"
    CATCH_UP = "catch_up"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens as the model's provider counts them; what its cache served or took in stands apart from `input`."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        """Return both together."""
        return Tokens(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
        )


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is made of before it starts.

    Attributes:
        tools: As a job keeps them; empty means the owner's allowed tools.
        model: The model asked for, or `None` for Claude Code's own default.
        profile: What it may do without asking; `None` for the owner's default until it has started.
        commands: Beginnings of the shell commands that the profile `rules` grants it.
        webhook_id: The webhook that it was started by, which may be gone.
        scheduled_for: The slot it runs for, where a schedule started it.
        rehearsal: Whether it runs against the embedded stand-in model; never changes.
        parent_run_id: The run that asked for it, while that is kept.
        root_run_id: The first run of the chain that it belongs to, where another run asked for it.
        depth: How many runs there are before it in its chain; 0 where no other run asked for it.
        not_before: When it may start, while it waits for that.
        reason: A code for a program: why it waits, or why it did not finish.
        alone: Whether it does not start while another run of its job goes on.
        max_cost_usd: What it may cost in US dollars, but for one turn; `None` for no bound of its own.
    """

    prompt: str
    trigger: Trigger
    tools: tuple[str, ...] = ()
    timeout_minutes: int = 30
    model: str | None = None
    job_id: str | None = None
    scheduled_for: datetime | None = None
    rehearsal: bool = False
    parent_run_id: str | None = None
    root_run_id: str | None = None
    depth: int = 0
    not_before: datetime | None = None
    reason: str | None = None
    profile: Profile | None = None
    commands: tuple[str, ...] = ()
    webhook_id: str | None = None
    alone: bool = False
    max_cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(NewRun):
    """A run as stored.

    Attributes:
        attempt: How often it was started.
        warnings: What there is to say about its tools.
        error: A sentence for a person, where it did not finish.
        report: What it said itself about its task, if it did.
        model: The model that answers, once it is known.
        tokens: Live while it runs.
        total_tokens: The sum of the four counts.
        cost_usd: US dollars of all attempts up to now, or `None` where the price is unknown or not known yet.
        denials: How many calls of tools were denied up to now.
        superseded: Whether a newer slot of its job takes its place.
        retries: How often it was tried again after a failure.
        resumes: Whether this attempt, or the next where it waits, goes on in the session of the last.
    """

    id: str
    attempt: int
    state: State
    warnings: tuple[str, ...]
    output: str | None
    error: str | None
    report: Report | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    tokens: Tokens
    total_tokens: int
    cost_usd: float | None
    session_id: str | None
    denials: int
    superseded: bool = False
    retries: int = 0
    resumes: bool = False

    @property
    def chain(self) -> str:
        """Return the id of the first run of its chain, its own where no other run asked for it."""
        return self.root_run_id or self.id

    def follow_up(self, prompt: str, not_before: datetime) -> NewRun:
        """Return a run that goes on from this one, with the same rights and limits."""
        kept = {field.name: getattr(self, field.name) for field in fields(NewRun)}
        return NewRun(
            **kept
            | {
                "prompt": prompt,
                "trigger": Trigger.RUN,
                "scheduled_for": None,
                "parent_run_id": self.id,
                "root_run_id": self.chain,
                "depth": self.depth + 1,
                "not_before": not_before,
                "reason": "followup",
                "alone": True,
            }
        )


class Granted(NamedTuple):
    """What a run was granted when it started, and what there is to say about its tools."""

    profile: Profile
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        state: `finished`, `error` or `cancelled`.
        error: A sentence for a person; `None` only where it finished. So is `reason`, a code for a program.
        tokens: What it used in all, or `None` where the last live count stands.
        model_usage: Tokens and cost of each model, as JSON can hold it.
        resets_at: When a usage limit that was met is over, where that is known.
        session_usage: What Claude Code says of the whole session, of each model; an attempt that went on in the session
            of an earlier one has that one's in it.
    """

    state: State
    output: str | None = None
    error: str | None = None
    reason: str | None = None
    tokens: Tokens | None = None
    cost_usd: float | None = None
    model_usage: Mapping[str, Any] | None = None
    resets_at: datetime | None = None
    session_usage: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Parking:
    """Why and until when a run waits that was going on, and what it has used.

    Attributes:
        error: A sentence for a person; `reason` is a code for a program.
        resumes: Whether it then goes on in its own session.
        retries: How often it was tried again, the coming time included.
        tokens: What all its attempts used, or `None` where the last live count stands.
        cost_usd: What they cost; `None` where that is not known.
        model_usage: What they used of each model.
        session_usage: What Claude Code says of the session.
    """

    not_before: datetime
    reason: str
    error: str
    resumes: bool
    retries: int
    tokens: Tokens | None = None
    cost_usd: float | None = None
    model_usage: Mapping[str, Any] | None = None
    session_usage: Mapping[str, Any] | None = None


def run_from(row: sqlite3.Row) -> Run:
    """Make a run of its row."""
    return Run(
        id=row["id"],
        attempt=row["attempt"],
        job_id=row["job_id"],
        webhook_id=row["webhook_id"],
        trigger=Trigger(row["trigger"]),
        state=State(row["state"]),
        prompt=row["prompt"],
        tools=tuple(json.loads(row["tools"])),
        timeout_minutes=row["timeout_minutes"],
        warnings=tuple(json.loads(row["warnings"])),
        rehearsal=bool(row["rehearsal"]),
        output=row["output"],
        error=row["error"],
        reason=row["reason"],
        parent_run_id=row["parent_run_id"],
        root_run_id=row["root_run_id"],
        depth=row["depth"],
        not_before=_instant(row["not_before"]),
        report=_report(row),
        scheduled_for=_instant(row["scheduled_for"]),
        created_at=from_text(row["created_at"]),
        started_at=_instant(row["started_at"]),
        finished_at=_instant(row["finished_at"]),
        tokens=Tokens(
            row["input_tokens"], row["output_tokens"], row["cache_read_tokens"], row["cache_write_tokens"]
        ),
        total_tokens=row["total_tokens"],
        cost_usd=row["cost_usd"],
        model=row["model"],
        session_id=row["session_id"],
        profile=None if row["profile"] is None else Profile(row["profile"]),
        commands=tuple(json.loads(row["commands"])),
        denials=row["denials"],
        alone=bool(row["alone"]),
        max_cost_usd=row["max_cost_usd"],
        superseded=bool(row["superseded"]),
        retries=row["retries"],
        resumes=bool(row["resumes"]),
    )


def _report(row: sqlite3.Row) -> Report | None:
    if row["report_status"] is None:
        return None
    return Report(ReportStatus(row["report_status"]), row["report_summary"] or "")


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
