"""Updates by themselves: a real repository, real releases, and a service that is started and ended as by systemd."""

import json
import os
import shutil
import socketserver
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from claude_runner.db._migrations import SCHEMA, migrate
from tests.conftest import need
from tests.sites import free_port

DEPLOY: Final = Path(__file__).parent.parent / "deploy"
IS_ROOT: Final = os.geteuid() == 0
# Root gives away what touches the repository; whom it gives it to must be able to run Python.
USER: Final = "nobody" if IS_ROOT else psutil.Process().username()
PYTHON: Final = "/usr/bin/python3" if IS_ROOT else sys.executable

# The program of a release: well or not, as its commit says.
SERVER: Final = """
import http.server, json, os, pathlib, shutil, sqlite3
world = json.loads(pathlib.Path(os.environ["WORLD"]).read_text())
does = json.loads(pathlib.Path(__file__).with_name("does.json").read_text())
if "version" in does:
    database = world["home"] + "/jobs.db"
    with sqlite3.connect(database) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > does["version"]:
            raise SystemExit("the database is newer than the program")
        if version < does["version"]:
            shutil.copy(database, f"{database}.before-{version + 1}")
            connection.execute(f"PRAGMA user_version = {does['version']}")
            connection.execute("CREATE TABLE novelty (id)")
            connection.execute(does.get("then", "SELECT 1"))
    connection.close()

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if does["well"] else 503)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", world["port"]), Health).serve_forever()
"""
# An installation that lets everybody write, tells who it was, and may leave a process behind.
SETUP: Final = """
set -eu
umask 0
mkdir -p "$2/bin"
ln -s "$1" "$2/bin/python"
id -un > built-by
[ ! -e lingers ] || sleep 7261 </dev/null >/dev/null 2>&1 &
"""


