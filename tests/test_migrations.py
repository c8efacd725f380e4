import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from claude_runner.db import open_database
from claude_runner.db._connections import Connection
from claude_runner.db._files import CHECKED_BYTES
from claude_runner.db._migrations import migrate, statements
from claude_runner.errors import UnavailableError
from tests.db_support import answers, largest_file

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;\n"
STEPS = (
    NOTES,
    """
    -- A trigger holds semicolons; so does this comment.
    CREATE TABLE log (line TEXT NOT NULL) STRICT;
    CREATE TRIGGER notes_logged AFTER INSERT ON notes BEGIN
        INSERT INTO log (line) VALUES ('new; ' || new.body);
        UPDATE log SET line = line || '!';
    END; INSERT INTO notes (body) VALUES ('of step 2');
    """,
    "ALTER TABLE notes ADD COLUMN at TEXT /* no semicolon at the end */",
)

MakeSchema = Callable[..., Path]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "jobs.db"


@pytest.fixture
def make_schema(tmp_path: Path) -> MakeSchema:
    """Write steps into a new folder."""

    def make(*steps: str) -> Path:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for number, step in enumerate(steps, start=1):
            (folder / f"{number:04}_step.sql").write_text(step)
        return folder

    return make


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def content(path: Path) -> list[str]:
    with opened(path) as connection:
        return [f"version {version(connection)}", *connection.iterdump()]


def version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def notes(path: Path) -> list[str]:
    with opened(path) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM notes ORDER BY id")]


def add_note(path: Path, body: str) -> None:
    with opened(path) as connection:
        connection.execute("INSERT INTO notes (body) VALUES (?)", (body,))


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


# Steps


def test_a_new_file_takes_every_step_and_leaves_no_copy(path: Path, make_schema: MakeSchema) -> None:
    assert migrate(path, make_schema(*STEPS)) == 3
    assert notes(path) == ["of step 2"]
    with opened(path) as connection:
        assert version(connection) == 3
        assert connection.execute("SELECT line FROM log").fetchall() == [("new; of step 2!",)]
    assert list(files(path)) == ["jobs.db"]


def test_the_program_brings_steps_of_its_own(path: Path) -> None:
    assert migrate(path) == migrate(path) >= 1


def test_step_by_step_or_all_at_once_the_schema_is_the_same(path: Path, make_schema: MakeSchema) -> None:
    for number in (1, 2, 2, 3):
        assert migrate(path, make_schema(*STEPS[:number])) == number
    at_once = path.with_name("at-once.db")
    migrate(at_once, make_schema(*STEPS))
    assert content(path) == content(at_once)


def test_a_database_is_copied_before_its_first_pending_step_alone(
    path: Path, make_schema: MakeSchema
) -> None:
    migrate(path, make_schema(NOTES))
    reader = sqlite3.connect(path)  # it keeps what is written in the log
    reader.execute("SELECT * FROM notes").fetchall()
    add_note(path, "before")
    before = content(path)
    assert path.with_name("jobs.db-wal").stat().st_size

    assert migrate(path, make_schema(*STEPS)) == 3
    reader.close()
    assert sorted(files(path)) == ["jobs.db", "jobs.db.before-2"]
    assert content(path.with_name("jobs.db.before-2")) == before
    assert notes(path) == ["before", "of step 2"]


def test_a_database_that_is_up_to_date_is_not_copied(path: Path, make_schema: MakeSchema) -> None:
    schema = make_schema(*STEPS)
    migrate(path, schema)
    before = files(path)
    assert migrate(path, schema) == 3
    assert files(path) == before


def test_a_newer_copy_takes_the_place_of_one_of_the_same_name(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(NOTES))
    path.with_name("jobs.db.before-2").write_text("older")
    path.with_name("jobs.db.before-2.part").write_text("cut off")
    add_note(path, "before")
    migrate(path, make_schema(*STEPS))
    assert notes(path.with_name("jobs.db.before-2")) == ["before"]
    assert sorted(files(path)) == ["jobs.db", "jobs.db.before-2"]


