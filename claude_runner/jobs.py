"""Jobs: a prompt and when to run it. Owns the tables jobs and occurrences.

An occurrence is the fate of one planned slot of a job; `UNIQUE (job_id, scheduled_for)` decides who runs it.
"""

import json
import re
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from claude_runner.db import Database, from_text, to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.grants import read_tools
from claude_runner.hub import Hub, Topic
from claude_runner.runs import NewRun, Trigger
from claude_runner.schedule import Schedule, parse

MAX_NAME: Final = 200
MAX_PROMPT: Final = 1_000_000
DEFAULT_TIMEOUT_MINUTES: Final = 30

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobDraft:
    """What a person decides about a job.

    Attributes:
        tools: Names in full form; empty means the owner's allowed tools.
        timeout_minutes: Minutes after which a run is ended, 1 to 1440.
        model: A model's name or alias, or `None` for Claude Code's own default.
    """

    name: str
    cron: str
    prompt: str
    timezone: str
    tools: tuple[str, ...] = ()
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    model: str | None = None
    enabled: bool = True

    @property
    def schedule(self) -> Schedule:
        """Return when it runs; raises `InvalidError` where the cron or zone can't be read."""
        return parse(self.cron, self.timezone)

    def checked(self) -> "JobDraft":
        """Return the draft in the form it is kept in.

        Raises:
            InvalidError: A value is not one that can be used; its `field` says which.
        """
        name = " ".join(self.name.split())
        if not name or len(name) > MAX_NAME or _CONTROL.search(self.name):
            raise InvalidError(
                f"a job's name is 1 to {MAX_NAME} characters without control characters", field="name"
            )
        _check_prompt(self.prompt)
        if not 1 <= self.timeout_minutes <= 1440:
            raise InvalidError(
                f"timeout_minutes is {self.timeout_minutes}; give 1 to 1440",
                field="timeout_minutes",
            )
        if self.model is not None and not _MODEL.fullmatch(self.model):
            raise InvalidError(
                f"{self.model[:60]!r} is not the name of a model; give one such as 'sonnet', or leave it out",
                field="model",
            )
        schedule = self.schedule
        return replace(self, name=name, cron=schedule.expression, timezone=schedule.timezone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(JobDraft):
    """A job as stored. `next_run_at` is `None` where it is disabled or nothing comes any more."""

    id: str
    created_at: datetime
    updated_at: datetime
    next_run_at: datetime | None
    last_executed_at: datetime | None
    last_error: str | None

    def new_run(
        self, trigger: Trigger, *, scheduled_for: datetime | None = None, rehearsal: bool = False
    ) -> NewRun:
        """Return a run of the job as it is now."""
        return NewRun(
            prompt=self.prompt,
            trigger=trigger,
            tools=self.tools,
            timeout_minutes=self.timeout_minutes,
            model=self.model,
            job_id=self.id,
            scheduled_for=scheduled_for,
            rehearsal=rehearsal,
        )


class Broken(NamedTuple):
    """A job that somebody edited by hand, so that it can't be read or planned any more.

    Attributes:
        slot: Its next slot, as it is written.
        error: What is wrong with it.
    """

    id: str
    slot: str
    error: str


class Fate(StrEnum):
    """What became of a planned slot."""

    RAN = "ran"
    CAUGHT_UP = "caught_up"
    SKIPPED_OVERLAP = "skipped_overlap"
    SKIPPED_BUDGET = "skipped_budget"
    SKIPPED_PAUSED = "skipped_paused"
    SKIPPED_BLACKOUT = "skipped_blackout"
    MISSED = "missed"


def _check_prompt(prompt: str) -> None:
    """Refuse a prompt that can't be run.

    Raises:
        InvalidError: It is empty, too long, or has control characters other than tabs and line ends.
    """
    if not prompt.strip():
        raise InvalidError("the prompt is empty; say what Claude should do", field="prompt")
    if len(prompt) > MAX_PROMPT:
        raise InvalidError(
            f"the prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are kept: "
            "put long material in a file that the prompt names",
            field="prompt",
        )
    if found := _CONTROL.search(prompt):
        raise InvalidError(
            f"the prompt has the control character U+{ord(found[0]):04X} at {found.start()}; remove it",
            field="prompt",
        )


class Jobs:
    """The jobs in the database."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._db = database
        self._hub = hub

    async def add(self, draft: JobDraft, now: datetime) -> Job:
        """Store a new job; its id is made here.

        Raises:
            InvalidError: A value can't be used, or the schedule never fires.
        """
        values = _values(draft.checked(), now) | {"created_at": to_text(now)}

        def insert(c: sqlite3.Connection) -> Job:
            while True:  # until the id is one that no job has
                row = c.execute(_INSERT, values | {"id": secrets.token_hex(4)}).fetchone()
                if row is not None:
                    return _job(row)

        job = await self._db.write(insert)
        self._hub.publish(Topic.JOBS, job.id)
        return job

    async def get(self, job_id: str) -> Job:
        """Return the job.

        Raises:
            NotFoundError: There is none with this id.
        """
        job = await self._db.read(lambda c: find(c, job_id))
        if job is None:
            raise _no_job(job_id)
        return job

    async def list(self) -> list[Job]:
        """Return all jobs, oldest first."""
        select = "SELECT * FROM jobs ORDER BY created_at, id"
        rows = await self._db.read(lambda c: c.execute(select).fetchall())
        return [_job(row) for row in rows]

    async def change(self, job_id: str, changes: Mapping[str, Any], now: datetime) -> Job:
        """Change some of what was decided about the job; where that is when it runs, its next slot is planned anew.

        Args:
            job_id: Which job.
            changes: Fields of `JobDraft` and their new values.
            now: The present; the next slot comes after it.

        Raises:
            NotFoundError: There is none with this id.
            InvalidError: A value can't be used, or the schedule never fires.
            ConflictError: Somebody else changed the job at the same moment.
        """
        old = await self.get(job_id)
        new = replace(old, **changes).checked()
        at = max(now, old.updated_at + timedelta(milliseconds=1))  # so that it tells two changes apart
        values = _values(new, at) | {
            "id": job_id,
            "was": to_text(old.updated_at),
            # A slot that is due at this very moment is not lost because the job gets another name.
            "replan": int(old.next_run_at is None or _timing(old) != _timing(new)),
        }
        row = await self._db.write(lambda c: c.execute(_UPDATE, values).fetchone())
        if row is None:
            raise ConflictError(f"job {job_id} was changed by someone else just now; look again")
        self._hub.publish(Topic.JOBS, job_id)
        return _job(row)

    async def remove(self, job_id: str) -> None:
        """Delete the job with its runs and occurrences.

        Raises:
            NotFoundError: There is none with this id.
        """
        delete = "DELETE FROM jobs WHERE id = :id RETURNING id"
        if await self._db.write(lambda c: c.execute(delete, {"id": job_id}).fetchone()) is None:
            raise _no_job(job_id)
        self._hub.publish(Topic.JOBS, job_id)


def find(c: sqlite3.Connection, job_id: str) -> Job | None:
    """Read a job."""
    row = c.execute("SELECT * FROM jobs WHERE id = :id", {"id": job_id}).fetchone()
    return None if row is None else _job(row)


def due(c: sqlite3.Connection, now: datetime, limit: int) -> list[Job | Broken]:
    """Read the jobs whose slot has come, or is not written as an instant; longest waiting first."""
    return [_due(row) for row in c.execute(_DUE, {"now": to_text(now), "limit": limit})]


def next_due_at(c: sqlite3.Connection) -> datetime | None:
    """Read when the next slot of any job comes."""
    (first,) = c.execute(
        "SELECT min(next_run_at) FROM jobs WHERE enabled = 1 AND next_run_at IS NOT NULL"
    ).fetchone()
    with suppress(ValueError):
        return None if first is None else from_text(first)
    return None  # no instant; it is found when it sorts before the present


def take_slot(c: sqlite3.Connection, job: Job, next_run_at: datetime | None, fate: Fate) -> bool:
    """Move the job on to its next slot and write down what becomes of this one; tells whether it was ours to take."""
    values = {"id": job.id, "slot": _text(job.next_run_at), "next": _text(next_run_at), "fate": fate}
    if c.execute(_TAKE_SLOT, values).fetchone() is None:
        return False
    return c.execute(_RECORD_FATE, values).fetchone() is not None


def link_run(c: sqlite3.Connection, job: Job, run_id: str) -> None:
    """Note which run the job's slot became."""
    c.execute(
        "UPDATE occurrences SET run_id = :run_id WHERE job_id = :job_id AND scheduled_for = :scheduled_for",
        {"run_id": run_id, "job_id": job.id, "scheduled_for": _text(job.next_run_at)},
    )


def record_execution(c: sqlite3.Connection, job_id: str, at: datetime, error: str | None) -> None:
    """Note on the job when its last run ended, and what was wrong with it, if anything."""
    c.execute(
        "UPDATE jobs SET last_executed_at = :at, last_error = :error WHERE id = :id",
        {"id": job_id, "at": to_text(at), "error": error},
    )


def shelve(c: sqlite3.Connection, broken: Broken) -> None:
    """Take a job that can't be planned out of the schedule and note why."""
    c.execute(
        "UPDATE jobs SET next_run_at = NULL, last_error = :error WHERE id = :id AND next_run_at = :slot",
        {"id": broken.id, "slot": broken.slot, "error": f"not scheduled any more: {broken.error}"},
    )


_COLUMNS = (
    "name", "cron", "timezone", "prompt", "tools",
    "timeout_minutes", "model", "enabled", "updated_at", "next_run_at",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO jobs (id, created_at, {', '.join(_COLUMNS)})"  # noqa: S608 - names written above
    f" VALUES (:id, :created_at, {', '.join(f':{name}' for name in _COLUMNS)})"
    " ON CONFLICT (id) DO NOTHING RETURNING *"
)
_UPDATE = (
    f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in _COLUMNS[:-1])},"  # noqa: S608 - names written above
    " next_run_at = CASE WHEN :replan THEN :next_run_at ELSE next_run_at END"
    " WHERE id = :id AND updated_at = :was RETURNING *"
)
# Slots are compared as texts, so that one of another form is found at once: it would be due too early, late or never.
_DUE = """
    SELECT * FROM jobs WHERE enabled = 1 AND next_run_at IS NOT NULL
        AND (next_run_at <= :now OR next_run_at NOT LIKE '____-__-__T__:__:__.___+00:00')
    ORDER BY next_run_at, id LIMIT :limit
"""
_TAKE_SLOT = (
    "UPDATE jobs SET next_run_at = :next WHERE id = :id AND next_run_at = :slot AND enabled = 1 RETURNING id"
)
_RECORD_FATE = """
    INSERT INTO occurrences (job_id, scheduled_for, fate) VALUES (:id, :slot, :fate)
    ON CONFLICT (job_id, scheduled_for) DO NOTHING RETURNING job_id
"""