class System:
    """Starts and ends the service when `systemctl` is called, and remembers what it was told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self._folder = folder
        self._service: subprocess.Popen[bytes] | None = None
        (folder / "bin").mkdir()
        program = folder / "bin" / "systemctl"
        program.write_text(
            f"#!{sys.executable} -I\nimport socket, sys\n"
            f"system = socket.socket(socket.AF_UNIX)\nsystem.connect({str(folder / 'system')!r})\n"
            'system.sendall(f"{sys.argv[1]}\\n".encode())\nsys.exit(int(system.recv(9)))\n'
        )
        program.chmod(0o755)

    def tell(self, verb: str) -> None:
        self.told.append(verb)
        if verb in {"stop", "restart"} and self._service is not None:
            self._service.kill()
            self._service.wait()
            self._service = None
        if verb == "restart":
            app = self._folder / "root" / "app"
            self._service = subprocess.Popen(
                [str(app / ".venv/bin/python"), str(app / "server.py")],
                env={"WORLD": str(self._folder / "world.json"), "PYTHONDONTWRITEBYTECODE": "1"},
                stderr=subprocess.DEVNULL,
            )


class World:
    """A machine with a repository, a service and what is installed to bring the one to the other."""

    def __init__(self, folder: Path, system: System) -> None:
        self.folder, self.system = folder, system
        self.root, self.home, self.origin = folder / "root", folder / "home", folder / "origin"
        port = free_port()
        for made in (self.root, self.home, self.origin, folder / "lib"):
            made.mkdir()
        for program in ("release.py", "database.py"):
            shutil.copy(DEPLOY / program, folder / "lib")
        (folder / "world.json").write_text(json.dumps({"port": port, "home": str(self.home)}))
        self.settings = {
            "REPOSITORY": self.origin, "ROOT": self.root, "BUILDER": USER, "SERVER_USER": USER,
            "SERVER_HOME": self.home, "HEALTH_URL": f"http://127.0.0.1:{port}/health",
            "HEALTH_SECONDS": 4, "SETTLE_SECONDS": 0.2,
        }  # fmt: skip
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, *, well: bool, schema: int = 0, **does: Any) -> str:
        """Commit a program that does so, and return the commit."""
        steps = self.origin / "claude_runner" / "schema"
        steps.mkdir(parents=True, exist_ok=True)
        for number in range(1, schema + 1):
            (steps / f"{number:04}_step.sql").touch()
        files = {"server.py": SERVER, "setup.sh": SETUP, "does.json": json.dumps({"well": well, **does})}
        for name, text in {**files, "requirements.txt": ""}.items():
            (self.origin / name).write_text(text)
        (self.origin / "open").touch()
        (self.origin / "open").chmod(0o777)
        self._git("add", ".")
        self._git("commit", "--quiet", "--allow-empty", "--message=next")
        if IS_ROOT:  # git fetches from a folder of one's own alone
            subprocess.run(["chown", "-R", USER, self.origin], check=True)
        return self._git("rev-parse", "HEAD").strip()

    def update(self, *arguments: str) -> tuple[int, str]:
        """Run the update, and return its exit code and what it said."""
        file = self.folder / "deploy.env"
        file.write_text("# a comment\n" + "".join(f"{key}={value}\n" for key, value in self.settings.items()))
        done = subprocess.run(
            [PYTHON, "-I", self.folder / "lib" / "release.py", "--settings", file, *arguments],
            env={"PATH": f"{self.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def in_service(self) -> str:
        return (self.root / "app").readlink().name

    def database(self, *, version: int, state: str = "finished") -> None:
        """Make the server's database, with one run."""
        self.sql("CREATE TABLE runs (id, state, started_at, finished_at)")
        self.sql(f"INSERT INTO runs VALUES ('r1', '{state}', 't1', 't2')")
        self.sql(f"PRAGMA user_version = {version}")
        if IS_ROOT:
            subprocess.run(["chown", "-R", USER, self.home], check=True)

    def sql(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.home / "jobs.db")) as connection, connection:
            return connection.execute(statement).fetchall()

    def _git(self, *arguments: str) -> str:
        name = ("-c", "safe.directory=*", "-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *name, "-c", "commit.gpgsign=false", "-C", str(self.origin), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def world() -> Iterator[World]:
    _need_what_it_takes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # the builder looks in
        system = System(folder)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
                system.tell(self.rfile.readline().decode().strip())
                self.wfile.write(b"0")

        with socketserver.ThreadingUnixStreamServer(str(folder / "system"), Handler) as listening:
            thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield World(folder, system)
            finally:
                listening.shutdown()
                thread.join()
                system.tell("stop")


def _need_what_it_takes() -> None:
    if sys.platform != "linux":
        pytest.skip("systems that are deployed to are Linux")
    if IS_ROOT:
        version = "import sys; sys.exit(sys.version_info < (3, 11))"
        if subprocess.run([PYTHON, "-c", version], check=False).returncode != 0:
            need("the system's own Python is not 3.11 or newer")
        if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0:
            need("PID namespaces can't be made here")


def left_behind() -> list[int]:
    """The processes that installations have left."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if process.info["cmdline"] == ["sleep", "7261"]:
                found.append(process.pid)
    return found


def test_the_newest_commit_comes_into_service_once_it_is_well(world: World) -> None:
    first = world.commit(well=True)
    assert world.update() == (0, f"{first[:12]} is in service\n")
    assert world.in_service() == first
    second = world.commit(well=True)
    assert world.update() == (0, f"{second[:12]} is in service\n")
    assert world.in_service() == second
    world.system.told.clear()
    assert world.update() == (0, f"{second[:12]} is in service\n")
    assert world.system.told == []


def test_a_commit_that_does_not_come_up_goes_back_and_is_not_tried_again(world: World) -> None:
    good, bad = world.commit(well=True), ""
    world.update()
    bad = world.commit(well=False)
    code, said = world.update()
    assert (code, world.in_service()) == (1, good)
    assert f"{bad[:12]} did not come up; {good[:12]} is in service again" in said
    world.system.told.clear()
    assert world.update() == (
        0,
        f"{bad[:12]} did not come up when it was tried; --again tries it once more\n",
    )
    assert world.system.told == []
    better = world.commit(well=True)
    assert world.update()[0] == 0
    assert world.in_service() == better


def test_the_owner_goes_back_and_may_have_a_refused_commit_tried_again(world: World) -> None:
    first = world.commit(well=True)
    world.update()
    assert "no former release" in world.update("--back")[1]
    second = world.commit(well=True)
    world.update()
    assert world.update("--back") == (0, f"{first[:12]} is in service again\n")
    assert world.in_service() == first
    assert "no former release" in world.update("--back")[1]
    assert "did not come up" in world.update()[1]
    assert world.update("--again")[0] == 0
    assert world.in_service() == second


def test_a_release_is_made_by_another_user_and_then_changed_by_nobody(world: World) -> None:
    before = set(left_behind())
    (world.origin / "lingers").touch()
    commit = world.commit(well=True)
    world.update()
    release = world.root / "releases" / commit
    assert (release / "built-by").read_text().strip() == USER
    for path in (release, *release.rglob("*")):
        about = path.lstat()
        assert about.st_uid == os.geteuid()
        assert path.is_symlink() or not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID), path
    assert not (release / ".git").exists()
    left = set(left_behind()) - before
    if IS_ROOT:
        assert not left, "what an installation left could still write to files that it holds open"
    for pid in left:
        psutil.Process(pid).kill()


def test_no_hook_is_run_whoever_put_it_there(world: World) -> None:
    world.commit(well=True)
    world.update()
    ran = world.home / "hook-ran"
    if IS_ROOT:
        shutil.chown(world.home, USER)
    for name in ("reference-transaction", "post-checkout", "post-merge", "pre-auto-gc"):
        hook = world.root / "source.git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
        hook.chmod(0o755)
    commit = world.commit(well=True)
    assert world.update()[0] == 0
    assert world.in_service() == commit
    assert not ran.exists()


def test_only_signed_commits_are_taken_where_the_owner_wants_it(world: World) -> None:
    world.settings["VERIFY_SIGNATURES"] = 1
    world.commit(well=True)
    code, said = world.update()
    assert code == 1
    assert "verify-commit" in said
    assert not (world.root / "app").exists()


def test_an_update_waits_for_runs_that_are_going_on(world: World) -> None:
    first = world.commit(well=True)
    world.update()
    world.database(version=1, state="running")
    second = world.commit(well=True)
    assert world.update() == (0, f"{second[:12]} is ready and waits for the runs that are going on\n")
    assert world.in_service() == first
    world.settings["BUSY_HOURS"] = 0.000001
    assert world.update()[0] == 0
    assert world.in_service() == second


def test_going_back_takes_the_database_back_too(world: World) -> None:
    world.database(version=1)
    good = world.commit(well=True, schema=1, version=1)
    world.update()
    world.commit(well=False, schema=2, version=2)
    code, said = world.update()
    assert (code, world.in_service()) == (1, good), said
    assert world.sql("PRAGMA user_version") == [(1,)]
    assert world.sql("SELECT name FROM sqlite_schema") == [("runs",)]
    assert (world.home / "jobs.db.undone").stat().st_mode & 0o777 == 0o600


def test_the_database_stays_where_a_run_would_be_forgotten(world: World) -> None:
    world.database(version=1)
    world.commit(well=True, schema=1, version=1)
    world.update()
    then = "INSERT INTO runs VALUES ('r2', 'finished', 't3', 't4')"
    bad = world.commit(well=False, schema=2, version=2, then=then)
    code, said = world.update()
    assert (code, world.in_service()) == (1, bad)
    assert "1 of its runs were begun or ended since" in said
    assert world.sql("PRAGMA user_version") == [(2,)]
    assert world.system.told[-1] == "restart"


def test_the_copies_that_the_program_makes_are_those_that_are_put_back(tmp_path: Path) -> None:
    database, newer = tmp_path / "jobs.db", tmp_path / "schema"
    known = migrate(database)
    shutil.copytree(SCHEMA, newer)
    (newer / f"{known + 1:04}_next.sql").write_text("CREATE TABLE novelty (id TEXT PRIMARY KEY) STRICT;")
    since = tmp_path.stat().st_mtime
    assert migrate(database, newer) == known + 1
    done = subprocess.run(
        [sys.executable, "-I", DEPLOY / "database.py", database, "--step-back", str(known), str(since)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\n"
    assert migrate(database) == known