def test_a_database_made_by_something_else_is_copied_too(path: Path, make_schema: MakeSchema) -> None:
    path.parent.mkdir()
    with opened(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    migrate(path, make_schema(NOTES))
    assert "CREATE TABLE theirs (x);" in content(path.with_name("jobs.db.before-1"))


BROKEN = "INSERT INTO notes (body) VALUES ('half');\nINSERT INTO nots (body) VALUES ('other half');"


def test_a_step_that_fails_leaves_the_database_as_it_was(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(NOTES))
    add_note(path, "before")
    before = content(path)
    with pytest.raises(sqlite3.OperationalError, match="no such table: nots") as raised:
        migrate(path, make_schema(NOTES, BROKEN))
    assert raised.value.__notes__ == ["in 0002_step.sql; the database stays at version 1"]
    assert content(path) == before


def test_of_several_steps_all_are_kept_or_none(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(NOTES))
    before = content(path)
    with pytest.raises(sqlite3.OperationalError, match="no such table: nots") as raised:
        migrate(path, make_schema(*STEPS[:2], BROKEN))
    assert raised.value.__notes__ == ["in 0003_step.sql; the database stays at version 1"]
    assert content(path) == before
    assert migrate(path, make_schema(*STEPS)) == 3


@pytest.mark.parametrize("ending", ["COMMIT;", "ROLLBACK;", "END", "BEGIN;"])
def test_a_step_can_not_end_its_transaction(path: Path, make_schema: MakeSchema, ending: str) -> None:
    with pytest.raises(RuntimeError, match="must not begin, commit or roll back"):
        migrate(path, make_schema(f"{NOTES} {ending}"))
    assert content(path) == ["version 0", "BEGIN TRANSACTION;", "COMMIT;"]


PARENTS = """
CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE children (parent INTEGER NOT NULL REFERENCES parents (id) ON DELETE CASCADE);
INSERT INTO parents VALUES (1, 'one');
INSERT INTO children VALUES (1);
"""
REBUILD = """
CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO rebuilt SELECT id, name FROM parents WHERE name <> '{without}';
DROP TABLE parents;
ALTER TABLE rebuilt RENAME TO parents;
"""


def test_a_step_may_rebuild_a_table_that_others_refer_to(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(PARENTS))
    migrate(path, make_schema(PARENTS, REBUILD))
    with opened(path) as connection:
        assert connection.execute("SELECT * FROM children").fetchall() == [(1,)]


def test_a_step_that_leaves_a_row_without_its_parent_is_refused(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(PARENTS))
    before = content(path)
    with pytest.raises(sqlite3.IntegrityError, match="a row of children is left without its row of parents"):
        migrate(path, make_schema(PARENTS, REBUILD.format(without="one")))
    assert content(path) == before


@pytest.mark.parametrize(
    "names",
    [[], ["0002_late.sql"], ["0001_one.sql", "0003_three.sql"], ["0001_a.sql", "0001_b.sql"], ["one.sql"]],
)
def test_the_numbers_of_the_steps_have_no_gap(path: Path, make_schema: MakeSchema, names: list[str]) -> None:
    schema = make_schema()
    for name in names:
        (schema / name).write_text(NOTES)
    with pytest.raises(
        RuntimeError, match=r"must hold 0001_name\.sql, 0002_name\.sql and so on, without a gap"
    ):
        migrate(path, schema)
    assert not path.parent.exists()


TEXTS = st.text(st.sampled_from("a;'\"`[]-/* \n")).map(lambda text: text.replace("'", "''"))
BETWEEN = st.lists(st.sampled_from(["\n", " ", "-- one; two 'three\n", "/* ; ' */", "/* BEGIN\n; */\n"])).map(
    "".join
)
KINDS = st.one_of(
    TEXTS.map("INSERT INTO notes (body) VALUES ('{}');".format),
    TEXTS.map("INSERT INTO notes (body) VALUES /* ; */ ('{}') -- ;\n;".format),
    TEXTS.map(
        "CREATE TRIGGER IF NOT EXISTS t AFTER INSERT ON notes WHEN new.id = 2"
        " BEGIN INSERT INTO notes (body) VALUES ('{}'); DELETE FROM notes WHERE id = 1; END;".format
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BETWEEN, KINDS)), BETWEEN)
def test_a_script_split_into_statements_does_what_it_does_whole(
    parts: list[tuple[str, str]], end: str
) -> None:
    script = NOTES + "".join(between + statement for between, statement in parts) + end
    with closing(sqlite3.connect(":memory:")) as whole, closing(sqlite3.connect(":memory:")) as split:
        whole.executescript(script)
        taken = [split.execute(statement) for statement in statements(script)]
        assert len(taken) == len(parts) + 2
        assert list(split.iterdump()) == list(whole.iterdump())


