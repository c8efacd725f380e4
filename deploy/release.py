#!/usr/bin/python3 -I
"""Brings the newest commit of a branch into service, and goes back to the former release where it does not come up.

Run as root by a timer every five minutes, and by hand as mcpserver-release. As root it runs nothing of the repository
and nothing that the server's user can write: what touches the repository and its packages is done by a user of its own,
whose processes are all dead before root takes the files over. A release is a folder that nobody but root can change;
`app` is a link to the one in service, and is replaced in one step.
"""

import argparse
import fcntl
import filecmp
import http.client
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SETTINGS: Final = Path("/etc/mcpserver/deploy.env")
LOOK_AGAIN_SECONDS: Final = 0.5
KEPT: Final = 3  # whole releases on the disk, the one in service and the one before it among them

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# Nothing that the repository or its origin brings is carried out: no hooks, no transports that are commands.
_GIT: Final = (
    "git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "transfer.fsckObjects=true",
)  # fmt: skip
# Wheels alone: no code of a package runs to install it.
_PIP: Final = {"PIP_ONLY_BINARY": ":all:", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class FailedError(Exception):
    """It can't be done; the message is a sentence for the log."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What /etc/mcpserver/deploy.env says, in capitals.

    Attributes:
        repository: What is fetched: a URL, or a path.
        branch: Whose newest commit is brought into service.
        verify_signatures: `1` to take only commits whose signature `git verify-commit` finds good.
        root: Folder of releases.
        builder: The user who fetches and installs.
        server_user: The user whom the server runs as.
        server_home: The server's RUNNER_HOME.
        service: The server's unit.
        health_url: Answers 200 where the server is well.
        health_seconds: How long a release may take to come up.
        settle_seconds: How long it must then stay well.
        busy_hours: How long an update waits for running runs to end; then it ends them.
    """

    repository: str
    branch: str = "main"
    verify_signatures: str = "0"
    root: str = "/opt/mcpserver"
    builder: str = "mcpbuild"
    server_user: str = "mcpuser"
    server_home: str = "/var/lib/mcpserver"
    service: str = "mcpserver.service"
    health_url: str = "http://127.0.0.1:8080/health"
    health_seconds: str = "90"
    settle_seconds: str = "10"
    busy_hours: str = "6"

    @classmethod
    def read(cls, file: Path) -> "Settings":
        """Read the file; names that are not ours are left alone."""
        given: dict[str, str] = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                given[name.strip().lower()] = value.strip().strip("\"'")
        if not given.get("repository"):
            raise FailedError(f"{file} names no REPOSITORY")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in known and value})


