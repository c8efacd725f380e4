"""What a run is: before it starts, as stored, and how it ended."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from claude_runner.db import from_text


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


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is made of before it starts.

    Attributes:
        tools: As a job keeps them; empty means the owner's allowed tools.
        model: The model asked for, or `None` for Claude Code's own default.
        scheduled_for: The slot it runs for, where a schedule started it.
        rehearsal: Whether it runs against the embedded stand-in model; never changes.
    """

    prompt: str
    trigger: Trigger
    tools: tuple[str, ...] = ()
    timeout_minutes: int = 30
    model: str | None = None
    job_id: str | None = None
    scheduled_for: datetime | None = None
    rehearsal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(NewRun):
    """A run as stored.

    Attributes:
        attempt: How often it was started.
        warnings: What there is to say about its tools.
        error: A sentence for a person, where it did not finish.
        reason: A code for a program, where it did not finish.
        model: The model that answers, once it is known.
        tokens: Live while it runs.
        total_tokens: The sum of the four counts.
        cost_usd: US dollars, or `None` where the price is unknown or not known yet.
    """

    id: str
    attempt: int
    state: State
    warnings: tuple[str, ...]
    output: str | None
    error: str | None
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    tokens: Tokens
    total_tokens: int
    cost_usd: float | None
    session_id: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        state: `finished`, `error` or `cancelled`.
        error: A sentence for a person; `None` only where it finished. So is `reason`, a code for a program.
        tokens: What it used in all, or `None` where the last live count stands.
        model_usage: Tokens and cost of each model, as JSON can hold it.
    """

    state: State
    output: str | None = None
    error: str | None = None
    reason: str | None = None
    tokens: Tokens | None = None
    cost_usd: float | None = None
    model_usage: Mapping[str, Any] | None = None


def run_from(row: sqlite3.Row) -> Run:
    """Make a run of its row."""
    return Run(
        id=row["id"],
        attempt=row["attempt"],
        job_id=row["job_id"],
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
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)
