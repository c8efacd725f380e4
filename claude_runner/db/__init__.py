"""SQLite behind two coroutines, `read` and `write`, and the instants as its texts keep them.

SQL is written as plain functions of a connection; this package is the only place where they meet threads,
transactions and the event loop. It owns the file too: its schema, its copies, its modes and the sentences about what
is wrong with it.
"""

from claude_runner.db._connections import Connection
from claude_runner.db._database import Database, open_database
from claude_runner.db._instants import from_text, to_text

__all__ = ["Connection", "Database", "from_text", "open_database", "to_text"]