def run_as(user: str, *command: str, cwd: Path | str = "/", **variables: str) -> str:
    """Run a command as a user with an environment of its own, and return what it printed.

    Nothing that it starts outlives it: as root it is the first process of a PID namespace, which dies with it.

    Raises:
        FailedError: It did not succeed.
    """
    account = pwd.getpwnam(user)
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": account.pw_dir,
        "LANG": "C.UTF-8",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new",
        **variables,
    }
    become: tuple[str, ...] = ()
    if os.geteuid() == 0:
        ids = ("--reuid", user, "--regid", str(account.pw_gid), "--init-groups")
        become = ("unshare", "--pid", "--fork", "--kill-child", "setpriv", *ids, "--no-new-privs", "--")
    done = subprocess.run(
        (*become, *command),
        cwd=cwd,
        env=environment,
        umask=0o022,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise FailedError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


class Source:
    """The repository as it was fetched: the builder's, and touched by nobody else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(settings.root) / "source.git"

    def newest(self) -> str:
        """Fetch the branch and return its newest commit."""
        if not self._folder.is_dir():
            _make_folder(self._folder, self._settings.builder)
        self._git("init", "--quiet", "--bare", ".")
        branch = f"refs/heads/{self._settings.branch}"
        self._git(
            "fetch", "--quiet", "--force", "--no-tags", "--", self._settings.repository, f"+{branch}:{branch}"
        )
        commit = self._git("rev-parse", "--verify", f"{branch}^{{commit}}").strip()
        if not _COMMIT.fullmatch(commit):
            raise FailedError(f"git names no commit but {commit[:100]!r}")
        return commit

    def verify(self, commit: str) -> None:
        """Raise `FailedError` where the commit bears no signature that the builder's git finds good."""
        self._git("verify-commit", commit)

    def unpack(self, commit: str, folder: Path) -> None:
        """Write the commit's files into a folder of the builder's: they alone, without git's own."""
        command = f'{" ".join(_GIT)} archive --format=tar "$1" | tar --extract --file=- --directory "$2"'
        run_as(
            self._settings.builder,
            "sh", "-c", f"set -e; {command}; test -e \"$2/server.py\"", "unpack", commit, str(folder),
            cwd=self._folder,
        )  # fmt: skip

    def _git(self, *arguments: str) -> str:
        return run_as(self._settings.builder, *_GIT, *arguments, cwd=self._folder)


class Releases:
    """The releases on the disk, which of them is in service, and which were in vain."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = Path(settings.root)
        self._refused = self._root / "refused"

    def current(self) -> Path | None:
        """Return the release in service."""
        return self._target("app")

    def former(self) -> Path | None:
        """Return the release that was in service before."""
        return self._target("former")

    def build(self, commit: str, source: Source) -> Path:
        """Return the release of a commit, made where it is not there whole."""
        folder = self._root / "releases" / commit
        if _is_whole(folder):
            return folder
        folder.parent.mkdir(mode=0o755, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        _make_folder(folder, self._settings.builder)
        source.unpack(commit, folder)
        python = sys.executable or "/usr/bin/python3"
        run_as(
            self._settings.builder, "sh", "setup.sh", python, ".venv", "requirements.txt", cwd=folder, **_PIP
        )
        compiling = ("-m", "compileall", "-q", "-x", r"/\.venv/", ".")
        run_as(self._settings.builder, ".venv/bin/python", *compiling, cwd=folder)
        _seal(folder)
        (folder / "REVISION").write_text(f"{commit}\n", encoding="utf-8")
        return folder

    def switch(self, folder: Path) -> None:
        """Bring a release into service with the server's next start."""
        current = self.current()
        if current is not None and current != folder:
            self._link("former", current)
        self._link("app", folder)

    def is_refused(self, commit: str) -> bool:
        """Tell whether a commit was tried and did not come up."""
        return self._refused.is_file() and commit in self._refused.read_text(encoding="utf-8").split()

    def refuse(self, commit: str) -> None:
        """Remember that a commit did not come up."""
        with self._refused.open("a", encoding="utf-8") as file:
            file.write(f"{commit}\n")

    def forgive(self) -> None:
        """Forget which commits did not come up."""
        self._refused.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove releases of long ago, and what was left half made."""
        serving = {self.current(), self.former()}
        others = [folder for folder in (self._root / "releases").iterdir() if folder not in serving]
        whole = sorted(filter(_is_whole, others), key=_made_at, reverse=True)
        for folder in {*others} - {*whole[: max(0, KEPT - len(serving - {None}))]}:
            shutil.rmtree(folder, ignore_errors=True)

    def _target(self, name: str) -> Path | None:
        link = self._root / name
        return self._root / link.readlink() if link.is_symlink() and link.is_dir() else None

    def _link(self, name: str, folder: Path) -> None:
        new = self._root / f"{name}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(folder.relative_to(self._root))
        new.replace(self._root / name)


class Server:
    """The server as the system runs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def start(self) -> bool:
        """Start it, or start it anew; tell whether it came up and stayed well."""
        self._tell("reset-failed")  # failed starts of the other release are not held against this one
        return self._tell("restart") and self._comes_up()

    def stop(self) -> None:
        """Stop it, and what it had started with it."""
        if not self._tell("stop"):
            raise FailedError(f"{self._settings.service} can't be stopped")

    def is_busy(self) -> bool:
        """Tell whether runs are going on, where that can be found out."""
        try:
            return self._ask() != "0"
        except FailedError:
            return False

    def step_back(self, former: Path, since: float) -> str:
        """Have the database as the former release knows it; return why that can't be, or nothing."""
        known = len(list((former / "claude_runner" / "schema").glob("*.sql")))
        try:
            return self._ask("--step-back", str(known), str(since))
        except FailedError as error:
            return str(error)

    def _tell(self, verb: str) -> bool:
        return subprocess.run(("systemctl", verb, self._settings.service), check=False).returncode == 0

    def _comes_up(self) -> bool:
        now = time.monotonic()
        deadline = now + float(self._settings.health_seconds)
        well_since: float | None = None
        while now < deadline:
            if not self._is_well():
                well_since = None
            elif well_since is None:
                well_since = now
            elif now - well_since >= float(self._settings.settle_seconds):
                return True
            time.sleep(LOOK_AGAIN_SECONDS)
            now = time.monotonic()
        return False

    def _ask(self, *question: str) -> str:
        script = Path(__file__).resolve().with_name("database.py")
        database = f"{self._settings.server_home}/jobs.db"
        return run_as(
            self._settings.server_user, sys.executable, "-I", str(script), database, *question
        ).strip()

    def _is_well(self) -> bool:
        url = urlsplit(self._settings.health_url)
        connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port, timeout=5)
        with closing(connection):
            try:
                connection.request("GET", url.path)
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False