# Newer files, several processes, locks


def test_a_file_newer_than_the_program_is_refused_and_left_alone(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(*STEPS))
    before = path.read_bytes()
    with pytest.raises(UnavailableError) as raised:
        migrate(path, make_schema(NOTES))
    assert str(raised.value) == (
        f"{path} is of version 3, and this program knows versions up to 1; update the program"
    )
    assert path.read_bytes() == before


def test_a_file_that_becomes_newer_while_its_lock_is_waited_for_is_refused(
    path: Path, make_schema: MakeSchema
) -> None:
    migrate(path, make_schema(NOTES))
    with opened(path) as newer, ThreadPoolExecutor(1) as pool:
        newer.execute("BEGIN IMMEDIATE")
        newer.execute("PRAGMA user_version = 3")
        waiting = pool.submit(migrate, path, make_schema(*STEPS[:2]))
        wait([waiting], 0.1)  # long enough to come to the lock; the outcome is the same if it has not
        newer.execute("COMMIT")
        with pytest.raises(
            UnavailableError, match="is of version 3, and this program knows versions up to 2"
        ):
            waiting.result()
    assert notes(path) == []


@pytest.mark.parametrize("known", [0, 1])
def test_of_processes_that_migrate_at_once_one_does_it_and_the_others_wait(
    path: Path, make_schema: MakeSchema, known: int
) -> None:
    if known:
        migrate(path, make_schema(*STEPS[:known]))
    steps = [*STEPS[:2], *("INSERT INTO notes (body) VALUES ('more');" for _ in range(8))]
    assert answers(4, "migrate", path, make_schema(*steps)) == ["10\n"] * 4
    assert notes(path) == ["of step 2", *["more"] * 8]
    assert sorted(files(path)) == ["jobs.db", "jobs.db.before-2"][: known + 1]


def test_threads_that_make_the_same_new_file_all_find_it_made(path: Path, make_schema: MakeSchema) -> None:
    schema = make_schema(*STEPS)
    for number in range(10):
        place = path.with_name(f"{number}.db")
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(migrate, [place] * 6, [schema] * 6)) == [3] * 6


def test_a_step_waits_for_a_lock_only_so_long(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(NOTES))
    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="is locked by another program"):
            migrate(path, make_schema(*STEPS), lock_timeout=0.02)
        assert (
            migrate(path, make_schema(NOTES), lock_timeout=0.02) == 1
        )  # nothing pending, nothing to wait for
    assert migrate(path, make_schema(*STEPS)) == 3


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_new_file_that_is_locked_is_named(path: Path, make_schema: MakeSchema, kind: str) -> None:
    path.parent.mkdir()
    path.touch()
    with opened(path) as other:
        other.execute(f"BEGIN {kind}")
        with pytest.raises(UnavailableError, match="is locked by another program"):
            migrate(path, make_schema(NOTES), lock_timeout=0.02)


def test_a_new_file_that_another_process_is_making_is_waited_for(path: Path, make_schema: MakeSchema) -> None:
    schema = make_schema(NOTES)
    path.parent.mkdir()
    path.touch()
    with opened(path) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(migrate, path, schema)
        wait([waiting], 0.1)  # long enough to come to the lock; the outcome is the same if it has not
        other.execute("COMMIT")
        assert waiting.result() == 1


