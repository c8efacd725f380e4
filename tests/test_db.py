import asyncio
import sqlite3
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
)
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_runner.db import Connection, Database, from_text, open_database, to_text
from claude_runner.db._database import GROUP
from claude_runner.errors import ConflictError, UnavailableError
from tests.db_support import answers, largest_file, programs
from tests.support import PATIENCE

SCHEMA = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE replies (note INTEGER NOT NULL REFERENCES notes (id) DEFERRABLE INITIALLY DEFERRED) STRICT;
CREATE TABLE counter (value INTEGER NOT NULL) STRICT;
INSERT INTO counter (value) VALUES (0);
CREATE TABLE log (line TEXT);
"""


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema")
    (folder / "0001_initial.sql").write_text(SCHEMA)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def database(path: Path, schema: Path) -> AsyncIterator[Database]:
    async with open_database(path, schema) as database:
        yield database


def note(body: str) -> Callable[[Connection], int]:
    def change(connection: Connection) -> int:
        row = connection.execute(
            "INSERT INTO notes (body) VALUES (:body) RETURNING id", {"body": body}
        ).fetchone()
        return int(row["id"])

    return change


def bodies(connection: Connection) -> list[str]:
    return [row["body"] for row in connection.execute("SELECT body FROM notes ORDER BY id")]


def pragma(name: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]


def on_disk(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as other:
        other.row_factory = sqlite3.Row
        return bodies(other)


@asynccontextmanager
async def held_writer(database: Database) -> AsyncIterator[threading.Event]:
    """Keep the write thread in a change of its own until the event is set or the context ends."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(begun.wait, PATIENCE)
    try:
        yield go_on
    finally:
        go_on.set()
        await holding


async def together(database: Database, *changes: Callable[[Connection], object]) -> list[object]:
    """Let the changes share one transaction; return what each returned or raised."""
    async with held_writer(database) as go_on:
        tasks = [asyncio.create_task(database.write(change)) for change in changes]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


# Instants


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001 - gets a zone


@given(INSTANTS)
def test_an_instant_comes_back_to_the_millisecond(instant: datetime) -> None:
    back = from_text(to_text(instant))
    assert timedelta() <= instant - back < timedelta(milliseconds=1)
    assert back.tzinfo is UTC


@given(INSTANTS, INSTANTS)
def test_the_order_of_the_texts_is_the_order_in_time(one: datetime, other: datetime) -> None:
    first, second = sorted([one, other])
    assert to_text(first) <= to_text(second)
    assert len(to_text(first)) == len(to_text(second)) == len("2026-11-23T09:00:00.000+00:00")


def test_an_instant_is_written_in_utc() -> None:
    madrid = timezone(timedelta(hours=1))
    assert to_text(datetime(2026, 11, 23, 10, 0, 0, 999, madrid)) == "2026-11-23T09:00:00.000+00:00"


def test_what_has_no_zone_is_no_instant() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        to_text(datetime(2026, 11, 23))  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="'2026-11-23T09:00:00' has no offset"):
        from_text("2026-11-23T09:00:00")


# Reads and writes


async def test_a_write_answers_what_its_change_returns_and_a_read_sees_it_at_once(database: Database) -> None:
    for number in range(1, 50):
        assert await database.write(note(f"note {number}")) == number
        assert len(await database.read(bodies)) == number


async def test_all_of_a_read_sees_one_instant(database: Database) -> None:
    looked, go_on = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[list[str], list[str]]:
        first = bodies(connection)
        looked.set()
        assert go_on.wait(PATIENCE)
        return first, bodies(connection)

    reading = asyncio.create_task(database.read(look_twice))
    await asyncio.to_thread(looked.wait, 10)
    await database.write(note("written meanwhile"))
    go_on.set()
    assert await reading == ([], [])
    assert await database.read(bodies) == ["written meanwhile"]


async def test_reads_wait_neither_for_each_other_nor_for_a_write(database: Database) -> None:
    meeting = threading.Barrier(4)
    async with held_writer(database):
        await asyncio.gather(*(database.read(lambda _: meeting.wait(PATIENCE)) for _ in range(4)))


