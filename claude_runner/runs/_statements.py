"""The changes a run goes through, each a guarded statement on a connection."""

import json
import sqlite3
from contextlib import suppress
from datetime import datetime
from typing import Any

from claude_runner.db import from_text, to_text
from claude_runner.runs import _calls
from claude_runner.runs._records import Ending, Granted, Parking, Run, Tokens, run_from

# The terms that SQLite's partial indices stand for must be written out, or it looks at every run there ever was.
_OPEN = "state IN ('pending', 'running')"
_CLAIM = f"""
    UPDATE runs SET state = 'running', attempt = attempt + 1, worker = :worker,
        session_id = CASE WHEN resumes = 1 THEN session_id ELSE :session_id END,
        started_at = :now, not_before = NULL, reason = NULL, error = NULL
    WHERE state = 'pending' AND id = (
        SELECT id FROM runs AS waiting
        WHERE {_OPEN} AND state = 'pending' AND (not_before IS NULL OR not_before <= :now)
            AND (rehearsal = 1 OR trigger IN ('manual', 'quick') OR (:held = 0 AND (job_id IS NULL OR job_id NOT IN (
                SELECT id FROM jobs WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > :now)
            ))))
            AND ((alone = 0 AND parent_run_id IS NULL) OR NOT EXISTS (
                SELECT 1 FROM runs AS other WHERE other.{_OPEN} AND other.state = 'running'
                    AND (other.id = waiting.parent_run_id OR other.job_id = waiting.job_id)
            ))
        ORDER BY created_at, id LIMIT 1
    ) RETURNING *
"""  # noqa: S608 - written above
_RUNNING = f"SELECT * FROM runs WHERE {_OPEN} AND state = 'running' ORDER BY started_at, id"  # noqa: S608
_FENCE = "WHERE id = :id AND attempt = :attempt AND state = 'running' RETURNING id"
_METER = f"""
    UPDATE runs SET input_tokens = :input, output_tokens = :output, cache_read_tokens = :cache_read,
        cache_write_tokens = :cache_write, model = coalesce(:model, model), cost_usd = coalesce(:cost_usd, cost_usd)
    {_FENCE}
"""  # noqa: S608 - written above
_GRANT = f"UPDATE runs SET profile = :profile, warnings = :warnings {_FENCE}"  # noqa: S608 - written above
_END = f"""
    UPDATE runs SET state = :state, output = :output, error = :error, reason = :reason, finished_at = :now,
        input_tokens = coalesce(:input, input_tokens), output_tokens = coalesce(:output_tokens, output_tokens),
        cache_read_tokens = coalesce(:cache_read, cache_read_tokens),
        cache_write_tokens = coalesce(:cache_write, cache_write_tokens),
        cost_usd = :cost_usd, model_usage = :model_usage
    {_FENCE}
"""  # noqa: S608 - written above
_PARK = f"""
    UPDATE runs SET state = 'pending', worker = NULL, not_before = :not_before, reason = :reason, error = :error,
        resumes = :resumes, retries = :retries, input_tokens = coalesce(:input, input_tokens),
        output_tokens = coalesce(:output_tokens, output_tokens),
        cache_read_tokens = coalesce(:cache_read, cache_read_tokens),
        cache_write_tokens = coalesce(:cache_write, cache_write_tokens), cost_usd = :cost_usd,
        model_usage = :model_usage, session_usage = :session_usage
    {_FENCE}
"""  # noqa: S608 - written above
_HAS_CALLED = "SELECT 1 FROM tool_calls WHERE run_id = :id AND started_at >= :since LIMIT 1"
_HAS_SAID = """
    SELECT 1 FROM run_events WHERE run_id = :id AND at >= :since AND kind IN ('text', 'thinking', 'tool_use') LIMIT 1
"""
_UNREADABLE = """
    UPDATE runs SET state = 'error', reason = 'unreadable', error = :error, finished_at = :now WHERE id = :id
"""
_CANCEL_PENDING = """
    UPDATE runs SET state = 'cancelled', error = :error, reason = 'cancelled', finished_at = :now
    WHERE id = :id AND state = 'pending' RETURNING id
"""


def claim(
    c: sqlite3.Connection, worker: str, session_id: str, now: datetime, *, held: bool = False
) -> Run | None:
    """Start a new attempt at the pending run that has waited longest; `None` where none waits.

    A follow-up waits until the run that asked for it has ended, and every other of its job: they share a folder. So
    does a run that is to be alone. What nobody started by hand waits for the end of its job's pause.

    Args:
        c: Where the runs are.
        worker: Who executes it.
        session_id: A UUID that is new, for a run that does not go on in its last attempt's session.
        now: The present.
        held: Whether only runs that somebody started by hand may start.
    """
    values = {"worker": worker, "session_id": session_id, "now": to_text(now), "held": int(held)}
    while (row := c.execute(_CLAIM, values).fetchone()) is not None:
        try:
            return run_from(row)
        except (ValueError, TypeError) as error:  # edited by hand; it must not hold up the others
            c.execute(
                _UNREADABLE,
                {"id": row["id"], "now": to_text(now), "error": f"its row can't be read: {error}"},
            )
    return None


