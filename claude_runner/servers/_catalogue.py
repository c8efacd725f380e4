"""What servers there are: found in files and settings, with what the database says of each.

Plain functions of a connection, for a thread of the database's: what files and rows say is needed together, and one
hop to a thread is what a call of a tool can afford.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from claude_runner.config import Settings
from claude_runner.db import to_text
from claude_runner.errors import ConflictError
from claude_runner.servers._external import entries_of, read_external
from claude_runner.servers._folders import Shelf
from claude_runner.servers._records import Kind, Server
from claude_runner.servers._variables import Variable, is_credential, looks_secret, plain

_ORDER: Final = {kind: place for place, kind in enumerate(Kind)}
_DECIDE: Final = (
    "INSERT INTO servers (name, enabled, updated_at) VALUES (:name, :enabled, :now)"
    " ON CONFLICT (name) DO UPDATE SET enabled = excluded.enabled, updated_at = excluded.updated_at"
)
_SET: Final = (
    "INSERT INTO settings (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_LEFT: Final = (
    "SELECT name FROM servers WHERE name = :name UNION SELECT server FROM server_tools WHERE server = :name"
)


class Catalogue:
    """The servers of the two folders and of the setting `mcp_servers`."""

    def __init__(self, settings: Settings, checkout: Path) -> None:
        """Make a catalogue.

        Args:
            settings: Where the home is.
            checkout: The folder that has the servers that are shipped.
        """
        self.root = settings.home / "dynamic_servers"
        self.data = settings.state / "data"
        self._fixed = Shelf(checkout / "fixed-servers", Kind.FIXED, lambda name: self.data / name)
        self._dynamic = Shelf(self.root, Kind.DYNAMIC)

    def all(self, c: sqlite3.Connection) -> list[Server]:
        """Return every server there is, also those that can't be started: fixed, dynamic, external, each by name."""
        setting, more = _settings(c)
        found = [*self._fixed.list(), *self._dynamic.list(), *read_external(setting, self.data)]
        decided = {
            row["name"]: bool(row["enabled"]) for row in c.execute("SELECT name, enabled FROM servers")
        }
        servers: dict[str, Server] = {}
        shadowed: list[Server] = []
        for server in found:
            if server.name in servers:
                shadowed.append(_shadowed(server, servers[server.name]))
            else:
                servers[server.name] = _as_decided(server, decided, more)
        lost = [self._lost(name) for name, enabled in decided.items() if enabled and name not in servers]
        return sorted([*servers.values(), *shadowed, *lost], key=lambda it: (_ORDER[it.kind], it.name))

    def one(self, c: sqlite3.Connection, name: str) -> Server | None:
        """Return the server of a name that may be one."""
        setting, more = _settings(c)
        server = self._fixed.find(name) or self._dynamic.find(name)
        if server is None:
            server = next((it for it in read_external(setting, self.data) if it.name == name), None)
        rows = c.execute("SELECT name, enabled FROM servers WHERE name = :name", {"name": name})
        decided = {row["name"]: bool(row["enabled"]) for row in rows}
        if server is None:
            return self._lost(name) if decided.get(name) else None
        return _as_decided(server, decided, more)

    def _lost(self, name: str) -> Server:
        """Return what is left of an enabled server that somebody took away by hand."""
        return Server(
            plain(name),
            Kind.DYNAMIC,
            self.data / "lost",
            enabled=True,
            problem="its folder in dynamic_servers, or its entry in mcp_servers, was removed by hand; put it back,"
            " or let delete_mcp_server tidy up",
        )


def is_lost(server: Server) -> bool:
    """Tell whether nothing is left of a server but what the database says of it."""
    return server.kind is Kind.DYNAMIC and server.folder is None


def decide(c: sqlite3.Connection, name: str, now: datetime, *, enabled: bool) -> None:
    """Write down whether a server is enabled."""
    c.execute(_DECIDE, {"name": name, "enabled": int(enabled), "now": to_text(now)})


def has_rows(c: sqlite3.Connection, name: str) -> bool:
    """Tell whether the database says anything of a server."""
    return c.execute(_LEFT, {"name": name}).fetchone() is not None


def forget(c: sqlite3.Connection, name: str) -> None:
    """Delete what the database says of a server."""
    c.execute("DELETE FROM servers WHERE name = :name", {"name": name})
    c.execute("DELETE FROM server_tools WHERE server = :name", {"name": name})


def change_external(c: sqlite3.Connection, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change the entries of the setting `mcp_servers`.

    Raises:
        ConflictError: They can't be read; nothing in them may be lost.
    """
    setting, _ = _settings(c)
    entries = entries_of(setting)
    if entries is None:
        raise ConflictError(
            "the setting mcp_servers is not a JSON list; mend it first, so that nothing in it is lost"
        )
    c.execute(_SET, {"key": "mcp_servers", "value": json.dumps(change(entries))})


def copied_samples(c: sqlite3.Connection) -> list[str]:
    """Read which samples were copied to this home, whether or not they are still there."""
    row = c.execute("SELECT value FROM settings WHERE key = 'samples'").fetchone()
    return [name for name in entries_of(None if row is None else row["value"]) or [] if isinstance(name, str)]


def note_samples(c: sqlite3.Connection, names: list[str]) -> None:
    """Write down that samples were copied."""
    both = list(dict.fromkeys([*copied_samples(c), *names]))
    c.execute(_SET, {"key": "samples", "value": json.dumps(both)})


def _shadowed(server: Server, other: Server) -> Server:
    return replace(
        server,
        enabled=False,
        problem=f"another server of the same name ({other.kind}) is used in its place; rename one of them",
    )


def _as_decided(server: Server, decided: Mapping[str, bool], more: Mapping[str, Any]) -> Server:
    """Return the server with what the database and the settings say of it."""
    enabled = decided.get(server.name, server.enabled)
    if enabled is not server.enabled:
        server = replace(server, enabled=enabled)
    names = more.get(server.name)
    if isinstance(names, (list, dict)):  # an object of values is one whose values are not ours to take
        has = {variable.name for variable in server.variables}
        added = [
            Variable(name, sensitive=looks_secret(name))
            for name in dict.fromkeys(names)
            if isinstance(name, str) and name not in has and is_credential(name)
        ]
        server = replace(server, variables=(*server.variables, *added))
    return server


def _settings(c: sqlite3.Connection) -> tuple[str | None, Mapping[str, Any]]:
    """Read the settings that are about servers: `mcp_servers` as it is, and `mcp_env_vars`."""
    rows = c.execute("SELECT key, value FROM settings WHERE key IN ('mcp_servers', 'mcp_env_vars')")
    values = {row["key"]: row["value"] for row in rows}
    more: object = None
    with suppress(ValueError, RecursionError):
        more = json.loads(values.get("mcp_env_vars", "{}"))
    return values.get("mcp_servers"), more if isinstance(more, dict) else {}
