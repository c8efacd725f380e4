"""The credentials as they are used: set, removed, opened for a server's process, sealed anew."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from claude_runner.config import Settings
from claude_runner.credentials._rules import SHOWN, check
from claude_runner.credentials._sealing import Anew, Reseal, Sealing
from claude_runner.db import Connection, Database, from_text, to_text
from claude_runner.errors import NotFoundError, UnavailableError
from claude_runner.hub import Hub, Topic

TAIL: Final = 4
SHORTEST_WITH_TAIL: Final = 16  # characters; of a shorter value four would tell too much

_UPSERT: Final = (
    "INSERT INTO credentials (server, key, sealed, updated_at) VALUES (:server, :key, :sealed, :now)"
    " ON CONFLICT (server, key) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stored:
    """A credential as it may be shown.

    Attributes:
        key: Its name, that of an environment variable.
        tail: The last characters of a value that is long enough to give them away.
        readable: Whether the keys that are there open it.
    """

    key: str
    tail: str | None
    updated_at: datetime
    readable: bool


@dataclass(frozen=True, slots=True)
class _Opened:
    server: str
    key: str
    updated_at: str
    value: str | None


class Credentials:
    """The credentials in the database."""

    def __init__(self, database: Database, hub: Hub, settings: Settings) -> None:
        self._db = database
        self._hub = hub
        self._sealing = Sealing(settings)

    @property
    def place(self) -> str:
        """Return where the keys are: the name of the variable, or the path of the file."""
        return self._sealing.place

    async def set(self, server: str, key: str, value: str, now: datetime) -> None:
        """Keep a value for a server, in place of the one it had.

        Args:
            server: Whose it is; whether there is one of this name is not looked at.
            key: The environment variable in which its process finds the value.
            value: What is sealed.
            now: The present.

        Raises:
            InvalidError: The name or the value can't be used.
            UnavailableError: The key or the database can't be used.
        """
        check(key, value)

        def upsert(c: Connection) -> None:
            sealed = self._sealing.seal((server, key), value)
            c.execute(_UPSERT, {"server": server, "key": key, "sealed": sealed, "now": to_text(now)})

        await self._db.write(upsert)
        self._hub.publish(Topic.CREDENTIALS, server)

    async def remove(self, server: str, key: str) -> None:
        """Forget a value.

        Raises:
            NotFoundError: The server has none of this name.
        """
        delete = "DELETE FROM credentials WHERE server = :server AND key = :key RETURNING key"
        values = {"server": server, "key": key}
        if await self._db.write(lambda c: c.execute(delete, values).fetchone()) is None:
            raise NotFoundError(
                f"{server} has no credential {key[:SHOWN]!r}; get_server_credentials shows those it has",
                field="key",
            )
        self._hub.publish(Topic.CREDENTIALS, server)

    async def remove_all(self, server: str) -> None:
        """Forget all that a server has, which may be nothing."""
        delete = "DELETE FROM credentials WHERE server = :server RETURNING key"
        if await self._db.write(lambda c: c.execute(delete, {"server": server}).fetchall()):
            self._hub.publish(Topic.CREDENTIALS, server)

    async def of(self, server: str) -> dict[str, str]:
        """Return a server's values by name, for its process alone.

        Raises:
            UnavailableError: One of them can't be opened; the sentence names it.
        """
        rows = await self._rows(server)
        if sealed := [row.key for row in rows if row.value is None]:
            raise UnavailableError(
                f"{', '.join(sealed)} of {server} can't be opened with the keys in {self.place}; put back the key that"
                " sealed it, or set it again with set_server_credential"
            )
        return {row.key: row.value for row in rows if row.value is not None}

    async def everything(self) -> dict[str, dict[str, str]]:
        """Return the values that can be opened: by name, by server.

        Raises:
            UnavailableError: There are credentials, and what should be their key is none.
        """
        found: dict[str, dict[str, str]] = {}
        for row in await self._rows():
            if row.value is not None:
                found.setdefault(row.server, {})[row.key] = row.value
        return found

    async def stored(self, server: str) -> list[Stored]:
        """Return what may be shown of a server's credentials, by name.

        Raises:
            UnavailableError: There are some, and what should be their key is none.
        """
        return [
            Stored(row.key, _tail(row.value), from_text(row.updated_at), row.value is not None)
            for row in await self._rows(server)
        ]

    async def rotate(self, *others: Reseal) -> int:
        """Seal every value anew, and what others have sealed with the same keys; returns how many texts those were.

        Servers may run meanwhile, and a crash loses nothing. What can't be opened stays as it is.

        Raises:
            UnavailableError: The keys or the database can't be used.
        """
        return await self._sealing.rotate(self._db, (_reseal, *others))

    async def _rows(self, server: str | None = None) -> list[_Opened]:
        """Return the credentials of one server, or of all; what can't be opened has no value."""
        rows = await self._db.read(lambda c: self._open(c, server))
        if any(row.value is None for row in rows):  # another process may have rotated just then
            rows = await self._db.read(lambda c: self._open(c, server))
        return rows

    def _open(self, c: Connection, server: str | None) -> list[_Opened]:
        select = "SELECT * FROM credentials WHERE :server IS NULL OR server = :server ORDER BY server, key"
        rows = c.execute(select, {"server": server}).fetchall()
        opened = self._sealing.opener() if rows else None
        return [
            _Opened(
                row["server"],
                row["key"],
                row["updated_at"],
                None if opened is None else opened((row["server"], row["key"]), row["sealed"]),
            )
            for row in rows
        ]


def _reseal(c: Connection, anew: Anew) -> int:
    """Seal every value anew that can be opened, and return how many those were."""
    done = []
    for row in c.execute("SELECT server, key, sealed FROM credentials").fetchall():
        if (sealed := anew(row["sealed"])) is None:
            log.warning("%s of %s can't be opened and stays as it is", row["key"], row["server"])
        else:
            done.append({"server": row["server"], "key": row["key"], "sealed": sealed})
    c.executemany("UPDATE credentials SET sealed = :sealed WHERE server = :server AND key = :key", done)
    return len(done)


def _tail(value: str | None) -> str | None:
    return value[-TAIL:] if value is not None and len(value) >= SHORTEST_WITH_TAIL else None
