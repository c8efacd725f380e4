"""The settings in the database, for whoever does not hold a connection, and how each is read by who does."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from claude_runner.db import Database
from claude_runner.errors import ConflictError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import STANDARD, Policy
from claude_runner.permissions import Profile, Rights
from claude_runner.settings._owned import (
    DEFAULTS,
    FollowUpCaps,
    OwnerSettings,
    checked,
    is_amount,
    is_url,
    read_owned,
    written,
)

_STORE = """
    INSERT INTO settings (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""


class StoredSettings:
    """The settings in the database."""

    def __init__(self, database: Database, hub: Hub | None = None) -> None:
        """Make them; `hub` is told of changes, where there is anybody to hear of them."""
        self._db = database
        self._hub = hub

    async def add_missing(self) -> None:
        """Store the default of each setting that has no value yet."""
        rows = [{"key": key, "value": json.dumps(value)} for key, value in DEFAULTS.items()]

        def insert(c: sqlite3.Connection) -> None:
            c.executemany(
                "INSERT INTO settings (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING", rows
            )

        await self._db.write(insert)

    async def owned(self) -> OwnerSettings:
        """Return all that the owner has decided, but for which servers there are."""
        return await self._db.read(_owned)

    async def change(self, changes: Mapping[str, object], was: OwnerSettings | None = None) -> OwnerSettings:
        """Change some settings and return them all.

        Args:
            changes: Keys and their new values, as JSON has them or as `OwnerSettings` does.
            was: The settings as whoever changes them has seen them.

        Raises:
            InvalidError: A value can't be used, or does not go together with another; `field` is the key.
            ConflictError: Somebody else has changed one of these meanwhile.
        """
        new = {key: checked(key, value) for key, value in changes.items()}

        def write(c: sqlite3.Connection) -> OwnerSettings:
            before = _owned(c)
            for key in new:
                if was is not None and getattr(before, key) != getattr(was, key):
                    raise ConflictError(
                        f"the setting {key} was changed by someone else just now; look again", field=key
                    )
            after = replace(before, **new)
            after.refuse_contradictions(new)
            c.executemany(_STORE, [{"key": key, "value": written(key, value)} for key, value in new.items()])
            return after

        after = await self._db.write(write)
        if self._hub is not None:
            for key in new:
                self._hub.publish(Topic.SETTINGS, key)
        return after

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
        return value.rstrip("/") if is_url(value) else None

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
    given = {name: value[name] for name in FollowUpCaps._fields if is_amount(value.get(name))}
    return FollowUpCaps(**given)


def job_defaults(c: sqlite3.Connection) -> Policy:
    """Read the rules of jobs that decide nothing themselves; what can't be read counts as the standard."""
    row = c.execute("SELECT value FROM settings WHERE key = 'job_defaults'").fetchone()
    if row is None or row["value"] == "{}":
        return STANDARD
    return read_owned({"job_defaults": row["value"]}).job_defaults.or_else(STANDARD)


def default_model(c: sqlite3.Connection) -> str | None:
    """Read the model of whatever names none; what can't be read counts as Claude Code's own default."""
    return _owned(c).default_model


def _owned(c: sqlite3.Connection) -> OwnerSettings:
    return read_owned({row["key"]: row["value"] for row in c.execute("SELECT key, value FROM settings")})


def _read(text: str) -> object:
    with suppress(ValueError):
        return json.loads(text)
    return None