def _values(draft: JobDraft, now: datetime) -> dict[str, Any]:
    next_run_at = draft.schedule.next(now) if draft.enabled else None
    if draft.enabled and next_run_at is None:
        raise InvalidError(f"'{draft.cron}' never fires; a schedule must have a day to come", field="cron")
    return {
        "name": draft.name,
        "cron": draft.cron,
        "timezone": draft.timezone,
        "prompt": draft.prompt,
        "tools": json.dumps(draft.tools),
        "timeout_minutes": draft.timeout_minutes,
        "model": draft.model,
        "enabled": int(draft.enabled),
        "updated_at": to_text(now),
        "next_run_at": _text(next_run_at),
    }


def _timing(draft: JobDraft) -> tuple[str, str, bool]:
    return draft.cron, draft.timezone, draft.enabled


def _no_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id[:60]!r}; list_jobs shows them all", field="job_id")


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else to_text(instant)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)


def _due(row: sqlite3.Row) -> Job | Broken:
    slot = row["next_run_at"]
    try:
        job = _job(row)
        job.schedule  # noqa: B018 - raises where it can't be read
    except InvalidError as error:
        return Broken(row["id"], slot, str(error))
    if _text(job.next_run_at) != slot:
        return Broken(
            row["id"], slot, f"next_run_at is {slot!r}; an instant is written as {_text(job.created_at)}"
        )
    return job


def _job(row: sqlite3.Row) -> Job:
    """Make a job of its row; raises `InvalidError` where somebody wrote what can't be read into it."""
    try:
        return _read(row)
    except (ValueError, InvalidError) as error:
        raise InvalidError(f"job {row['id']} was edited by hand and can't be read: {error}") from error


def _read(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        name=row["name"],
        cron=row["cron"],
        timezone=row["timezone"],
        prompt=row["prompt"],
        tools=read_tools(row["tools"]),
        timeout_minutes=row["timeout_minutes"],
        model=row["model"],
        enabled=bool(row["enabled"]),
        created_at=from_text(row["created_at"]),
        updated_at=from_text(row["updated_at"]),
        next_run_at=_instant(row["next_run_at"]),
        last_executed_at=_instant(row["last_executed_at"]),
        last_error=row["last_error"],
    )
