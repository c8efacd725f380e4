"""What tests run as another process: `python -m tests.db_program WHAT DATABASE SCHEMA [NUMBER]`."""

import asyncio
import os
import sys
from pathlib import Path

from claude_runner.db import Connection, open_database
from claude_runner.db._migrations import migrate
from claude_runner.errors import UnavailableError

NOBODY = 65534


def increment(connection: Connection) -> None:
    (value,) = connection.execute("SELECT value FROM counter").fetchone()
    connection.execute("UPDATE counter SET value = :value", {"value": value + 1})


async def count(path: Path, schema: Path, times: int) -> None:
    """Add one to the counter so many times, sixteen callers at once."""

    async def call() -> None:
        for _ in range(times // 16):
            await database.write(increment)

    async with open_database(path, schema) as database, asyncio.TaskGroup() as callers:
        for _ in range(16):
            callers.create_task(call())


async def write_pairs(path: Path, schema: Path) -> None:
    """Write pairs of notes for ever, telling each one that is written."""

    def pair(number: int) -> None:
        def change(connection: Connection) -> None:
            for half in ("left", "right"):
                connection.execute("INSERT INTO notes (body) VALUES (:body)", {"body": f"{number} {half}"})

        loop.create_task(database.write(change)).add_done_callback(lambda _: sys.stdout.write(f"{number}\n"))

    loop = asyncio.get_running_loop()
    async with open_database(path, schema) as database:
        number = 0
        while True:
            for _ in range(20):
                number += 1
                pair(number)
            await database.write(lambda _: None)
            sys.stdout.flush()


def give_up_rights() -> None:
    """Become a user whom modes bind, where this one is root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def main() -> None:
    what, path, schema = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    if what == "count":
        asyncio.run(count(path, schema, int(sys.argv[4])))
    elif what == "pairs":
        asyncio.run(write_pairs(path, schema))
    else:
        if what == "migrate-unprivileged":
            give_up_rights()
        try:
            sys.stdout.write(f"{migrate(path, schema)}\n")
        except UnavailableError as error:
            sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main()