# Modes


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_the_file_and_its_copy_are_their_owner_s_alone(path: Path, make_schema: MakeSchema) -> None:
    before = os.umask(0)
    try:
        migrate(path, make_schema(NOTES))
        migrate(path, make_schema(*STEPS))
    finally:
        os.umask(before)
    assert modes(path.parent) == {"jobs.db": 0o600, "jobs.db.before-2": 0o600}


def test_files_that_others_could_read_no_longer_are(path: Path, make_schema: MakeSchema) -> None:
    migrate(path, make_schema(NOTES))
    with opened(path) as other:
        other.execute("INSERT INTO notes (body) VALUES ('kept')")
        for file in path.parent.iterdir():
            file.chmod(0o664)
        assert migrate(path, make_schema(NOTES)) == 1
        assert modes(path.parent) == {"jobs.db": 0o600, "jobs.db-shm": 0o600, "jobs.db-wal": 0o600}
    assert notes(path) == ["kept"]


@pytest.fixture
def link(path: Path) -> Path:
    """Make a link to a file in another folder that is not there yet."""
    for folder in (path.parent, path.parent / "disk"):
        folder.mkdir()
    path.symlink_to(path.parent / "disk" / "real.db")
    return path


async def test_a_link_is_followed(link: Path, make_schema: MakeSchema) -> None:
    async with open_database(link, make_schema(NOTES)) as database:
        assert await database.read(version) == 1
        assert modes(link.parent / "disk") == {f"real.db{suffix}": 0o600 for suffix in ("", "-shm", "-wal")}
    assert sorted(modes(link.parent)) == ["disk", "jobs.db"]


# Files that can't be used


