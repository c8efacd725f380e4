"""Which failures of SQLite and of files are the outside's doing, and what a person can do about each.

What is not listed here is a bug in a statement or a constraint at work, and goes to the caller as it is.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from claude_runner.errors import UnavailableError, unusable

_LOCKED: Final = (
    "{database} is locked by another program; end what holds it, such as a transaction left open in a sqlite3"
    " shell, and try again"
)
_NOT_ALLOWED: Final = (
    "{database} can't be opened for writing; give the user that runs the server the right to read and write the"
    " file and its folder"
)
_DAMAGED: Final = (
    "{database} is damaged; put a backup in its place, or recover it with the sqlite3 shell (.recover)"
)

# By primary result code, https://www.sqlite.org/rescode.html. SQLITE_LOCKED is missing because it is a conflict of a
# connection with itself: a bug of ours.
_SENTENCES: Final = MappingProxyType(
    {
        sqlite3.SQLITE_BUSY: _LOCKED,
        sqlite3.SQLITE_PROTOCOL: _LOCKED,
        sqlite3.SQLITE_PERM: _NOT_ALLOWED,
        sqlite3.SQLITE_READONLY: _NOT_ALLOWED,
        sqlite3.SQLITE_CANTOPEN: _NOT_ALLOWED,
        sqlite3.SQLITE_IOERR: "{database} could not be read or written; check its disk and file system, then try again",
        sqlite3.SQLITE_FULL: "the disk of {database} is full; free some space and try again",
        sqlite3.SQLITE_CORRUPT: _DAMAGED,
        sqlite3.SQLITE_NOTADB: "{database} is not a SQLite database; move it away and start again",
    }
)


def damaged(database: str) -> UnavailableError:
    """Return the failure of a database whose content contradicts itself."""
    return UnavailableError(_DAMAGED.format(database=database))


@contextmanager
def explained(database: str) -> Iterator[None]:
    """Turn what the outside did, to SQLite or to a file, into an error with a sentence for a person.

    Args:
        database: How the sentence names the database.

    Raises:
        UnavailableError: The outside is in the way; all else is raised unchanged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        sentence = _SENTENCES.get(code_of(error) & 0xFF)
        if sentence is None:
            raise
        raise UnavailableError(sentence.format(database=database)) from error
    except OSError as error:
        raise unusable(error, database) from error


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's extended result code of an error, 0 where the error is not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code