async def test_a_cursor_ends_with_its_function(database: Database) -> None:
    await database.write(
        lambda c: c.executemany("INSERT INTO notes (body) VALUES (:body)", [{"body": "one"}, {"body": "two"}])
    )
    cursor = await database.read(lambda c: c.execute("SELECT body FROM notes"))
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursor.fetchone()
    rows = await database.write(lambda c: c.execute("UPDATE notes SET body = body || '!' RETURNING body"))
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        next(rows)
    assert await database.read(bodies) == ["one!", "two!"]


async def test_a_query_that_raises_half_way_does_not_pin_the_reader_to_the_past(database: Database) -> None:
    await together(database, note("one"), note("two"))

    def stop_half_way(connection: Connection) -> None:
        rows = connection.execute("SELECT body FROM notes")
        raise ConflictError(f"{rows.fetchone()['body']} is enough")

    errors = await asyncio.gather(*(database.read(stop_half_way) for _ in range(20)), return_exceptions=True)
    assert {str(error) for error in errors} == {"one is enough"}
    await database.write(note("three"))
    for _ in range(20):
        assert await database.read(bodies) == ["one", "two", "three"]


async def test_a_constraint_and_a_mistake_in_the_sql_reach_the_caller_as_they_are(database: Database) -> None:
    await database.write(note("one"))
    with pytest.raises(sqlite3.IntegrityError, match=r"UNIQUE constraint failed: notes\.body"):
        await database.write(note("one"))
    with pytest.raises(sqlite3.OperationalError, match="no such table: nots"):
        await database.read(lambda c: c.execute("SELECT * FROM nots"))
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        await database.write(lambda c: c.execute("INSRT INTO notes"))


async def test_a_read_that_writes_is_a_mistake(database: Database) -> None:
    with pytest.raises(RuntimeError, match="what is given to read must not write"):
        await database.read(note("one"))
    assert await database.read(bodies) == []


async def test_stop_iteration_and_the_end_of_the_program_reach_the_caller(database: Database) -> None:
    def stop(_: Connection) -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="StopIteration"):
        await database.read(lambda _: next(iter(())))
    with pytest.raises(SystemExit):
        await database.write(stop)
    assert await database.write(note("one")) == 1


class RefusedError(Exception):
    """What a change of a test raises."""


def twice(number: int, *, how: str) -> Callable[[Connection], int]:
    """Make a change that writes two notes, and stops after the first unless `how` is "well"."""

    def change(connection: Connection) -> int:
        note(f"{number} first")(connection)
        match how:
            case "well":
                note(f"{number} second")(connection)
            case "domain":
                raise RefusedError(number)
            case "constraint":
                note(f"{number} first")(connection)
            case "commit":
                connection.commit()
            case _:
                connection.execute("SAVEPOINT mine")
                raise KeyError(number)
        return number

    return change