def refused(path: Path, schema: Path) -> str:
    """Return the sentence with which a file is refused, having checked that nothing of it changed."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UnavailableError) as raised:
        migrate(path, schema)
    assert (path.read_bytes() if path.is_file() else None) == before
    sentence = str(raised.value)
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


def test_a_folder_is_no_database(path: Path, make_schema: MakeSchema) -> None:
    path.mkdir(parents=True)
    assert refused(path, make_schema(NOTES)) == " is not a file; move it away and start again"


def test_another_kind_of_file_is_no_database(path: Path, make_schema: MakeSchema) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary,\n" * 1000)
    assert refused(path, make_schema(NOTES)) == NO_DATABASE


def test_a_folder_that_can_not_be_made_is_named(path: Path, make_schema: MakeSchema) -> None:
    path.parent.write_text("in the way")
    with pytest.raises(UnavailableError) as raised:
        migrate(path, make_schema(NOTES))
    assert str(raised.value) == (
        f"{path.parent} can't be used: File exists; check the path, the rights and the free space"
    )


NO_DATABASE = " is not a SQLite database; move it away and start again"
DAMAGED = " is damaged; put a backup in its place, or recover it with the sqlite3 shell (.recover)"


@pytest.fixture
def filled(path: Path, make_schema: MakeSchema) -> Path:
    """Make a database of some pages, all of them in the file itself."""
    migrate(path, make_schema(NOTES))
    with opened(path) as connection:
        connection.executemany("INSERT INTO notes (body) VALUES (?)", [(f"{n} " * 100,) for n in range(400)])
    return path


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1))
@example(23)
@example(24)
@example(1024)
@example(-1)
def test_a_truncated_database_is_refused(filled: Path, make_schema: MakeSchema, cut: int) -> None:
    cut_off = filled.with_name("cut-off.db")
    shutil.copy(filled, cut_off)
    size = cut % filled.stat().st_size or 1
    os.truncate(cut_off, size)
    sentence = refused(cut_off, make_schema(*STEPS))
    assert sentence == DAMAGED or (size < 24 and sentence == NO_DATABASE)  # so little tells of no database


def test_a_database_with_a_page_of_something_else_is_refused(filled: Path, make_schema: MakeSchema) -> None:
    with filled.open("r+b") as file:
        file.seek(1024 * 20)
        file.write(b"\xff" * 1024)
    assert refused(filled, make_schema(*STEPS)) == DAMAGED


def test_an_emptied_database_whose_log_is_full_is_refused(path: Path, make_schema: MakeSchema) -> None:
    path.parent.mkdir()
    path.touch()
    log = path.with_name("jobs.db-wal")
    log.write_bytes(b"what was written last")
    assert refused(path, make_schema(NOTES)) == (
        " is empty but jobs.db-wal beside it is not; put a backup of both in their place"
    )
    assert log.read_bytes() == b"what was written last"


def test_what_was_cut_off_half_way_is_undone(path: Path, make_schema: MakeSchema) -> None:
    path.parent.mkdir()
    with opened(path) as other:
        other.execute("PRAGMA cache_size = 2")
        other.executescript(NOTES)
        other.execute("PRAGMA user_version = 1")
        other.executemany("INSERT INTO notes (body) VALUES (?)", [("whole" * 100,)] * 100)
        other.execute("BEGIN")
        other.execute("UPDATE notes SET body = 'half'")
        cut_off = path.with_name("cut-off.db")
        for suffix in ("", "-journal"):
            shutil.copy(f"{path}{suffix}", f"{cut_off}{suffix}")
    assert migrate(cut_off, make_schema(NOTES)) == 1
    assert notes(cut_off) == ["whole" * 100] * 100


FAILED = " could not be read or written; check its disk and file system, then try again"


def test_a_copy_that_fails_leaves_nothing_behind(filled: Path, make_schema: MakeSchema) -> None:
    before = files(filled)
    with largest_file(len(before["jobs.db"]) // 2):
        assert refused(filled, make_schema(*STEPS)) == FAILED
    assert files(filled) == before


def test_a_disk_on_which_nothing_can_be_written_is_named(path: Path, make_schema: MakeSchema) -> None:
    schema = make_schema(NOTES)
    with largest_file(0), pytest.raises(UnavailableError, match=re.escape(FAILED)):
        migrate(path, schema)
    assert migrate(path, schema) == 1


def test_a_large_database_is_not_read_whole_at_every_start(filled: Path, make_schema: MakeSchema) -> None:
    with opened(filled) as connection:
        connection.execute("INSERT INTO notes (body) VALUES (:body)", {"body": "x" * CHECKED_BYTES})
    with filled.open("r+b") as file:
        file.seek(1024 * 20)
        file.write(b"\xff" * 1024)
    assert migrate(filled, make_schema(NOTES)) == 1


@pytest.fixture
def common(make_schema: MakeSchema) -> Iterator[Path]:
    """Make a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(make_schema(*STEPS[:2]), folder / "schema")
        (folder / "schema").chmod(0o755)
        (folder / "home").mkdir()
        yield folder


RIGHTS = "can't be read and written; give the user that runs the server the right to"


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "at_fault"),
    [(0o000, 0o777, "home/jobs.db"), (0o444, 0o777, "home/jobs.db"), (0o666, 0o555, "home")],
)
def test_a_file_or_folder_without_the_rights_is_refused(
    common: Path, file_mode: int, folder_mode: int, at_fault: str
) -> None:
    path = common / "home" / "jobs.db"
    migrate(path, common / "schema")
    before = path.read_bytes()
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    (said,) = answers(1, "migrate-unprivileged", path, common / "schema")
    path.parent.chmod(0o700)
    assert said == f"{common / at_fault} {RIGHTS}\n"
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == file_mode


def test_a_folder_in_which_nothing_can_be_made_is_refused(common: Path) -> None:
    (common / "home").chmod(0o555)
    path = common / "home" / "jobs.db"
    (said,) = answers(1, "migrate-unprivileged", path, common / "schema")
    assert said == f"{path} can't be used: Permission denied; check the path, the rights and the free space\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a file of another user, which root alone can make")
def test_a_file_of_another_user_can_not_be_made_private_and_is_refused(common: Path) -> None:
    path = common / "home" / "jobs.db"
    migrate(path, common / "schema")
    path.chmod(0o666)
    path.parent.chmod(0o777)
    (said,) = answers(1, "migrate-unprivileged", path, common / "schema")
    assert (
        said
        == f"{path} can't be used: Operation not permitted; check the path, the rights and the free space\n"
    )
