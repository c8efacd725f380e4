"""What the owner may change while the server runs. Owns the table settings: a key and a JSON value each."""

import json
import math
import sqlite3
from contextlib import suppress
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from claude_runner.config import is_host
from claude_runner.db import Database
from claude_runner.permissions import Profile, Rights


class FollowUpCaps(NamedTuple):
    """How far a chain of runs that ask for one another may go.

    Attributes:
        max_depth: Follow-ups one after the other.
        max_runs: Follow-ups of one chain in all.
        max_cost_usd: What a chain may have cost, its first run included, for another follow-up to be made or started.
    """

    max_depth: int = 3
    max_runs: int = 10
    max_cost_usd: float = 5.0


DEFAULTS: Final = MappingProxyType(
    {
        "allowed_tools": ["WebSearch", "WebFetch", "Read", "Write", "Edit", "Bash"],
        "mcp_servers": [],
        "mcp_env_vars": {},
        "webhook_base_url": "http://localhost:8080",
        "sandbox_mode": True,
        "permission_profile": None,
        "followups": FollowUpCaps()._asdict(),
        "install_dependencies": False,
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

    async def install_dependencies(self) -> bool:
        """Return whether packages that tool servers declare may be installed."""
        select = "SELECT value FROM settings WHERE key = 'install_dependencies'"
        row = await self._db.read(lambda c: c.execute(select).fetchone())
        return row is not None and _read(row["value"]) is True

    async def webhook_base_url(self) -> str | None:
        """Return the base of the URLs that leave the machine, without a slash at its end, where the owner set one.

        What is no http or https URL counts as none.
        """
        select = "SELECT value FROM settings WHERE key = 'webhook_base_url'"
        row = await self._db.read(lambda c: c.execute(select).fetchone())
        value = None if row is None else _read(row["value"])
        if not isinstance(value, str) or value == DEFAULTS["webhook_base_url"]:
            return None
        return value.rstrip("/") if _is_url(value) else None

    async def rights(self) -> Rights:
        """Return what the owner has decided about permission profiles."""
        return await self._db.read(rights)


def allowed_tools(c: sqlite3.Connection) -> tuple[str, ...]:
    """Read the built-in tools that jobs may use; what is no list of texts counts as none."""
    row = c.execute("SELECT value FROM settings WHERE key = 'allowed_tools'").fetchone()
    value = DEFAULTS["allowed_tools"] if row is None else _read(row["value"])
    if not isinstance(value, list):
        return ()
    return tuple(name for name in value if isinstance(name, str))


def rights(c: sqlite3.Connection) -> Rights:
    """Read what the owner has decided about permission profiles; whatever can't be read counts as the narrowest."""
    rows = c.execute("SELECT key, value FROM settings WHERE key IN ('sandbox_mode', 'permission_profile')")
    values = {row["key"]: _read(row["value"]) for row in rows}
    sandbox_mode = values.get("sandbox_mode", True) is not False
    named = values.get("permission_profile")
    if named is None and not sandbox_mode:
        return Rights(sandbox_mode, Profile.RULES)
    known = {str(profile): profile for profile in Profile}
    return Rights(sandbox_mode, known.get(str(named), Profile.CONTAINED))


def followup_caps(c: sqlite3.Connection) -> FollowUpCaps:
    """Read the caps of follow-ups; one that is missing or no number from 0 on counts as its default."""
    row = c.execute("SELECT value FROM settings WHERE key = 'followups'").fetchone()
    value = None if row is None else _read(row["value"])
    if not isinstance(value, dict):
        return FollowUpCaps()
    given = {name: value[name] for name in FollowUpCaps._fields if _is_amount(value.get(name))}
    return FollowUpCaps(**given)


def _is_url(text: str) -> bool:
    with suppress(ValueError):  # brackets that hold no address
        return text.startswith(("http://", "https://")) and is_host(urlsplit(text).netloc)
    return False


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _read(text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    return None
