"""The database as a file: made for its owner alone, looked at before it is trusted, copied before it is changed.

A file that exists is never opened by anything but SQLite: closing it would drop the locks that SQLite holds on it
(https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

import os
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal

from claude_runner.db._connections import connect
from claude_runner.db._failures import code_of, damaged
from claude_runner.errors import UnavailableError

OWNER_ONLY: Final = 0o600
CHECKED_BYTES: Final = 32 * 2**20  # larger files are not read whole at every start


def prepare(path: Path) -> None:
    """Make sure of a file that its owner alone may read and write, with its folder; an empty file is a new database.

    Raises:
        UnavailableError: What is there can't be used as a file.
        OSError: The outside is in the way.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        create(path)
    if not path.is_file():
        raise UnavailableError(f"{path} is not a file; move it away and start again")
    for place in (path, path.parent):
        if not os.access(place, os.R_OK | os.W_OK):
            raise UnavailableError(
                f"{place} can't be read and written; give the user that runs the server the right to"
            )
    log = _beside(path, "-wal")
    if not _size(path) and _size(log):  # SQLite would delete the log
        raise UnavailableError(
            f"{path} is empty but {log.name} beside it is not; put a backup of both in their place"
        )
    for companion in (path, log, _beside(path, "-shm")):
        with suppress(FileNotFoundError):
            _tighten(companion)


def inspect(path: Path, lock_timeout: float) -> int:
    """Return the version of a database, having looked through it without changing it.

    Raises:
        UnavailableError: It is damaged.
        sqlite3.DatabaseError: It is no database, or the outside is in the way.
    """
    try:
        return _look(path, lock_timeout, "ro")
    except sqlite3.OperationalError as error:
        if code_of(error) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    # A write that was cut off must be undone first, and undoing it is writing.
    return _look(path, lock_timeout, "rw")


def copy(path: Path, target: Path, lock_timeout: float) -> None:
    """Copy what is committed in a database, whole or not at all; an older copy of that name gives way."""
    part = _beside(target, ".part")
    part.unlink(missing_ok=True)
    create(part)
    try:
        with (
            closing(connect(path, str(path), lock_timeout)) as source,
            closing(sqlite3.connect(part)) as copied,
        ):
            source.backup(copied)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def create(path: Path) -> None:
    """Make an empty file that its owner alone may read and write; raises FileExistsError where there is one."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, OWNER_ONLY))


def _look(path: Path, lock_timeout: float, mode: Literal["ro", "rw"]) -> int:
    size = _size(path)  # first: another process may be making the file, and it only grows
    with closing(connect(path, str(path), lock_timeout, mode)) as session:
        if size <= CHECKED_BYTES:
            (finding,) = session.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise damaged(str(path))
        (version,) = session.execute("PRAGMA user_version").fetchone()
        (page_bytes,) = session.execute("PRAGMA page_size").fetchone()
    # SQLite takes what lacks of the last page for zeros; with a log, the page may be in there.
    if size % page_bytes and not _size(_beside(path, "-wal")):
        raise damaged(str(path))
    return int(version)


def _size(path: Path) -> int:
    """Return the bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _tighten(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & ~OWNER_ONLY:
        path.chmod(OWNER_ONLY)
