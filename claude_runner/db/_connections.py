"""Connections as this program wants them: durable, strict, lent without giving the transaction away."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from weakref import WeakSet

from claude_runner.db._failures import code_of, explained

Connection = sqlite3.Connection
T = TypeVar("T")

# Small pages halve what an append-only log of events writes: a commit costs whole pages.
PAGE_BYTES: Final = 1024
WAL_BYTES: Final = 4 * 2**20

# The comments tell these from a function's own "COMMIT": SQLite asks the authorizer only when it compiles a text,
# and a text that was run before is compiled already.
_COMMIT: Final = "COMMIT /* ours */"
_ROLLBACK: Final = "ROLLBACK /* ours */"


class Session(sqlite3.Connection):
    """A connection that is lent to functions: the transaction stays ours, and cursors end with the loan.

    A cursor that outlived its transaction would pin a reader to an old snapshot, or keep the writer from committing.

    Attributes:
        label: How sentences name the database.
    """

    label: str = "the database"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.row_factory = sqlite3.Row
        self._misuses = {
            sqlite3.SQLITE_AUTH: "what is given to read or write must not begin, commit or roll back; nor may it call"
            " executescript, which commits"
        }
        self._lent = False
        self._flushing = True
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()
        self.set_authorizer(self._permit)

    def flush_commits(self, flush: bool) -> None:  # noqa: FBT001 - on or off is all there is to say
        """Let commits flush the disk, as they do at first, or leave it to the next one that does."""
        if flush is not self._flushing:
            self.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
            self._flushing = flush

    def refuse_writes(self) -> None:
        """Make every later attempt to write fail."""
        self.execute("PRAGMA query_only = 1")
        self._misuses[sqlite3.SQLITE_READONLY] = "what is given to read must not write; give it to write"

    # typing.override came with Python 3.12; `execute` of the C class does not go through `cursor`.
    def cursor(  # type: ignore[explicit-override, override]  # one of the overloads
        self, factory: type[sqlite3.Cursor] = sqlite3.Cursor
    ) -> sqlite3.Cursor:
        """Return a cursor that lives until the loan ends."""
        cursor = super().cursor(factory)
        self._cursors.add(cursor)
        return cursor

    def execute(  # type: ignore[explicit-override]
        self, sql: str, parameters: Any = (), /
    ) -> sqlite3.Cursor:
        """Run a statement; its rows can be fetched until the loan ends."""
        return self.cursor().execute(sql, parameters)

    def executemany(  # type: ignore[explicit-override]
        self, sql: str, parameters: Iterable[Any], /
    ) -> sqlite3.Cursor:
        """Run a statement once for each of the parameters."""
        return self.cursor().executemany(sql, parameters)

    def lend(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a function of this connection returns.

        Raises:
            RuntimeError: The function did what it must not.
            UnavailableError: The outside is in the way; all else is raised unchanged.
        """
        self._lent = True
        try:
            with explained(self.label):
                return self._refusing_misuse(function)
        finally:
            self._lent = False
            for cursor in list(self._cursors):
                cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the context does, or nothing of it where it raises or rolls back."""
        self.begin("IMMEDIATE")
        try:
            yield
            if self.in_transaction:
                self.execute(_COMMIT)
        finally:
            self.roll_back()

    def begin(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> None:
        """Begin a transaction; whatever a failure left of an earlier one is undone first."""
        self.roll_back()
        self.execute(f"BEGIN {kind} /* ours */")

    def roll_back(self) -> None:
        """Undo the transaction, if there is one."""
        if self.in_transaction:
            self.execute(_ROLLBACK)

    def _refusing_misuse(self, function: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return function(self)
        except sqlite3.DatabaseError as error:
            misuse = self._misuses.get(code_of(error))
            if misuse is None:
                raise
            raise RuntimeError(misuse) from error

    def _permit(self, action: int, *_: object) -> int:
        forbidden = self._lent and action == sqlite3.SQLITE_TRANSACTION
        return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK


def connect(path: Path, label: str, lock_timeout: float, mode: Literal["ro", "rw"] = "rw") -> Session:
    """Open a connection to a file that exists; it may be used from any thread, from one at a time.

    Args:
        path: The file, absolute.
        label: How sentences name the database.
        lock_timeout: Seconds to wait for another program's lock.
        mode: "ro" leaves the file as it is.
    """
    session = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=lock_timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=Session,
    )
    session.label = label
    try:
        session.execute("PRAGMA synchronous = FULL")
        session.execute("PRAGMA foreign_keys = 1")
    except BaseException:
        session.close()
        raise
    return session


def use_write_ahead_log(session: Session) -> None:
    """Switch the file to write-ahead logging, a new file to small pages too."""
    session.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    while not _switched(session):
        # The switch fails at once where another process is at it: wait for its lock, then look again.
        with session.transaction():
            pass


def limit_write_ahead_log(session: Session) -> None:
    """Let the connection move the log into the file each time it has grown to `WAL_BYTES`."""
    (page_bytes,) = session.execute("PRAGMA page_size").fetchone()
    session.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // page_bytes}")


def keep_scratch_in_memory(session: Session) -> None:
    """Let what a statement needs for itself, such as the rows that it returns, never be made ready for a file.

    That takes longer than most writes. Of much scratch, as for sorting, a file is the better place.
    """
    session.execute("PRAGMA temp_store = MEMORY")


def _switched(session: Session) -> bool:
    try:
        session.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if code_of(error) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