def meter(
    c: sqlite3.Connection, run: Run, tokens: Tokens, model: str | None, cost_usd: float | None = None
) -> bool:
    """Write what the run has used up to now, all attempts together; tells whether the attempt may still write."""
    values = {
        "id": run.id,
        "attempt": run.attempt,
        "input": tokens.input,
        "output": tokens.output,
        "cache_read": tokens.cache_read,
        "cache_write": tokens.cache_write,
        "model": model,
        "cost_usd": cost_usd,
    }
    return c.execute(_METER, values).fetchone() is not None


def grant(c: sqlite3.Connection, run: Run, granted: Granted) -> None:
    """Write what the attempt was granted."""
    values = {"id": run.id, "attempt": run.attempt, "profile": granted.profile}
    c.execute(_GRANT, values | {"warnings": json.dumps(granted.warnings)})


def end(c: sqlite3.Connection, run: Run, ending: Ending, now: datetime) -> bool:
    """End the attempt, and with it the calls of tools that are open; tells whether it was ours to end."""
    tokens = ending.tokens
    values = {
        "id": run.id,
        "attempt": run.attempt,
        "now": to_text(now),
        "state": ending.state,
        "output": ending.output,
        "error": ending.error,
        "reason": ending.reason,
        "input": tokens and tokens.input,
        "output_tokens": tokens and tokens.output,
        "cache_read": tokens and tokens.cache_read,
        "cache_write": tokens and tokens.cache_write,
        "cost_usd": ending.cost_usd,
        "model_usage": None if ending.model_usage is None else json.dumps(ending.model_usage),
    }
    if c.execute(_END, values).fetchone() is None:
        return False
    _calls.abandon(c, run.id)
    return True


def park(c: sqlite3.Connection, run: Run, parking: Parking) -> bool:
    """Let the attempt wait to be taken up again, its open calls given up; tells whether it was ours to park."""
    tokens = parking.tokens
    values = {
        "id": run.id,
        "attempt": run.attempt,
        "not_before": to_text(parking.not_before),
        "reason": parking.reason,
        "error": parking.error,
        "resumes": int(parking.resumes),
        "retries": parking.retries,
        "input": tokens and tokens.input,
        "output_tokens": tokens and tokens.output,
        "cache_read": tokens and tokens.cache_read,
        "cache_write": tokens and tokens.cache_write,
        "cost_usd": parking.cost_usd,
        "model_usage": None if parking.model_usage is None else json.dumps(parking.model_usage),
        "session_usage": None if parking.session_usage is None else json.dumps(parking.session_usage),
    }
    if c.execute(_PARK, values).fetchone() is None:
        return False
    _calls.abandon(c, run.id)
    return True


def usage_before(c: sqlite3.Connection, run: Run) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Read what earlier attempts used of each model, what Claude Code last said of the session, and its model."""
    select = "SELECT model_usage, session_usage, model FROM runs WHERE id = :id"
    row = c.execute(select, {"id": run.id}).fetchone()
    if row is None:
        return {}, {}, None
    kept, said = (json.loads(row[name] or "{}") for name in ("model_usage", "session_usage"))
    return kept, said, row["model"]


def has_begun(c: sqlite3.Connection, run: Run) -> bool:
    """Tell whether the attempt has said or called anything, or goes on with what one before it had."""
    if run.resumes or run.started_at is None:
        return run.resumes
    values = {"id": run.id, "since": to_text(run.started_at)}
    return any(c.execute(select, values).fetchone() is not None for select in (_HAS_CALLED, _HAS_SAID))


def running(c: sqlite3.Connection) -> dict[str, list[Run]]:
    """Read the runs that are going on, by the worker that executes them."""
    found: dict[str, list[Run]] = {}
    for row in c.execute(_RUNNING):
        with suppress(ValueError, TypeError):  # edited by hand so that it can't be read: it holds up no other
            found.setdefault(row["worker"], []).append(run_from(row))
    return found


def next_parked_until(c: sqlite3.Connection, now: datetime) -> datetime | None:
    """Read when the next of the runs that wait for their time may start."""
    (first,) = c.execute(
        "SELECT min(not_before) FROM runs WHERE state = 'pending' AND not_before > :now",
        {"now": to_text(now)},
    ).fetchone()
    with suppress(ValueError, TypeError):  # there is none, or it was edited by hand
        return from_text(first)
    return None


def cancel_pending(c: sqlite3.Connection, run_id: str, error: str, now: datetime) -> bool:
    """Cancel a run that has not started; tells whether it had not."""
    values = {"id": run_id, "error": error, "now": to_text(now)}
    return c.execute(_CANCEL_PENDING, values).fetchone() is not None
