"""What the owner may change while the server runs. Owns the table settings: a key and a JSON value each."""

import json
import sqlite3
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from claude_runner.db import Database

DEFAULTS: Final = MappingProxyType(
    {
        "allowed_tools": ["WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash"],
        "mcp_servers": [],
        "mcp_env_vars": {},
        "webhook_base_url": "http://localhost:8080",
        "sandbox_mode": True,
    }
)


class StoredSettings:
    """The settings in the database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add_missing(self) -> None:
        """Store the default of each setting that has no value yet."""
        rows = [{"key": key, "value": json.dumps(value)} for key, value in DEFAULTS.items()]

        def insert(c: sqlite3.Connection) -> None:
            c.executemany(
                "INSERT INTO settings (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING", rows
            )

        await self._db.write(insert)

    async def allowed_tools(self) -> tuple[str, ...]:
        """Return the built-in tools that jobs may use, in the owner's order."""
        return await self._db.read(allowed_tools)


def allowed_tools(c: sqlite3.Connection) -> tuple[str, ...]:
    """Read the built-in tools that jobs may use; what is no list of texts counts as none."""
    row = c.execute("SELECT value FROM settings WHERE key = 'allowed_tools'").fetchone()
    value = DEFAULTS["allowed_tools"] if row is None else _read(row["value"])
    if not isinstance(value, list):
        return ()
    return tuple(name for name in value if isinstance(name, str))


def _read(text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    return None
