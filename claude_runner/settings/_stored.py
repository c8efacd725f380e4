"""The settings in the database, for whoever does not hold a connection, and how each is read by who does."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from claude_runner.db import Database
from claude_runner.errors import ConflictError
from claude_runner.hub import Hub, Topic
from claude_runner.jobs import STANDARD, Policy
from claude_runner.permissions import Profile, Rights
from claude_runner.prices import Price
from claude_runner.schedule import local_timezone
from claude_runner.settings._amounts import Budgets, FollowUpCaps
from claude_runner.settings._owned import (
    DEFAULTS,
    OwnerSettings,
    checked,
    read_owned,
    read_setting,
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
            changes: Keys and their new values, as JSON has them or as `OwnerSettings` does. JSON objects of budgets,
                prices and rules of jobs may hold some entries only: the others stay, and null takes one out.
            was: The settings as whoever changes them has seen them.

        Raises:
            InvalidError: A value can't be used, or does not go together with another; `field` is the key.
            ConflictError: Somebody else has changed one of these meanwhile.
        """

        def write(c: sqlite3.Connection) -> OwnerSettings:
            before = _owned(c)
            new = {key: checked(key, value, before) for key, value in changes.items()}
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
            for key in changes:
                self._hub.publish(Topic.SETTINGS, key)
        return after

    async def allowed_tools(self) -> tuple[str, ...]:
        """Return the built-in tools that jobs may use, in the owner's order."""
        return await self._db.read(allowed_tools)

    async def install_dependencies(self) -> bool:
        """Return whether packages that tool servers declare may be installed."""
        return bool(await self._db.read(lambda c: _setting(c, "install_dependencies")))

    async def webhook_base_url(self) -> str | None:
        """Return the base of the URLs that leave the machine, without a slash at its end, where the owner set one.

        What is no http or https URL counts as none.
        """
        base: str | None = await self._db.read(lambda c: _setting(c, "webhook_base_url"))
        return base

    async def rights(self) -> Rights:
        """Return what the owner has decided about permission profiles."""
        return await self._db.read(rights)


def allowed_tools(c: sqlite3.Connection) -> tuple[str, ...]:
    """Read the built-in tools that jobs may use; what is no list of texts counts as none."""
    tools: tuple[str, ...] = _setting(c, "allowed_tools")
    return tools


def rights(c: sqlite3.Connection) -> Rights:
    """Read what the owner has decided about permission profiles; whatever can't be read counts as the narrowest."""
    sandbox_mode: bool = _setting(c, "sandbox_mode")
    default = Profile.CONTAINED if sandbox_mode else Profile.RULES
    return Rights(sandbox_mode, _setting(c, "permission_profile") or default)


def followup_caps(c: sqlite3.Connection) -> FollowUpCaps:
    """Read the caps of follow-ups; what can't be read counts as their defaults."""
    caps: FollowUpCaps = _setting(c, "followups")
    return caps


def job_defaults(c: sqlite3.Connection) -> Policy:
    """Read the rules of jobs that decide nothing themselves; what can't be read counts as the standard."""
    decided: Policy = _setting(c, "job_defaults")
    return decided.or_else(STANDARD)


def budgets(c: sqlite3.Connection) -> Budgets:
    """Read what runs may cost; what can't be read counts as nothing at all."""
    read: Budgets = _setting(c, "budgets")
    return read


def prices(c: sqlite3.Connection) -> Mapping[str, Price]:
    """Read the prices of models that the owner gave; what can't be read counts as none."""
    given: Mapping[str, Price] = _setting(c, "prices")
    return given


def owners_zone(c: sqlite3.Connection) -> ZoneInfo:
    """Read the zone of the owner's clock: the one that the settings name, else the machine's."""
    return ZoneInfo(_setting(c, "timezone") or local_timezone())


def default_model(c: sqlite3.Connection) -> str | None:
    """Read the model of whatever names none; what can't be read counts as Claude Code's own default."""
    model: str | None = _setting(c, "default_model")
    return model


def _owned(c: sqlite3.Connection) -> OwnerSettings:
    return read_owned({row["key"]: row["value"] for row in c.execute("SELECT key, value FROM settings")})


def _setting(c: sqlite3.Connection, key: str) -> Any:
    row = c.execute("SELECT value FROM settings WHERE key = :key", {"key": key}).fetchone()
    return read_setting(key, None if row is None else row["value"])
