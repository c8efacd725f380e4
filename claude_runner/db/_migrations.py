"""The numbered steps that bring the schema of a database up to date.

A step is a file `NNNN_name.sql`; `PRAGMA user_version` is the number of the last one taken. Any number of processes
may migrate a file at once.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from claude_runner.db._connections import Connection, Session, connect, use_write_ahead_log
from claude_runner.db._failures import explained
from claude_runner.db._files import copy, inspect, prepare
from claude_runner.errors import UnavailableError

SCHEMA: Final = Path(__file__).parent.parent / "schema"
PATIENCE_SECONDS: Final = 60.0  # another process may be copying and changing a large file

_STEP: Final = re.compile(r"(\d{4})_\w+\.sql")


def migrate(path: Path, schema: Path = SCHEMA, lock_timeout: float = PATIENCE_SECONDS) -> int:
    """Take the steps that a database lacks, making file and folder where there is none.

    They are one transaction: where one fails, the database stays as it was, for the program that made it. A database
    that has something in it is copied first, to `NAME.before-N` where N is the first step it lacks. Foreign keys are
    not enforced within a step, so that a table can be rebuilt, but they must hold when it ends.

    Args:
        path: The file, absolute.
        schema: The folder of the steps.
        lock_timeout: Seconds to wait for another process.

    Returns:
        The version, which is the number of steps.

    Raises:
        UnavailableError: The file is newer than the schema or can't be used; it is left as it is.
    """
    steps = _steps(schema)
    with explained(str(path)):
        prepare(path)
        _refuse_newer(path, inspect(path, lock_timeout), len(steps))
        with closing(connect(path, str(path), lock_timeout)) as session:
            use_write_ahead_log(session)
            if _version(session) != len(steps):
                session.execute("PRAGMA foreign_keys = 0")  # it can't be set within the transaction
                with session.transaction():
                    _take_pending(session, path, steps, lock_timeout)
    return len(steps)


def statements(script: str) -> Iterator[str]:
    """Split a script into its statements; a semicolon within a trigger, a text or a comment does not end one."""
    *ended, rest = script.split(";")
    statement = ""
    for piece in ended:
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement + rest


def _steps(schema: Path) -> list[Path]:
    steps = sorted(schema.glob("*.sql"))
    numbers = [int(match[1]) for step in steps if (match := _STEP.fullmatch(step.name))]
    if not steps or numbers != list(range(1, len(steps) + 1)):
        raise RuntimeError(f"{schema} must hold 0001_name.sql, 0002_name.sql and so on, without a gap")
    return steps


def _version(session: Session) -> int:
    (version,) = session.execute("PRAGMA user_version").fetchone()
    return int(version)


def _refuse_newer(path: Path, version: int, known: int) -> None:
    if version > known:
        raise UnavailableError(
            f"{path} is of version {version}, and this program knows versions up to {known}; update the program"
        )


def _take_pending(session: Session, path: Path, steps: list[Path], lock_timeout: float) -> None:
    version = _version(session)  # as it is now that the lock is ours: another process may have been first
    _refuse_newer(path, version, len(steps))
    if version < len(steps) and (version or _has_tables(session)):
        copy(path, path.with_name(f"{path.name}.before-{version + 1}"), lock_timeout)
    for number, step in enumerate(steps[version:], start=version + 1):
        try:
            session.lend(partial(_run, step.read_text(encoding="utf-8")))
        except Exception as error:
            error.add_note(f"in {step.name}; the database stays at version {version}")
            raise
        session.execute(f"PRAGMA user_version = {number}")


def _has_tables(session: Session) -> bool:
    return session.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None


def _run(script: str, connection: Connection) -> None:
    for statement in statements(script):
        connection.execute(statement)
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    if orphan is not None:
        raise sqlite3.IntegrityError(
            f"a row of {orphan['table']} is left without its row of {orphan['parent']}"
        )
