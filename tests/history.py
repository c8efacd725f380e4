"""A long history: a database filled with jobs and with runs that have ended, as fast as SQLite takes them.

The triggers are taken out meanwhile and what they keep is counted at the end, all at once, so that it is also what they
are compared with.
"""

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from claude_runner.db import to_text
from claude_runner.db._migrations import migrate

NOW: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)
MODELS: Final = ("claude-sonnet-4-5", "claude-opus-4-1", "claude-haiku-4-5")
REASONS: Final = ("timeout", "usage_limit", "mcp_server_failed", "agent_crashed", "overloaded", "max_turns")
CRONS: Final = ("0 9 * * 1-5", "*/15 * * * *", "30 6 * * *", "0 0 1 * *", "@hourly", "5 4 * * 0")
ZONES: Final = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
TASKS: Final = (
    "Morning report",
    "Backup check",
    "Inbox triage",
    "Sprint summary",
    "Price watch",
    "Log review",
)
COMMON: Final = ("done", "report", "summary", "checked", "mail", "sprint", "error", "nothing", "new", "since")
SYLLABLES: Final = (
    "ba",
    "co",
    "di",
    "fu",
    "ge",
    "ha",
    "ki",
    "lo",
    "mu",
    "ne",
    "pra",
    "sto",
    "tri",
    "vel",
    "zan",
)

_TRIGGERS: Final = ("runs_inserted", "run_ends_inserted", "run_ends_shared", "occurrences_inserted")
_SUMS: Final = """
    sum(finished), sum(failed), sum(cancelled), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(cost_usd), sum(unpriced), sum(seconds)
"""
_COUNTED: Final = {
    "usage_sums": f"""
        SELECT 'quarter', rehearsal, quarter, {_SUMS} FROM run_sums GROUP BY rehearsal, quarter
        UNION ALL SELECT 'day', rehearsal, day, {_SUMS} FROM run_sums GROUP BY rehearsal, day
    """,
    "usage_shares": f"""
        SELECT 'quarter', dimension, key, quarter, {_SUMS} FROM run_shares GROUP BY dimension, key, quarter
        UNION ALL SELECT 'day', dimension, key, day, {_SUMS} FROM run_shares GROUP BY dimension, key, day
        UNION ALL SELECT 'month', dimension, key, substr(day, 1, 8) || '01' || substr(day, 11), {_SUMS}
            FROM run_shares GROUP BY dimension, key, substr(day, 1, 8)
    """,
    "slot_quarters": "SELECT quarter, sum(ran), sum(skipped), sum(missed) FROM slot_sums GROUP BY quarter",
    "job_totals": """
        SELECT job_id, sum(run), sum(failed), sum(cost_usd), sum(priced), sum(seconds),
            coalesce((SELECT failed FROM run_sums AS last WHERE last.job_id = every.job_id AND NOT cancelled
                ORDER BY finished_at DESC LIMIT 1), 0),
            coalesce((SELECT group_concat(letter, '') FROM (SELECT letter FROM (
                SELECT letter, finished_at AS at FROM run_sums WHERE job_id = every.job_id
                UNION ALL SELECT letter, scheduled_for FROM slot_sums
                    WHERE job_id = every.job_id AND letter IS NOT NULL
                ORDER BY at DESC LIMIT 20) ORDER BY at)), '')
        FROM (
            SELECT job_id, 1 AS run, failed, cost_usd, priced, seconds FROM run_sums WHERE job_id IS NOT NULL
            UNION ALL SELECT job_id, 0, 0, 0.0, 0, 0.0 FROM slot_sums WHERE letter IS NOT NULL
        ) AS every GROUP BY job_id
    """,
}
_RUN: Final = """
    INSERT INTO runs (id, job_id, webhook_id, trigger, state, prompt, output, error, reason, scheduled_for, created_at,
        started_at, finished_at, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, model,
        model_usage, rehearsal, attempt, worker, denials)
    VALUES (:id, :job_id, :webhook_id, :trigger, :state, :prompt, :output, :error, :reason, :scheduled_for, :created_at,
        :started_at, :finished_at, :input, :output_tokens, :cache_read, :cache_write, :cost_usd, :model,
        :model_usage, :rehearsal, 1, 'here:1', :denials)
"""
_JOB: Final = """
    INSERT INTO jobs (id, name, cron, timezone, prompt, enabled, created_at, updated_at, next_run_at, last_executed_at)
    VALUES (:id, :name, :cron, :timezone, :prompt, :enabled, :created_at, :created_at, :next_run_at, :last_executed_at)
"""
_ENDS: Final = "created_at, state, trigger, reason, job_id, webhook_id, cost_usd, rehearsal"
_SLOT: Final = "INSERT INTO occurrences (job_id, scheduled_for, fate, reason, run_id) VALUES (?, ?, ?, ?, ?)"
_CALL: Final = """
    INSERT INTO tool_calls (id, run_id, server, tool, arguments, verdict, result, result_length, started_at,
        duration_ms)
    VALUES (:id, :run_id, :server, :tool, :arguments, :verdict, :result, :result_length, :started_at, :duration_ms)
"""


