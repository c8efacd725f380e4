"""The runs in the database, for whoever does not hold a connection."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from claude_runner.db import Database
from claude_runner.errors import NotFoundError
from claude_runner.hub import Hub, Topic
from claude_runner.runs import (
    _call_log,
    _calls,
    _chains,
    _events,
    _inserts,
    _open,
    _queries,
    _search,
    _statements,
    _usage,
    _words,
)
from claude_runner.runs._call_log import CallHits, CallQuery
from claude_runner.runs._calls import CallPage, ClosedCall, NewCall, ToolCall
from claude_runner.runs._events import Event, EventPage, StoredEvent
from claude_runner.runs._queries import RunHits, RunQuery
from claude_runner.runs._records import Granted, NewRun, Run, Tokens, run_from
from claude_runner.runs._rows import RunRow
from claude_runner.runs._search import RunFilter, RunPage
from claude_runner.runs._usage import Dimension, Share, SlotTotals, Totals

EXPORTED: Final = 50  # runs of an export that a slow client holds: each may be 160 KB
EXPORTED_HEAD: Final = 20_000  # characters of each of their texts


def _free(_: sqlite3.Connection) -> bool:
    return False


class Runs:
    """The runs in the database."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._db = database
        self._hub = hub

    async def add(self, run: NewRun, now: datetime) -> str:
        """Store a pending run, wake whoever executes runs, and return its id.

        Raises:
            NotFoundError: The job whose run it is to be has been deleted.
        """

        def write(c: sqlite3.Connection) -> str | None:
            return _inserts.insert(c, run, now) if _inserts.has_its_job(c, run) else None

        run_id = await self._db.write(write)
        if run_id is None:
            raise NotFoundError(f"job {run.job_id} has been deleted", field="job_id")
        self._hub.publish(Topic.RUNS, run_id)
        return run_id

    async def get(self, run_id: str) -> Run:
        """Return the run.

        Raises:
            NotFoundError: There is none with this id.
        """
        row = await self._db.read(
            lambda c: c.execute("SELECT * FROM runs WHERE id = :id", {"id": run_id}).fetchone()
        )
        if row is None:
            raise NotFoundError(f"there is no run {run_id[:60]!r}; list_runs shows them all", field="run_id")
        return run_from(row)

    async def list(self, wanted: RunFilter, limit: int, cursor: str | None = None) -> RunPage:
        """Return a page of the runs wanted, newest first.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        return await self._db.read(lambda c: _search.page(c, wanted, limit, cursor))

    async def search(self, query: RunQuery, limit: int, cursor: str | None = None) -> RunHits:
        """Return a page of the runs looked for: newest first, those found by a text by when they ended.

        However many runs there are, it looks at so many of them and no more; it may give fewer than `limit`, even none,
        with a cursor to go on from.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        return await self._db.read(lambda c: _queries.search(c, query, limit, cursor))

    async def take_words(self) -> bool:
        """Take the words of some runs that have ended into the index; tells whether there are more.

        A power cut may undo it, and they are taken in again. Any number of processes may do so at once.
        """
        if not await self._db.read(_words.is_behind):
            return False
        return await self._db.write(_words.take_some, durable=False)

    async def merge_words(self) -> bool:
        """Merge a part of the index of words; tells whether there was anything to merge."""
        return await self._db.write(_words.merge_some, durable=False)

    async def export(self, query: RunQuery) -> AsyncIterator[Sequence[RunRow]]:
        """Give all the runs looked for, a few hundred at a time, with the beginnings of longer texts."""
        cursor: str | None = None
        while True:
            hits = await self._db.read(
                lambda c, cursor=cursor: _queries.search(c, query, EXPORTED, cursor, EXPORTED_HEAD)  # type: ignore[misc]
            )
            if hits.runs:
                yield hits.runs
            cursor = hits.next_cursor
            if cursor is None:
                return

    async def going_on(self, limit: int = 50) -> Sequence[RunRow]:
        """Return the runs that are going on, then those that wait, each oldest first."""
        return await self._db.read(lambda c: _queries.going_on(c, limit))

    async def usage(self, edges: Sequence[datetime], *, rehearsal: bool = False) -> Sequence[Totals]:
        """Return what the runs came to that ended between each edge and the next.

        Args:
            edges: In order; an edge within a quarter of an hour counts as its end.
            rehearsal: Whether of runs against the stand-in model, which count apart.
        """
        return await self._db.read(lambda c: _usage.usage(c, edges, rehearsal=rehearsal))

    async def usage_by(
        self, dimension: Dimension, since: datetime, until: datetime, limit: int
    ) -> Sequence[Share]:
        """Return what the runs of each job, webhook or model came to that ended in a stretch of time, dearest first.

        Rehearsals are in none. What was deleted meanwhile is there still, by its id alone.

        Args:
            dimension: Whose runs are added up.
            since: Within a quarter of an hour it counts as its end; so does `until`.
            until: The end, which does not belong to it.
            limit: How many at most.
        """
        return await self._db.read(lambda c: _usage.usage_by(c, dimension, since, until, limit))

    async def usage_in_all(self, *, rehearsal: bool = False) -> Totals:
        """Return what all runs there ever were came to, those since deleted among them."""
        return await self._db.read(lambda c: _usage.usage_in_all(c, rehearsal=rehearsal))

    async def slots(self, edges: Sequence[datetime]) -> Sequence[SlotTotals]:
        """Return what became of the slots planned between each edge and the next, several in a row by the first."""
        return await self._db.read(lambda c: _usage.slots(c, edges))

    async def children(self, run_id: str, limit: int) -> Sequence[RunRow]:
        """Return the runs that this run asked for, oldest first."""
        return await self._db.read(lambda c: _chains.children_of(c, run_id, limit))

    async def unfinished(self, job_id: str) -> tuple[str, ...]:
        """Return the ids of the job's runs that wait or are going on."""
        return await self._db.read(lambda c: _open.unfinished(c, job_id))

    async def unfinished_of_webhook(self, webhook_id: str) -> tuple[str, ...]:
        """Return the ids of the webhook's runs that wait or are going on."""
        return await self._db.read(lambda c: _open.unfinished_of_webhook(c, webhook_id))

    async def cancel_pending_of_webhook(self, webhook_id: str, error: str, now: datetime) -> None:
        """Cancel the webhook's runs that have not started, all at once."""
        cancelled = await self._db.write(lambda c: _open.cancel_pending_of_webhook(c, webhook_id, error, now))
        for run_id in cancelled:
            self._hub.publish(Topic.RUNS, run_id)

    async def next_parked_until(self, now: datetime) -> datetime | None:
        """Return when the next of the runs that wait for their time may start."""
        return await self._db.read(lambda c: _statements.next_parked_until(c, now))

    async def events(self, run_id: str, after: int, limit: int) -> EventPage:
        """Return the events of the run that come after the place given."""
        return await self._db.read(lambda c: _events.page(c, run_id, after, limit))

    async def events_tail(self, run_id: str, limit: int) -> Sequence[StoredEvent]:
        """Return the last events of the run, in order; there are more where the first of them is not number 1."""
        return await self._db.read(lambda c: _events.before(c, run_id, None, limit))

    async def events_before(self, run_id: str, before: int, limit: int) -> Sequence[StoredEvent]:
        """Return the last events of the run that come before a place, in order."""
        return await self._db.read(lambda c: _events.before(c, run_id, before, limit))

    async def events_after(self, run_id: str, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return the next events of the run that come after a place, in order."""
        return await self._db.read(lambda c: _events.after(c, run_id, after, limit))

    async def text_so_far(self, run_id: str) -> str:
        """Return what the model has said in the run up to now."""
        return await self._db.read(lambda c: _events.text_so_far(c, run_id))

    async def claim(
        self, worker: str, session_id: str, now: datetime, held: Callable[[sqlite3.Connection], bool] = _free
    ) -> Run | None:
        """Start a new attempt at the pending run that has waited longest; `None` where none waits.

        Args:
            worker: Who executes it.
            session_id: A UUID that is new.
            now: The present.
            held: Tells whether only runs that somebody started by hand may start.
        """
        run = await self._db.write(lambda c: _statements.claim(c, worker, session_id, now, held=held(c)))
        if run is not None:
            self._hub.publish(Topic.RUNS, run.id)
        return run

    async def record(
        self,
        run: Run,
        events: Sequence[Event],
        tokens: Tokens | None = None,
        model: str | None = None,
        calls: Sequence[ClosedCall] = (),
        granted: Granted | None = None,
        cost_usd: float | None = None,
    ) -> bool:
        """Write what happened in the attempt, what became of its calls and, where given, what it used and was granted.

        It comes ten times a second, so the disk is not flushed for it: a power cut may take what was said in the
        seconds before; the death of the server takes nothing.

        Returns:
            Whether the attempt may still write: `False` once it was ended or given up.
        """

        def write(c: sqlite3.Connection) -> bool:
            if tokens is not None and not _statements.meter(c, run, tokens, model, cost_usd):
                return False
            if granted is not None:
                _statements.grant(c, run, granted)
            return _calls.close_calls(c, run, calls) and _events.append(c, run.id, run.attempt, events)

        may_write = await self._db.write(write, durable=False)
        self._hub.publish(Topic.EVENTS, run.id)
        if calls:
            self._hub.publish(Topic.TOOL_CALLS, run.id)
        return may_write

    async def open_call(self, run: Run, call: NewCall) -> str | None:
        """Write a call of a tool that the attempt is about to make, so that not even a power cut hides it.

        Returns:
            The id of its row; `None` where the attempt was ended or given up, so that the call must not be made.
        """
        call_id = await self._db.write(lambda c: _calls.open_call(c, run, call))
        if call_id is not None:
            self._hub.publish(Topic.TOOL_CALLS, run.id)
        return call_id

    async def note_call(self, call: ClosedCall) -> None:
        """Write a call of a tool that no run made; its texts are redacted by whoever calls."""
        await self._db.write(lambda c: _calls.note(c, call), durable=False)
        self._hub.publish(Topic.TOOL_CALLS, "")

    async def calls(
        self, run_id: str | None, server: str | None, limit: int, cursor: str | None = None
    ) -> CallPage:
        """Return a page of the calls of a run, of a server, of both or of all, newest first.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        return await self._db.read(lambda c: _calls.page(c, run_id, server, limit, cursor))

    async def call_log(self, query: CallQuery, limit: int, cursor: str | None = None) -> CallHits:
        """Return a page of the calls looked for, newest first, with the beginnings of their texts.

        However many calls there are, it looks at so many of them and no more; see `search`.

        Raises:
            InvalidError: The cursor is not one that a page gave.
        """
        return await self._db.read(lambda c: _call_log.search(c, query, limit, cursor))

    async def call(self, call_id: str) -> ToolCall:
        """Return the call, with all that is kept of it.

        Raises:
            NotFoundError: There is none with this id.
        """
        call = await self._db.read(lambda c: _call_log.find(c, call_id))
        if call is None:
            raise NotFoundError(
                f"there is no call {call_id[:60]!r}; list_tool_calls shows them all", field="call_id"
            )
        return call

    async def last_called(self, servers: Iterable[str]) -> dict[str, datetime]:
        """Return when a tool of each server was last called; one that never was is not in it."""
        return await self._db.read(lambda c: _calls.last_called(c, servers))

    async def cancel_pending(self, run_id: str, error: str, now: datetime) -> bool:
        """Cancel a run that has not started; tells whether it had not."""
        cancelled = await self._db.write(lambda c: _statements.cancel_pending(c, run_id, error, now))
        if cancelled:
            self._hub.publish(Topic.RUNS, run_id)
        return cancelled