FAILURES: dict[str, type[Exception]] = {
    "domain": RefusedError,
    "constraint": sqlite3.IntegrityError,
    "commit": RuntimeError,
    "savepoint": KeyError,
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["well", "well", *FAILURES]), min_size=1, max_size=40), st.booleans())
async def test_of_any_mix_of_writes_just_the_good_ones_are_kept(
    schema: Path,
    ways: list[str],
    at_once: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.db")
        async with open_database(path, schema) as database:
            changes = [twice(number, how=how) for number, how in enumerate(ways)]
            if at_once:
                outcomes = await together(database, *changes)
            else:
                outcomes = await asyncio.gather(
                    *(database.write(change) for change in changes), return_exceptions=True
                )
            good = [number for number, how in enumerate(ways) if how == "well"]
            expected = [f"{number} {half}" for number in good for half in ("first", "second")]
            assert await database.read(bodies) == expected == on_disk(path)
    for number, (how, outcome) in enumerate(zip(ways, outcomes, strict=True)):
        if how == "well":
            assert outcome == number
        else:
            assert type(outcome) is FAILURES[how]


# Groups


async def test_writes_that_wait_share_transactions(database: Database) -> None:
    statements: list[str] = []
    async with held_writer(database) as go_on:
        watching = asyncio.create_task(database.write(lambda c: c.set_trace_callback(statements.append)))
        waiting = [asyncio.create_task(database.write(note(f"{number}"))) for number in range(100)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(watching, *waiting)
    assert len(await database.read(bodies)) == 100
    assert sum(statement.startswith("COMMIT") for statement in statements) == 1


async def test_a_group_has_a_largest_size(database: Database) -> None:
    statements: list[str] = []
    await database.write(lambda c: c.set_trace_callback(statements.append))
    statements.clear()
    await together(database, *(lambda _: None for _ in range(GROUP + 1)))
    assert (
        sum(statement.startswith("COMMIT") for statement in statements) == 3
    )  # the holder, the group, the rest


def ends_it(how: str) -> Callable[[Connection], object]:
    def change(connection: Connection) -> object:
        note("of the culprit")(connection)
        match how:
            case "with":
                with connection:
                    return None
            case "executescript":
                return connection.executescript("SELECT 1")
            case "commit" | "rollback":
                return getattr(connection, how)()
            case _:
                return connection.execute(how)

    return change


@pytest.mark.parametrize(
    "how", ["commit", "rollback", "executescript", "with", "COMMIT", "END", "ROLLBACK", "BEGIN IMMEDIATE"]
)
async def test_a_change_can_not_end_the_transaction_of_its_group(database: Database, how: str) -> None:
    before, outcome, after = await together(database, note("before"), ends_it(how), note("after"))
    assert isinstance(outcome, RuntimeError)
    assert "must not begin, commit or roll back" in str(outcome)
    assert (before, after) == (1, 2)
    assert await database.read(bodies) == ["before", "after"]


async def test_a_query_can_not_end_its_snapshot(database: Database) -> None:
    with pytest.raises(RuntimeError, match="must not begin, commit or roll back"):
        await database.read(lambda c: c.commit())
    assert await database.read(bodies) == []


async def test_a_change_that_has_its_group_rolled_back_fails_all_of_it_loudly(database: Database) -> None:
    await database.write(note("one"))
    outcomes = await together(
        database,
        note("two"),
        lambda c: c.execute("INSERT OR ROLLBACK INTO notes (body) VALUES ('one')"),
        note("three"),
    )
    assert [str(outcome)[:60] for outcome in outcomes] == [
        "the transaction that this call ran in was broken and undone:"
    ] * 3
    assert all(type(outcome) is RuntimeError for outcome in outcomes)
    assert len(set(map(id, outcomes))) == 3
    assert await database.write(note("four")) == 2
    assert await database.read(bodies) == ["one", "four"]


async def test_a_group_that_can_not_be_committed_is_undone(database: Database) -> None:
    outcomes = await together(
        database, note("one"), lambda c: c.execute("INSERT INTO replies (note) VALUES (77)")
    )
    assert ["FOREIGN KEY constraint failed" in str(outcome) for outcome in outcomes] == [True, True]
    assert await database.read(bodies) == []
    assert await database.write(note("two")) == 1


async def test_a_change_that_closes_the_connection_leaves_nobody_waiting(database: Database) -> None:
    for outcome in await together(database, lambda c: c.close(), note("one")):
        assert isinstance(outcome, RuntimeError)
    with pytest.raises(RuntimeError, match="closed database"):
        await database.write(note("two"))
    assert await database.read(bodies) == []


# Callers and loops that go away


async def test_a_write_whose_caller_is_cancelled_happens_all_the_same(database: Database) -> None:
    async with held_writer(database):
        writing = asyncio.create_task(database.write(note("of one who left")))
        failing = asyncio.create_task(database.write(twice(1, how="domain")))
        staying = asyncio.create_task(database.write(note("of one who stayed")))
        await asyncio.sleep(0)
        for task in (writing, failing):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert await staying == 2
    assert await database.read(bodies) == ["of one who left", "of one who stayed"]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("db-")]


async def test_closing_finishes_the_writes_that_wait_and_ends_the_threads(path: Path, schema: Path) -> None:
    async with AsyncExitStack() as stack:
        async with open_database(path, schema) as database:
            go_on = await stack.enter_async_context(held_writer(database))
            waiting = [asyncio.create_task(database.write(note(f"{number}"))) for number in range(5)]
            await asyncio.sleep(0)
            assert len(threads()) == 5
            asyncio.get_running_loop().call_later(0.05, go_on.set)  # while it is closing
        assert threads() == []
    assert await asyncio.gather(*waiting) == [1, 2, 3, 4, 5]
    assert on_disk(path) == ["0", "1", "2", "3", "4"]
    assert [file.name for file in path.parent.iterdir()] == ["jobs.db"]
    for ask in (database.read, database.write):
        with pytest.raises(UnavailableError, match="the database is closed, because the server is ending"):
            await ask(bodies)


async def test_being_cancelled_while_closing_does_not_stop_the_closing(path: Path, schema: Path) -> None:
    begun, go_on, leaving = threading.Event(), threading.Event(), asyncio.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        note("kept")(connection)

    async def open_and_leave() -> None:
        async with open_database(path, schema) as database:
            writing.append(asyncio.create_task(database.write(hold)))
            await asyncio.to_thread(begun.wait, PATIENCE)
            leaving.set()

    writing: list[asyncio.Task[None]] = []
    task = asyncio.create_task(open_and_leave())
    await leaving.wait()
    for thread in threading.enumerate():
        if thread.name.startswith("db-read"):  # they are closed first
            await asyncio.to_thread(thread.join)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert threads() == []
    await writing[0]
    assert on_disk(path) == ["kept"]


def test_a_write_is_finished_even_if_its_loop_is_closed_meanwhile(path: Path, schema: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        note("kept")(connection)

    async def write_and_go(database: Database) -> None:
        task = asyncio.create_task(database.write(hold))
        await asyncio.to_thread(begun.wait, PATIENCE)
        task.cancel()

    opening = open_database(path, schema)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(write_and_go(loop.run_until_complete(opening.__aenter__())))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    go_on.set()
    asyncio.run(leave(opening))
    assert threads() == []
    assert on_disk(path) == ["kept"]


async def leave(opening: AbstractAsyncContextManager[Database]) -> None:
    await opening.__aexit__(None, None, None)


# The outside in the way


@asynccontextmanager
async def full_disk(database: Database) -> AsyncIterator[None]:
    """Let the database grow no more."""
    pages = await database.write(pragma("page_count"))
    await database.write(pragma(f"max_page_count = {pages}"))
    yield
    await database.write(pragma("max_page_count = 100000"))


FULL = "the disk of jobs.db is full; free some space and try again"


async def test_a_write_that_the_disk_has_no_room_for_fails_with_a_sentence(database: Database) -> None:
    async with full_disk(database):
        first, large, last = await together(database, note("small"), note("x" * 100_000), note("small too"))
    assert isinstance(large, UnavailableError)
    assert str(large) == FULL
    assert await database.read(bodies) == ["small", "small too"]
    assert (first, last) == (1, 2)


async def test_where_a_full_disk_undoes_the_group_all_of_it_fails_and_the_next_one_works(
    database: Database,
) -> None:
    def log(connection: Connection) -> None:  # without constraints SQLite undoes all, not the statement alone
        connection.execute("INSERT INTO log (line) VALUES (:line)", {"line": "x" * 100_000})

    async with full_disk(database):
        outcomes = await together(database, note("before"), log, note("after"))
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
        assert {str(outcome) for outcome in outcomes} == {FULL}
        assert len(set(map(id, outcomes))) == 3
        assert await database.read(bodies) == []
    assert await together(database, note("before"), log, note("after")) == [1, None, 2]


async def test_a_failing_disk_fails_the_write_with_a_sentence_and_the_next_one_works(
    database: Database, path: Path
) -> None:
    await database.write(note("before"))
    with (
        largest_file(size(path.with_name("jobs.db-wal"))),
        pytest.raises(UnavailableError) as raised,
    ):
        await database.write(note("x" * 10_000))
    assert (
        str(raised.value)
        == "jobs.db could not be read or written; check its disk and file system, then try again"
    )
    assert isinstance(raised.value.__cause__, UnavailableError)
    assert await database.write(note("after")) == 2
    assert await database.read(bodies) == ["before", "after"]


async def test_a_lock_that_another_program_keeps_is_named(path: Path, schema: Path) -> None:
    async with open_database(path, schema, lock_timeout=0.02) as database:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                UnavailableError, match=r"^jobs\.db is locked by another program; end what holds it"
            ):
                await database.write(note("one"))
            assert await database.read(bodies) == []
        assert await database.write(note("one")) == 1


async def test_a_lock_that_another_program_frees_is_waited_for(database: Database, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO notes (body) VALUES ('theirs')")
        writing = asyncio.create_task(database.write(note("ours")))
        await asyncio.sleep(0)
        other.execute("COMMIT")
    assert await writing == 2


async def test_a_database_that_is_damaged_while_open_is_named(database: Database, path: Path) -> None:
    await together(database, *(note(f"{number}" * 100) for number in range(100)))
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    with pytest.raises(UnavailableError, match=r"^jobs\.db is damaged; put a backup in its place"):
        await database.read(bodies)


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"\xff" * (path.stat().st_size - 1024))


# The connections and the file


async def test_connections_are_durable_and_strict(database: Database) -> None:
    for ask in (database.read, database.write):
        assert await ask(pragma("journal_mode")) == "wal"
        assert await ask(pragma("synchronous")) == 2
        assert await ask(pragma("foreign_keys")) == 1
        assert await ask(pragma("busy_timeout")) == 10_000
        assert await ask(pragma("page_size")) == 1024
    assert await database.write(pragma("wal_autocheckpoint")) == 4 * 1024
    assert await database.read(pragma("query_only")) == 1


async def test_the_log_is_emptied_at_the_same_size_whatever_the_pages(path: Path, schema: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA page_size = 4096")
        other.execute("VACUUM")
    async with open_database(path, schema) as database:
        assert await database.write(pragma("page_size")) == 4096
        assert await database.write(pragma("wal_autocheckpoint")) == 1024
        for number in range(12):
            await together(database, *(note(f"{number} {part} " + "x" * 10_000) for part in range(100)))
        assert size(path) > 8 * 2**20
        assert size(path.with_name("jobs.db-wal")) < 8 * 2**20


def size(path: Path) -> int:
    return path.stat().st_size


async def test_the_files_are_their_owner_s_alone(database: Database, path: Path) -> None:
    await database.write(note("one"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {"jobs.db": 0o600, "jobs.db-shm": 0o600, "jobs.db-wal": 0o600}


# Several processes


async def test_three_processes_that_write_at_once_lose_nothing(
    database: Database, path: Path, schema: Path
) -> None:
    def increment(connection: Connection) -> int:
        (value,) = connection.execute("UPDATE counter SET value = value + 1 RETURNING value").fetchone()
        return int(value)

    counting = asyncio.create_task(asyncio.to_thread(answers, 2, "count", path, schema, 1600))
    seen: list[int] = []
    while not counting.done():
        seen.append(await database.write(increment))
    await counting
    assert seen == sorted(set(seen))
    value = await database.read(lambda c: c.execute("SELECT value FROM counter").fetchone()[0])
    assert value == 2 * 1600 + len(seen)


@pytest.mark.parametrize("lines", [1, 50, 400])
def test_a_process_that_is_killed_leaves_whole_changes_and_all_that_it_answered(
    path: Path, schema: Path, lines: int
) -> None:
    with programs(1, "pairs", path, schema) as (program,):
        assert program.stdout
        told = [program.stdout.readline() for _ in range(lines)]
        program.kill()
        told += program.communicate()[0].splitlines(keepends=True)
    kept = on_disk(path)
    numbers = [body.removesuffix(" left") for body in kept if body.endswith("left")]
    assert kept == [f"{number} {half}" for number in numbers for half in ("left", "right")]
    assert {line.strip() for line in told if line.endswith("\n")} <= set(numbers)
    assert len(numbers) >= lines


async def test_the_disk_is_flushed_only_for_what_must_survive_a_power_cut(path: Path) -> None:
    def flushing(c: Connection) -> str:
        return {1: "NORMAL", 2: "FULL"}[c.execute("PRAGMA synchronous").fetchone()[0]]

    async with open_database(path) as database:
        assert await database.write(flushing) == "FULL"
        assert await database.write(flushing, durable=False) == "NORMAL"
        assert await database.write(flushing) == "FULL"
        together = await asyncio.gather(
            database.write(flushing, durable=False),
            database.write(flushing),
            database.write(flushing, durable=False),
        )
        assert set(together[1:]) == {"FULL"}