class Deployment:
    """What is done with a new commit, in order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._source = Source(settings)
        self._releases = Releases(settings)
        self._server = Server(settings)

    def update(self, *, again: bool) -> str:
        """Bring the newest commit into service and return what was done.

        Args:
            again: Whether commits that did not come up are tried once more, and no run is waited for.

        Raises:
            FailedError: It was not brought into service.
        """
        if again:
            self._releases.forgive()
        commit = self._source.newest()
        current = self._releases.current()
        if current is not None and current.name == commit:
            return f"{commit[:12]} is in service"
        if self._releases.is_refused(commit):
            return f"{commit[:12]} did not come up when it was tried; --again tries it once more"
        if self._settings.verify_signatures == "1":
            self._source.verify(commit)
        folder = self._releases.build(commit, self._source)
        waited = _seconds_now() - _made_at(folder)
        if not again and waited < float(self._settings.busy_hours) * 3600 and self._server.is_busy():
            return f"{commit[:12]} is ready and waits for the runs that are going on"
        return self._bring(folder, current)

    def go_back(self) -> str:
        """Bring the former release into service again and return what was done."""
        current, former = self._releases.current(), self._releases.former()
        if current is None or former is None or self._releases.is_refused(former.name):
            raise FailedError("there is no former release to go back to")
        self._releases.refuse(current.name)
        self._return(former, current, _made_at(current))
        return f"{former.name[:12]} is in service again"

    def _bring(self, folder: Path, current: Path | None) -> str:
        since = _seconds_now()
        self._releases.switch(folder)
        if self._server.start():
            self._releases.tidy()
            return f"{folder.name[:12]} is in service{_by_hand(current, folder)}"
        if current is None:
            raise FailedError(f"{folder.name[:12]} does not come up; the server's log says why")
        self._releases.refuse(folder.name)
        self._return(current, folder, since)
        raise FailedError(f"{folder.name[:12]} did not come up; {current.name[:12]} is in service again")

    def _return(self, former: Path, current: Path, since: float) -> None:
        self._server.stop()
        if why := self._server.step_back(former, since):
            self._server.start()
            raise FailedError(
                f"{current.name[:12]} stays, well or not: the database can't go back to what {former.name[:12]} knows"
                f" ({why})"
            )
        self._releases.switch(former)
        if not self._server.start():
            raise FailedError(
                f"{former.name[:12]} is back and does not come up either; the server's log says why"
            )


def main() -> int:
    """Run the program and return its exit code: 0 done or nothing to do, 1 it failed, as the log says."""
    options = _arguments()
    try:
        settings = Settings.read(options.settings)
        with _alone(Path(settings.root)):
            deployment = Deployment(settings)
            print(deployment.go_back() if options.back else deployment.update(again=options.again))
    except (FailedError, OSError, KeyError) as error:
        print(f"mcpserver-release: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mcpserver-release", description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, default=SETTINGS, help=f"default: {SETTINGS}")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--again", action="store_true", help="try refused commits once more, and do not wait for runs to end"
    )
    choice.add_argument("--back", action="store_true", help="go back to the former release")
    return parser.parse_args()


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second one out: the timer's and one by hand."""
    with (root / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FailedError("another update is going on") from error
        yield


def _make_folder(folder: Path, owner: str) -> None:
    folder.mkdir(mode=0o755)
    if os.geteuid() == 0:
        account = pwd.getpwnam(owner)
        os.chown(folder, account.pw_uid, account.pw_gid)


def _seal(folder: Path) -> None:
    """Make everything in a folder root's, and writable by root alone; links are left to point where they do."""
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)


def _is_whole(folder: Path) -> bool:
    return (folder / "REVISION").is_file()


def _made_at(folder: Path) -> float:
    return (folder / "REVISION").stat().st_mtime


def _seconds_now() -> float:
    return time.time()  # noqa: TID251 - it runs without the program, and compares with the times of files


def _by_hand(before: Path | None, after: Path) -> str:
    """Return what the owner is to be told where a release brings other files for the system than the one before."""
    if before is None:
        return ""
    names = {path.name for release in (before, after) for path in (release / "deploy").glob("*")}
    _, changed, missing = filecmp.cmpfiles(before / "deploy", after / "deploy", names, shallow=False)
    if not changed and not missing:
        return ""
    return f"; deploy/ has changed ({', '.join(sorted(changed + missing))}): look at it, then run deploy.sh"


if __name__ == "__main__":
    sys.exit(main())
