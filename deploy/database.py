"""What an update asks of the server's database. It is run as the server's user: root opens no file that others write.

It prints one line: how many runs are going on, or why the database can't go back (nothing where it could).
"""

import argparse
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

# The runs that are not as they were in the copy.
_MOVED: Final = """
    SELECT count(*) FROM (
        SELECT id, state, started_at, finished_at FROM main.runs
        EXCEPT SELECT id, state, started_at, finished_at FROM before.runs
    )
"""


def runs_now(database: Path) -> int:
    """Return how many runs are going on."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM runs WHERE state = 'running'").fetchone()
    return int(count)


def step_back(database: Path, known: int, since: float) -> str:
    """Put the copy that was made before a migration in the place of a database, while no server uses it.

    Not where a run began or ended since: forgetting that would make it run once more. What the newer release kept is
    put beside it as `jobs.db.undone`.

    Args:
        database: The file.
        known: The version that the older release knows.
        since: When the newer release was started; an older copy is of another time.

    Returns:
        Why it was not done; nothing where it was, or where there was no need.
    """
    if not database.exists():
        return ""
    copy = database.with_name(f"{database.name}.before-{known + 1}")
    with closing(sqlite3.connect(database)) as now:
        (version,) = now.execute("PRAGMA user_version").fetchone()
        if version <= known:
            return ""
        if not copy.exists() or copy.stat().st_mtime < since:
            return "there is no copy from before the update"
        now.execute("ATTACH ? AS before", (str(copy),))
        (moved,) = now.execute(_MOVED).fetchone()
        now.execute("DETACH before")
        if moved:
            return f"{moved} of its runs were begun or ended since"
        undone = database.with_name(f"{database.name}.undone")
        undone.unlink(missing_ok=True)
        with closing(sqlite3.connect(undone)) as kept, closing(sqlite3.connect(copy)) as before:
            now.backup(kept)
            before.backup(now)
    return ""


def main() -> None:
    """Answer what is asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--step-back", nargs=2, metavar=("VERSION", "SINCE"))
    options = parser.parse_args()
    os.umask(0o077)
    if options.step_back is None:
        print(runs_now(options.database))
    else:
        known, since = options.step_back
        print(step_back(options.database, int(known), float(since)))


if __name__ == "__main__":
    main()