class History(NamedTuple):
    """What a database was filled with.

    Attributes:
        runs: Ids, oldest first.
        rare: A word that is in one run alone.
    """

    jobs: list[str]
    runs: list[str]
    rare: str


def fill(
    path: Path,
    runs: int,
    jobs: int = 20,
    *,
    days: int = 300,
    until: datetime = NOW,
    webhooks: Sequence[str] = ("aaaaaaaa", "bbbbbbbb"),
    rehearsals: float = 0.01,
    calls: int = 0,
    seed: int = 6,
) -> History:
    """Fill a database, made where there is none; nobody else may have it open.

    Args:
        path: The file.
        runs: How many, all ended.
        jobs: How many, the next slots of all of them long to come.
        days: Over how long they are spread, evenly.
        until: When the last of them ended, or a little before.
        webhooks: Ids of those that some runs were started by; none is made here.
        rehearsals: Which part of the runs were against the stand-in model.
        calls: How many calls of tools there were in the latest runs.
        seed: Gives the same history again.
    """
    migrate(path.resolve())
    chance = random.Random(seed)
    writer = _Writer(chance, until - timedelta(days=days), timedelta(days=days) / max(runs, 1), webhooks)
    with closing(sqlite3.connect(path)) as c:
        c.execute("PRAGMA journal_mode = OFF")
        c.execute("PRAGMA synchronous = OFF")
        c.execute("PRAGMA cache_size = -400000")
        with c, _without_triggers(c):
            made = writer.jobs(jobs, until)
            c.executemany(_JOB, made)
            ids = [job["id"] for job in made]
            run_ids: list[str] = []
            for batch in _batches(writer.runs(runs, ids, rehearsals), 10_000):
                c.executemany(_RUN, batch)
                c.executemany(_SLOT, filter(None, map(writer.slot, batch)))
                run_ids += [run["id"] for run in batch]
            c.executemany(_CALL, writer.calls(calls, run_ids))
            c.execute(
                f"INSERT INTO run_ends (run_id, {_ENDS}) SELECT id, {_ENDS} FROM runs ORDER BY finished_at, id"
            )
            count_all(c)
            c.execute("INSERT INTO run_words (run_words) VALUES ('rebuild')")
            c.execute("INSERT INTO run_words (run_words, rank) VALUES ('merge', -1000000)")
            c.execute("UPDATE run_words_taken SET until = (SELECT max(n) FROM run_ends)")
        c.execute("PRAGMA journal_mode = WAL")
    return History(ids, run_ids, f"unique{runs // 2}")


def count_all(c: sqlite3.Connection) -> None:
    """Count what the triggers keep, anew."""
    for table, counted in _COUNTED.items():
        c.execute(f"DELETE FROM {table}")
        c.execute(f"INSERT INTO {table} {counted}")


