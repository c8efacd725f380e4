"""Claude Code's own record of sessions, kept as it grows, for runs that go on in one after a crash."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from claude_runner.config import Clock
from claude_runner.db import Database, to_text

_APPEND = """
    INSERT INTO transcripts (session_id, subpath, uuid, entry, at) VALUES (:session_id, :subpath, :uuid, :entry, :at)
    ON CONFLICT (session_id, subpath, uuid) WHERE uuid IS NOT NULL DO NOTHING
"""
_LOAD = "SELECT entry FROM transcripts WHERE session_id = :session_id AND subpath = :subpath ORDER BY n"
_SUBPATHS = """
    SELECT DISTINCT subpath FROM transcripts WHERE session_id = :session_id AND subpath <> '' ORDER BY subpath
"""
_SWEEP = """
    DELETE FROM transcripts WHERE session_id NOT IN
        (SELECT session_id FROM runs WHERE state IN ('pending', 'running') AND session_id IS NOT NULL)
"""


class Transcripts:
    """The transcripts in the database; see `Transcripts` of the agent."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    async def append(self, session_id: str, subpath: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """Keep entries, each once: one with a `uuid` that is kept already is passed over."""
        rows = [
            {
                "session_id": session_id,
                "subpath": subpath,
                "uuid": entry.get("uuid"),
                "entry": json.dumps(entry),
                "at": to_text(self._clock.now()),
            }
            for entry in entries
        ]

        def write(c: sqlite3.Connection) -> None:
            c.executemany(_APPEND, rows)

        await self._db.write(write)

    async def load(self, session_id: str, subpath: str) -> list[dict[str, Any]] | None:
        """Return all entries in their order, `None` where nothing is kept."""
        values = {"session_id": session_id, "subpath": subpath}
        rows = await self._db.read(lambda c: c.execute(_LOAD, values).fetchall())
        return [json.loads(row["entry"]) for row in rows] or None

    async def subpaths(self, session_id: str) -> list[str]:
        """Return the paths other than "" for which something is kept."""
        rows = await self._db.read(lambda c: c.execute(_SUBPATHS, {"session_id": session_id}).fetchall())
        return [row["subpath"] for row in rows]

    async def sweep(self) -> None:
        """Delete what is kept of sessions that no run goes on in, such as of one that was cancelled while it waited."""

        def write(c: sqlite3.Connection) -> None:
            c.execute(_SWEEP)

        if await self._db.read(lambda c: c.execute("SELECT 1 FROM transcripts LIMIT 1").fetchone()):
            await self._db.write(write, durable=False)


def forget_transcript(c: sqlite3.Connection, session_id: str) -> None:
    """Delete what is kept of a session."""
    c.execute("DELETE FROM transcripts WHERE session_id = :session_id", {"session_id": session_id})
