"""The jobs in the database, for whoever does not hold a connection."""

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Final

from claude_runner.db import Database, to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import _calendar, _overview, _pauses, _trash
from claude_runner.jobs._calendar import Coming, Slot
from claude_runner.jobs._overview import JobPage, JobQuery, JobRow
from claude_runner.jobs._policies import COLUMNS as POLICY_COLUMNS
from claude_runner.jobs._policies import values_of
from claude_runner.jobs._records import MAX_NAME, Job, JobDraft, Pause, job_from
from claude_runner.jobs._slots import Fate, Occurrence, record

COPY: Final = " (copy)"  # behind the name of one
_CHANGED: Final = "the job was changed before anybody had looked at it"

_COLUMNS = (
    "name", "cron", "timezone", "prompt", "tools",
    "timeout_minutes", "model", "profile", "commands", "enabled", *POLICY_COLUMNS, "updated_at", "next_run_at",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO jobs (id, created_at, {', '.join(_COLUMNS)})"  # noqa: S608 - names written above
    f" VALUES (:id, :created_at, {', '.join(f':{name}' for name in _COLUMNS)})"
    " ON CONFLICT (id) DO NOTHING RETURNING *"
)
_UPDATE = (
    f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in _COLUMNS[:-1])},"  # noqa: S608 - names written above
    " next_run_at = CASE WHEN :replan THEN :next_run_at ELSE next_run_at END"
    " WHERE id = :id AND updated_at = :was AND removed_at IS NULL RETURNING *"
)
# So that nobody sees a job whose runs are going; it is over at once, should this process die meanwhile.
_HIDE = "UPDATE jobs SET removed_at = created_at, next_run_at = NULL WHERE id = :id AND removed_at IS NULL RETURNING id"


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
        values = _values(draft.checked(now), now) | {"created_at": to_text(now)}

        def insert(c: sqlite3.Connection) -> Job:
            while True:  # until the id is one that no job has
                row = c.execute(_INSERT, values | {"id": secrets.token_hex(4)}).fetchone()
                if row is not None:
                    return job_from(row)

        job = await self._db.write(insert)
        self._hub.publish(Topic.JOBS, job.id)
        return job

    async def duplicate(self, job_id: str, now: datetime) -> Job:
        """Store a copy of the job, paused, so that nothing is done twice before the copy was changed.

        Raises:
            NotFoundError: There is none with this id.
        """
        job = await self.get(job_id)
        values = {each.name: getattr(job, each.name) for each in fields(JobDraft)}
        name = f"{job.name[: MAX_NAME - len(COPY)]}{COPY}"
        return await self.add(JobDraft(**values | {"name": name, "enabled": False}), now)

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
        select = "SELECT * FROM jobs WHERE removed_at IS NULL ORDER BY created_at, id"
        rows = await self._db.read(lambda c: c.execute(select).fetchall())
        return [job_from(row) for row in rows]

    async def names(self, limit: int = 500) -> Sequence[tuple[str, str]]:
        """Return the ids and names of jobs, by name."""
        select = "SELECT id, name FROM jobs WHERE removed_at IS NULL ORDER BY lower(name), id LIMIT :limit"
        rows = await self._db.read(lambda c: c.execute(select, {"limit": limit}).fetchall())
        return [(row["id"], row["name"]) for row in rows]

    async def overview(self, query: JobQuery, limit: int, offset: int = 0) -> JobPage:
        """Return a page of the jobs looked for, each with what came of it."""
        return await self._db.read(lambda c: _overview.overview(c, query, limit, offset))

    async def row(self, job_id: str) -> JobRow:
        """Return the job with what came of it.

        Raises:
            NotFoundError: There is none with this id.
        """
        row = await self._db.read(lambda c: _overview.row(c, job_id))
        if row is None:
            raise _no_job(job_id)
        return row

    async def failing(self, limit: int) -> Sequence[Job]:
        """Return the enabled jobs whose last run failed, or that can't be scheduled, latest first."""
        return await self._db.read(lambda c: _overview.failing(c, limit))

    async def paused_by_themselves(self, limit: int) -> Sequence[Job]:
        """Return the jobs that were paused by their failures or their cost, the latest first."""
        return await self._db.read(lambda c: _pauses.by_themselves(c, limit))

    async def occurrences(
        self, since: datetime, until: datetime, job_id: str | None = None, limit: int = 500
    ) -> Sequence[Slot]:
        """Return what became of the slots from one instant on and before another, in their order."""
        return await self._db.read(lambda c: _calendar.occurrences(c, since, until, job_id, limit))

    async def missed(self, since: datetime, limit: int) -> Sequence[Slot]:
        """Return the slots that were missed from an instant on by jobs that have not run since, latest first."""
        return await self._db.read(lambda c: _calendar.missed(c, since, limit))

    async def coming(self, until: datetime) -> Sequence[Coming]:
        """Return the jobs whose next slot comes before an instant, the first due first."""
        return await self._db.read(lambda c: _calendar.coming(c, until))

    async def change(
        self, job_id: str, changes: Mapping[str, Any], now: datetime, was: datetime | None = None
    ) -> Job:
        """Change some of what was decided about the job; where that is when it runs, its next slot is planned anew.

        Args:
            job_id: Which job.
            changes: Fields of `JobDraft` and their new values.
            now: The present; the next slot comes after it.
            was: The `updated_at` of the job that whoever changes it has seen.

        Raises:
            NotFoundError: There is none with this id.
            InvalidError: A value can't be used, or the schedule never fires.
            ConflictError: Somebody else has changed the job since it was seen, or at the same moment.
        """
        old = await self.get(job_id)
        if was not in {None, old.updated_at}:
            raise _changed(job_id)
        wanted = replace(old, **changes)
        new = wanted.checked(None if _planned_as(old) == _planned_as(wanted) else now)
        at = max(now, old.updated_at + timedelta(milliseconds=1))  # so that it tells two changes apart
        values = _values(new, at) | {
            "id": job_id,
            "was": to_text(old.updated_at),
            # A slot that is due at this very moment is not lost because the job gets another name.
            "replan": int(old.next_run_at is None or _timing(old) != _timing(new)),
        }

        def write(c: sqlite3.Connection) -> sqlite3.Row | None:
            changed: sqlite3.Row | None = c.execute(_UPDATE, values).fetchone()
            if changed is not None and values["replan"]:
                _leave(c, old, now)
            return changed

        row = await self._db.write(write)
        if row is None:
            raise _changed(job_id)
        self._hub.publish(Topic.JOBS, job_id)
        return job_from(row)

    async def pause(self, job_id: str, pause: Pause) -> Job:
        """Pause the job: its slots are skipped until the pause ends. A pause that there is gives way to this one.

        Raises:
            NotFoundError: There is none with this id.
        """

        def write(c: sqlite3.Connection) -> Job | None:
            _pauses.resume(c, job_id)
            _pauses.pause(c, job_id, pause)
            return find(c, job_id)

        return await self._written(job_id, write)

    async def resume(self, job_id: str, now: datetime) -> Job:
        """End the job's pause, its next slot planned from now: nothing of the pause is caught up.

        One that is not paused stays as it is.

        Raises:
            NotFoundError: There is none with this id.
        """

        def write(c: sqlite3.Connection) -> Job | None:
            job = find(c, job_id)
            if job is None or not _pauses.resume(c, job_id):
                return job
            _pauses.skip_unseen(c, job, now)
            return find(c, job_id)

        return await self._written(job_id, write)

    async def _written(self, job_id: str, write: Callable[[sqlite3.Connection], Job | None]) -> Job:
        job = await self._db.write(write)
        if job is None:
            raise _no_job(job_id)
        for topic in (Topic.JOBS, Topic.RUNS):  # what of it waits may begin now, or not any more
            self._hub.publish(topic, job_id)
        return job

    async def remove(self, job_id: str) -> None:
        """Delete the job with its runs and occurrences.

        Raises:
            NotFoundError: There is none with this id.
        """
        if await self._db.write(lambda c: c.execute(_HIDE, {"id": job_id}).fetchone()) is None:
            raise _no_job(job_id)
        await self._delete(job_id)

    async def discard(self, job_id: str, now: datetime) -> bool:
        """Put the job into the trash, where nobody sees it but `discarded`; for an hour it can be taken back.

        Returns:
            Whether it is there now: `False` where a run of it waits or is going on.

        Raises:
            NotFoundError: There is none with this id.
        """
        done = await self._db.write(lambda c: _trash.discard(c, job_id, now))
        if done:
            self._hub.publish(Topic.JOBS, job_id)
        else:
            await self.get(job_id)
        return done

    async def restore(self, job_id: str, now: datetime) -> Job:
        """Take the job out of the trash as it was, its next slot planned anew; one that is not in there stays as it is.

        Raises:
            NotFoundError: There is none with this id, or none any more.
        """

        def write(c: sqlite3.Connection) -> Job | None:
            job = _trash.find_discarded(c, job_id)
            return None if job is None else _trash.restore(c, job, now)

        job = await self._db.write(write)
        if job is None:
            return await self.get(job_id)
        self._hub.publish(Topic.JOBS, job_id)
        return job

    async def discarded(self) -> Sequence[tuple[Job, datetime]]:
        """Return the jobs in the trash, latest first, each with when it is deleted."""
        return await self._db.read(_trash.discarded)

    async def empty_trash(self, now: datetime) -> datetime | None:
        """Delete the jobs that have been in the trash for an hour, and return when to look again; `None` for no need.

        Any number of processes may do so at once.
        """
        for job_id in await self._db.read(lambda c: _trash.over(c, now)):
            await self._delete(job_id)
        return await self._db.read(_trash.next_over_at)

    async def _delete(self, job_id: str) -> None:
        """Delete a job that nobody sees any more, its runs first, so many at a time that nobody waits for long."""
        while await self._db.write(lambda c: _trash.delete_some(c, job_id)):
            pass
        self._hub.publish(Topic.JOBS, job_id)


