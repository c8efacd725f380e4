"""How runs come into the database."""

import json
import secrets
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from claude_runner.db import to_text
from claude_runner.runs._records import NewRun

_INSERT: Final = """
    INSERT INTO runs (id, job_id, trigger, prompt, tools, timeout_minutes, model, rehearsal, scheduled_for, created_at,
        parent_run_id, root_run_id, depth, not_before, reason, profile, commands, webhook_id, alone,
        max_cost_usd)
    VALUES (:id, :job_id, :trigger, :prompt, :tools, :timeout_minutes, :model, :rehearsal, :scheduled_for, :now,
        :parent_run_id, :root_run_id, :depth, :not_before, :reason, :profile, :commands, :webhook_id, :alone,
        :max_cost_usd)
"""
_JOB: Final = "SELECT 1 FROM jobs WHERE id = :job_id AND removed_at IS NULL"
_INSERT_IF_NEW: Final = f"{_INSERT} ON CONFLICT (id) DO NOTHING RETURNING id"


def insert(c: sqlite3.Connection, run: NewRun, now: datetime) -> str:
    """Store a pending run and return its id, which is made here."""
    while True:  # until the id is one that no run has
        row = c.execute(_INSERT_IF_NEW, _values(run, now, secrets.token_hex(6))).fetchone()
        if row is not None:
            return str(row["id"])


def has_its_job(c: sqlite3.Connection, run: NewRun) -> bool:
    """Tell whether the job whose run it is to be is still there, if it is anyone's."""
    return run.job_id is None or c.execute(_JOB, {"job_id": run.job_id}).fetchone() is not None


def insert_all(c: sqlite3.Connection, new: Iterable[tuple[str, NewRun, datetime]]) -> None:
    """Store pending runs under new ids, each made at its time; raises `IntegrityError` where a run has the id."""
    c.executemany(_INSERT, [_values(run, now, run_id) for run_id, run, now in new])


def new_ids(count: int) -> list[str]:
    """Return ids for runs, which hardly any has yet."""
    digits = secrets.token_hex(6 * count)
    return [digits[place : place + 12] for place in range(0, len(digits), 12)]


def _values(run: NewRun, now: datetime, run_id: str) -> dict[str, Any]:
    return {
        "id": run_id,
        "job_id": run.job_id,
        "webhook_id": run.webhook_id,
        "trigger": run.trigger.value,  # sqlite3 takes long for what is not quite a str
        "prompt": run.prompt,
        "tools": _json_of(run.tools),
        "timeout_minutes": run.timeout_minutes,
        "model": run.model,
        "rehearsal": int(run.rehearsal),
        "scheduled_for": None if run.scheduled_for is None else to_text(run.scheduled_for),
        "parent_run_id": run.parent_run_id,
        "root_run_id": run.root_run_id,
        "depth": run.depth,
        "not_before": None if run.not_before is None else to_text(run.not_before),
        "reason": run.reason,
        "profile": None if run.profile is None else run.profile.value,
        "commands": _json_of(run.commands),
        "alone": int(run.alone),
        "max_cost_usd": run.max_cost_usd,
        "now": to_text(now),
    }


@lru_cache(maxsize=256)  # a webhook has the same for all its runs
def _json_of(names: tuple[str, ...]) -> str:
    return json.dumps(names)
