"""The servers of a folder, one in each of its folders: `server.py`, with `metadata.json` beside it.

The files are the truth, whoever put them there. What was read is kept for as long as neither file changes.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from claude_runner.errors import InvalidError, unusable
from claude_runner.servers._code import MAX_CODE_BYTES, declared, examine
from claude_runner.servers._files import read_file
from claude_runner.servers._names import check_name, is_name
from claude_runner.servers._records import Kind, Server, read_instant
from claude_runner.servers._variables import Variable, plain, read_variables

CODE: Final = "server.py"
METADATA: Final = "metadata.json"
MAX_METADATA_BYTES: Final = 256 * 1024

_State = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A server as it was read, and the files as they were then."""

    code: _State
    metadata: _State
    server: Server


class Shelf:
    """The servers of one folder."""

    def __init__(self, root: Path, kind: Kind, data_dir: Callable[[str], Path] | None = None) -> None:
        """Make a shelf; its folder need not exist.

        Args:
            root: Where the servers' folders are.
            kind: What they are.
            data_dir: Where a server of a name keeps its files; by default in `data`, in its folder.
        """
        self.root = root
        self._kind = kind
        self._data_dir = data_dir or (lambda name: root / name / "data")
        self._known: dict[str, _Known] = {}

    def list(self) -> list[Server]:
        """Return all of them by name, also those that can't be used.

        Raises:
            UnavailableError: The folder can't be read.
        """
        try:
            with os.scandir(self.root) as entries:
                names = sorted(it.name for it in entries if _may_be_one(it))
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise unusable(error, self.root) from error
        found = [server for name in names if (server := self._at(name)) is not None]
        known = self._known  # threads share it; it only ever grows, or gives way to another
        self._known = {name: known[name] for name in names if name in known}
        return found

    def find(self, name: str) -> Server | None:
        """Return the server of a name that may be one, or `None`."""
        try:
            mode = os.lstat(f"{self.root}/{name}").st_mode
        except OSError:
            return None
        return self._at(name) if stat.S_ISDIR(mode) or stat.S_ISLNK(mode) else None

    def _at(self, name: str) -> Server | None:
        """Return what the folder of a name holds; `None` where its name is no server's and nor is what it holds."""
        folder = f"{self.root}/{name}"
        code, metadata = _state(f"{folder}/{CODE}"), _state(f"{folder}/{METADATA}")
        known = self._known.get(name)
        if known is not None and (known.code, known.metadata) == (code, metadata):
            return known.server
        if not is_name(name) and code is metadata is None:
            return None
        server = read_server(name, self._kind, self.root / name, self._data_dir(name))
        self._known[name] = _Known(code, metadata, server)
        return server


def read_server(name: str, kind: Kind, folder: Path, data_dir: Path) -> Server:
    """Read the server in a folder; what is wrong with it is its `problem`."""
    problems: list[str] = []
    if (refusal := _refusal(name, folder)) is not None:
        return Server(plain(name), kind, data_dir, folder, problem=refusal)
    code = _code(folder, problems)
    table = _metadata(folder, problems)
    dependencies, requires_python = _declared(code, problems)
    touched = _touched(folder)
    created_at = read_instant(table.get("created_at")) or touched
    return Server(
        name=name,
        kind=kind,
        data_dir=data_dir,
        folder=folder,
        description=plain(table.get("description")),
        enabled=table.get("enabled", True) is True,
        variables=_variables(code, table, problems),
        per_run=table.get("per_run") is True,
        dependencies=dependencies,
        requires_python=requires_python,
        created_at=created_at,
        updated_at=read_instant(table.get("updated_at")) or touched or created_at,
        fingerprint="" if code is None else hashlib.sha256(code.encode()).hexdigest(),
        problem=problems[0] if problems else None,
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what the file says, nothing where there is none.

    Raises:
        InvalidError: It can't be read.
    """
    content = read_file(folder, METADATA, MAX_METADATA_BYTES)
    if content is None:
        return {}
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{METADATA} is no JSON: {error}") from error
    if not isinstance(table, dict):
        raise InvalidError(f"{METADATA} must hold an object, such as {{'description': '…'}}")
    return table


def read_code(folder: Path) -> str | None:
    """Return the code as it is, `None` where there is none.

    Raises:
        InvalidError: It can't be read.
    """
    content = read_file(folder, CODE, MAX_CODE_BYTES)
    return None if content is None else content.decode("utf-8-sig", "replace")


def _may_be_one(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry is to be looked at: a folder, or a link that somebody takes for one."""
    return entry.name[0] not in "._" and (entry.is_symlink() or entry.is_dir(follow_symlinks=False))


def _state(path: str) -> _State:
    """Return what changes whenever the file does, `None` where there is none."""
    try:
        it = os.lstat(path)
    except OSError:
        return None
    return it.st_mtime_ns, it.st_ctime_ns, it.st_size, it.st_ino, it.st_mode


def _refusal(name: str, folder: Path) -> str | None:
    """Return why the folder is not even read."""
    if folder.is_symlink():
        return "its folder is a symbolic link, and links are not followed; put the folder itself there"
    try:
        check_name(name)
    except InvalidError as error:
        return f"{error}; rename its folder"
    return None


def _code(folder: Path, problems: list[str]) -> str | None:
    try:
        code = read_code(folder)
    except InvalidError as error:
        problems.append(str(error))
        return None
    if code is None:
        problems.append(f"its {CODE} is missing; put it back, or delete the server")
    return code


def _metadata(folder: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return read_metadata(folder)
    except InvalidError as error:
        problems.append(f"{error}; mend the file, or delete it to go by the code alone")
        return {}


def _declared(code: str | None, problems: list[str]) -> tuple[tuple[str, ...], str | None]:
    try:
        return declared(code or "")
    except InvalidError as error:
        problems.append(f"{CODE}, {error}")
        return (), None


def _variables(code: str | None, table: Mapping[str, Any], problems: list[str]) -> tuple[Variable, ...]:
    """Return the variables that the file tells, and where it tells none, those of the code."""
    try:
        if "env_vars" in table:
            return tuple(read_variables(table["env_vars"]))
        return () if code is None else examine(code).variables
    except InvalidError as error:
        where = METADATA if error.field == "env_vars" else CODE
        problems.append(f"{where}, {error}")
        return ()


def _touched(folder: Path) -> datetime | None:
    """Return when the code was last changed."""
    try:
        return datetime.fromtimestamp((folder / CODE).lstat().st_mtime, UTC)
    except OSError:
        return None