def find(c: sqlite3.Connection, job_id: str) -> Job | None:
    """Read a job."""
    row = c.execute("SELECT * FROM jobs WHERE id = :id AND removed_at IS NULL", {"id": job_id}).fetchone()
    return None if row is None else job_from(row)


def remember(c: sqlite3.Connection, job_id: str, note: str | None) -> None:
    """Keep a note for the job's later runs, in place of the one there was."""
    c.execute("UPDATE jobs SET note = :note WHERE id = :id", {"id": job_id, "note": note})


def _leave(c: sqlite3.Connection, job: Job, now: datetime) -> None:
    """Write down that a job's slots were missed that had come and that nobody had looked at when it was changed."""
    first = job.next_run_at
    if first is None or first > now or not job.enabled:
        return
    with suppress(InvalidError):  # it was spoiled by hand
        last = job.timetable.latest(first, now)
        count = max(1, job.timetable.count(first, now + timedelta.resolution))
        record(c, job.id, Occurrence(first, Fate.MISSED, _CHANGED, last, count))


def _values(draft: JobDraft, now: datetime) -> dict[str, Any]:
    next_run_at = draft.timetable.next(now) if draft.enabled else None
    return {
        "name": draft.name,
        "cron": draft.cron,
        "timezone": draft.timezone,
        "prompt": draft.prompt,
        "tools": json.dumps(draft.tools),
        "timeout_minutes": draft.timeout_minutes,
        "model": draft.model,
        "profile": draft.profile,
        "commands": json.dumps(draft.commands),
        "enabled": int(draft.enabled),
        **values_of(draft.policy),
        "updated_at": to_text(now),
        "next_run_at": None if next_run_at is None else to_text(next_run_at),
    }


def _timing(draft: JobDraft) -> tuple[object, ...]:
    """Return what decides which slot is next."""
    return draft.cron, draft.timezone, draft.enabled, draft.policy.starts_at, draft.policy.ends_at


def _planned_as(draft: JobDraft) -> tuple[object, ...]:
    """Return what decides whether it would ever run as its rules want it."""
    policy = draft.policy
    return *_timing(draft), policy.blackouts, policy.jitter_seconds, policy.catch_up


def _changed(job_id: str) -> ConflictError:
    return ConflictError(f"job {job_id} was changed by someone else just now; look again")


def _no_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id[:60]!r}; list_jobs shows them all", field="job_id")