def counted(c: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """What should stand in a table that the triggers keep."""
    return sorted(tuple(row) for row in c.execute(_COUNTED[table]))


@contextmanager
def _without_triggers(c: sqlite3.Connection) -> Iterator[None]:
    marks = ", ".join("?" * len(_TRIGGERS))
    kept = c.execute(f"SELECT name, sql FROM sqlite_schema WHERE name IN ({marks})", _TRIGGERS).fetchall()
    assert len(kept) == len(_TRIGGERS)
    for name, _ in kept:
        c.execute(f"DROP TRIGGER {name}")
    yield
    for _, sql in kept:
        c.execute(sql)


class _Writer:
    """Makes up what there is to write."""

    def __init__(
        self, chance: random.Random, since: datetime, step: timedelta, webhooks: Sequence[str]
    ) -> None:
        self._chance = chance
        self._since = since
        self._step = step
        self._webhooks: list[str | None] = [*webhooks] or [None]
        words = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(4_000)]
        words = [*COMMON, *words]
        weights = list(itertools.accumulate(1 / place for place in range(1, len(words) + 1)))
        self._paragraphs = [
            " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(10, 120))).capitalize() + "."
            for _ in range(3_000)
        ]

    def jobs(self, count: int, until: datetime) -> list[dict[str, Any]]:
        chance = self._chance
        return [
            {
                "id": f"{number:08x}",
                "name": f"{TASKS[number % len(TASKS)]} {number}",
                "cron": CRONS[number % len(CRONS)],
                "timezone": ZONES[number % len(ZONES)],
                "prompt": f"{TASKS[number % len(TASKS)]}: {chance.choice(self._paragraphs)}",
                "enabled": int(number % 10 != 9),
                "created_at": to_text(self._since + timedelta(seconds=number)),
                "next_run_at": None if number % 10 == 9 else to_text(until + timedelta(days=30, minutes=number)),
                "last_executed_at": to_text(until - timedelta(minutes=chance.randint(1, 10_000))),
            }
            for number in range(1, count + 1)
        ]  # fmt: skip

    def runs(self, count: int, jobs: Sequence[str], rehearsals: float) -> Iterator[dict[str, Any]]:
        chance = self._chance
        weights = list(itertools.accumulate(1 / (place + 3) for place in range(len(jobs))))
        for number in range(count):
            what = chance.random()
            by_job = bool(jobs) and what < 0.75
            job_id = chance.choices(jobs, cum_weights=weights)[0] if by_job else None
            webhook_id = chance.choice(self._webhooks) if what > 0.82 else None
            run = self._run(number, chance.random() < rehearsals)
            run |= {"job_id": job_id, "webhook_id": webhook_id}
            run["trigger"] = _trigger(by_job, webhook_id, chance.random())
            if run["trigger"] in {"schedule", "catch_up"}:
                run["scheduled_for"] = run["created_at"]
            if number == count // 2:
                run["output"] = f"{run['output'] or ''} unique{count // 2}"
            yield run

    def slot(self, run: dict[str, Any]) -> tuple[Any, ...] | None:
        if run["job_id"] is None:
            return None
        if run["scheduled_for"] is not None:
            fate = "ran" if run["trigger"] == "schedule" else "caught_up"
            return run["job_id"], run["scheduled_for"], fate, None, run["id"]
        if self._chance.random() < 0.5:
            fate = self._chance.choice(("missed", "skipped_overlap"))
            return run["job_id"], run["created_at"], fate, "it was in the way", None
        return None

    def calls(self, count: int, runs: Sequence[str]) -> Iterator[dict[str, Any]]:
        chance = self._chance
        for number in range(count):
            server = chance.choice(("email", "cat-facts", None, None))
            yield {
                "id": f"{number:016x}",
                "run_id": runs[-1 - number // 5] if number // 5 < len(runs) and number % 20 else None,
                "server": server,
                "tool": f"mcp__{server}__go" if server else chance.choice(("Read", "Bash", "WebSearch")),
                "arguments": json.dumps({"what": chance.choice(self._paragraphs)[:100]}),
                "verdict": chance.choices(("ok", "error", "denied"), weights=(94, 4, 2))[0],
                "result": chance.choice(self._paragraphs),
                "result_length": 500,
                "started_at": to_text(self._since + self._step * len(runs) - timedelta(seconds=7 * number)),
                "duration_ms": chance.random() * 1000,
            }

    def _run(self, number: int, rehearsal: bool) -> dict[str, Any]:
        chance = self._chance
        created = self._since + self._step * number
        state = chance.choices(("finished", "error", "cancelled"), weights=(90, 7, 3))[0]
        started = created + timedelta(milliseconds=chance.randint(5, 2_000))
        cost = 0.0 if rehearsal else round(chance.expovariate(12), 6)
        run: dict[str, Any] = {
            "id": f"{(number * 0x9E3779B97F4B + 1) % 2**48:012x}",
            "state": state,
            "prompt": chance.choice(self._paragraphs),
            "output": None if state == "cancelled" else "\n\n".join(chance.choices(self._paragraphs, k=2)),
            "error": None if state == "finished" else "it took too long and was ended",
            "reason": {"error": chance.choice(REASONS), "cancelled": "cancelled"}.get(state),
            "scheduled_for": None,
            "created_at": to_text(created),
            "started_at": to_text(started),
            "finished_at": to_text(started + timedelta(seconds=chance.expovariate(1 / 40))),
            "input": chance.randint(100, 20_000),
            "output_tokens": chance.randint(10, 3_000),
            "cache_read": chance.randint(0, 90_000),
            "cache_write": chance.randint(0, 9_000),
            "cost_usd": None if not rehearsal and chance.random() < 0.05 else cost,
            "model": chance.choice(MODELS),
            "rehearsal": int(rehearsal),
            "denials": int(chance.random() < 0.02),
        }
        return run | {"model_usage": _model_usage(number, run)}


def _model_usage(number: int, run: dict[str, Any]) -> str | None:
    """What Claude Code tells of models at the end: of most runs one, of some a helper, of some nothing."""
    if number % 5 == 0 or run["state"] == "cancelled":
        return None
    basis, cost = ("unknown", 0.5) if run["cost_usd"] is None else ("list", run["cost_usd"])
    shares = ((run["model"], 1.0),) if number % 5 < 4 else ((run["model"], 0.75), (MODELS[-1], 0.25))
    return json.dumps(
        {
            model: {
                "inputTokens": int(run["input"] * share),
                "outputTokens": int(run["output_tokens"] * share),
                "cacheReadInputTokens": int(run["cache_read"] * share),
                "cacheCreationInputTokens": int(run["cache_write"] * share),
                "costUSD": cost * share,
                "costBasis": basis,
            }
            for model, share in shares
        }
    )


def _trigger(by_job: bool, webhook_id: str | None, chance: float) -> str:
    if webhook_id is not None:
        return "webhook"
    if not by_job:
        return "quick" if chance < 0.8 else "run"
    if chance < 0.85:
        return "schedule"
    return "manual" if chance < 0.95 else "catch_up"


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch
