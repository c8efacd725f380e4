"""Runs as lists show them: the beginnings of their texts, and the names of what they belong to."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from claude_runner.db import from_text
from claude_runner.runs._records import Report, ReportStatus, State, Trigger

ROW_HEAD: Final = 300  # characters of a prompt and of an output
_ERROR_HEAD: Final = 2_000

# A text is cut where it lies: a list must not carry whole outputs about.
_ROW: Final = f"""
    SELECT runs.id, job_id, jobs.name AS job_name, webhook_id, webhooks.name AS webhook_name, trigger, state, reason,
        substr(runs.error, 1, {_ERROR_HEAD}) AS error, substr(runs.prompt, 1, :head) AS prompt,
        substr(runs.output, 1, :head) AS output, scheduled_for, not_before, runs.created_at, started_at, finished_at,
        total_tokens, cost_usd, runs.model, rehearsal, denials, report_status, report_summary, depth
    FROM runs LEFT JOIN jobs ON jobs.id = job_id LEFT JOIN webhooks ON webhooks.id = webhook_id
    WHERE runs.id = :id
"""  # noqa: S608 - written above


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as a list shows it.

    Attributes:
        job_name: The job's; `None` where it belongs to none.
        webhook_name: The webhook's; `None` where none started it, or that is gone.
        error: A sentence for a person, where it did not finish; its beginning where it is long, as of the texts.
        prompt: Its beginning.
        output: Its beginning; `None` where it has none.
        snippet: Where a search by text found it: pieces of text, and whether each is what was looked for.
        cost_usd: US dollars, or `None` where the price is unknown or not known yet.
        report: What it said itself about its task, if it did.
        depth: How many runs there are before it in its chain.
    """

    id: str
    job_id: str | None
    job_name: str | None
    webhook_id: str | None
    webhook_name: str | None
    trigger: Trigger
    state: State
    reason: str | None
    error: str | None
    prompt: str
    output: str | None
    snippet: tuple[tuple[str, bool], ...] | None
    scheduled_for: datetime | None
    not_before: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total_tokens: int
    cost_usd: float | None
    model: str | None
    rehearsal: bool
    denials: int
    report: Report | None
    depth: int

    def seconds(self, now: datetime) -> float | None:
        """Return how long it took, or has been going on; `None` where it never started."""
        if self.started_at is None:
            return None
        return ((self.finished_at or now) - self.started_at).total_seconds()


def rows_of(c: sqlite3.Connection, run_ids: Iterable[str], head: int = ROW_HEAD) -> list[RunRow]:
    """Read runs in the order given; one that is gone meanwhile is left out."""
    found = (c.execute(_ROW, {"id": run_id, "head": head}).fetchone() for run_id in run_ids)
    return [_row_from(row) for row in found if row is not None]


def _row_from(row: sqlite3.Row) -> RunRow:
    values: dict[str, Any] = dict(row)
    status, summary = values.pop("report_status"), values.pop("report_summary")
    for name in ("scheduled_for", "not_before", "created_at", "started_at", "finished_at"):
        values[name] = None if values[name] is None else from_text(values[name])
    return RunRow(
        **values
        | {
            "trigger": Trigger(values["trigger"]),
            "state": State(values["state"]),
            "rehearsal": bool(values["rehearsal"]),
            "report": None if status is None else Report(ReportStatus(status), summary or ""),
            "snippet": None,
        }
    )
