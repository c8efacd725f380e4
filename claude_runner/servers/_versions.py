"""Dynamic servers on the disk: staged, kept, replaced with the earlier version beside it, removed.

A server's folder has `server.py`, `metadata.json`, `data/` for its own files, and `versions/0001.py` and so on, the
earlier versions of its code. What is being made lies in folders that nobody lists, so that nothing half-made shows.
Only who holds the server's lock may change its folder.
"""

import errno
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from claude_runner.db import to_text
from claude_runner.errors import ConflictError, InvalidError, NotFoundError, unusable
from claude_runner.servers._files import new_folder, read_file, real_folder, remove_folder, sweep, write_files
from claude_runner.servers._folders import CODE, METADATA, read_code, read_metadata
from claude_runner.servers._variables import Variable

MAX_KEPT_BYTES: Final = 64 * 2**20  # code that was put there by hand is kept as it is, however large

_VERSION: Final = re.compile(r"(\d{4,6})\.py", re.ASCII)
_TAKEN: Final = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


class Version(NamedTuple):
    """A version of a server's code; the highest number is the current one."""

    number: int
    created_at: datetime
    current: bool


class Workbench:
    """Makes and changes the folders of dynamic servers."""

    def __init__(self, root: Path, staged: Path) -> None:
        """Make a workbench.

        Args:
            root: Where the servers' folders are.
            staged: Where those are that are not kept yet.
        """
        self._root = root
        self._staged = staged

    def stage(
        self, name: str, code: str, description: str | None, variables: Sequence[Variable], now: datetime
    ) -> Path:
        """Write a server, or the next version of one, to a folder of its own; see `Servers.stage`."""
        sweep(self._staged, now)
        sweep(self._root, now)
        table = self._table(name)
        table |= {
            "description": table.get("description", "") if description is None else description,
            "created_at": table.get("created_at", to_text(now)),
            "updated_at": to_text(now),
            "enabled": table.get("enabled", True),
            "env_vars": [variable.as_entry() for variable in variables],
        }
        with _explained(self._staged):
            folder = new_folder(self._staged, name, now)
            try:
                write_files(folder, {CODE: code.encode(), METADATA: _as_json(table)}, now)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return folder

    def discard(self, staged: Path) -> None:
        """Remove a staged folder."""
        if staged.parent != self._staged:
            raise ValueError(f"{staged} is not a staged folder")
        shutil.rmtree(staged, ignore_errors=True)

    def install(self, name: str, source: Path, now: datetime) -> None:
        """Make a server of the two files in a folder, at once.

        Raises:
            ConflictError: The name is taken.
        """
        with _explained(self._root):
            ready = new_folder(self._root, name, now)
            try:
                write_files(ready, _contents(source), now)
                ready.rename(self._root / name)
            except OSError as error:
                if error.errno in _TAKEN:
                    raise ConflictError(f"there is already a server {name!r}; choose another name") from error
                raise
            finally:
                shutil.rmtree(ready, ignore_errors=True)

    def supersede(self, name: str, source: Path, now: datetime) -> None:
        """Replace a server's two files by those in a folder; code that changes is kept as an earlier version.

        Raises:
            NotFoundError: Its folder has gone.
            ConflictError: Its folder is a link.
            InvalidError: Its code can't be read, so that it can't be kept.
        """
        folder = self.folder(name)
        with _explained(folder):
            old = read_file(folder, CODE, MAX_KEPT_BYTES)
            contents = _contents(source)
            if old == contents[CODE]:
                del contents[CODE]  # its date is that of the version
            elif old is not None:
                self._keep(folder, old)
            write_files(folder, contents, now)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a server's code, oldest first."""
        folder = self.folder(name)
        with _explained(folder):
            earlier = [Version(number, _changed(path), current=False) for number, path in _earlier(folder)]
            if (folder / CODE).is_file():
                number = earlier[-1].number + 1 if earlier else 1
                earlier.append(Version(number, _changed(folder / CODE), current=True))
        return earlier

    def code(self, name: str, version: int) -> str:
        """Return the code of one version.

        Raises:
            NotFoundError: There is no such version.
        """
        known = {it.number: it for it in self.versions(name)}
        if version not in known:
            numbers = ", ".join(map(str, known)) or "none"
            raise NotFoundError(f"{name} has no version {version}; it has {numbers}", field="version")
        folder = self.folder(name)
        if known[version].current:
            return read_code(folder) or ""
        content = read_file(folder / "versions", f"{version:04d}.py", MAX_KEPT_BYTES) or b""
        return content.decode("utf-8-sig", "replace")

    def remove(self, name: str) -> None:
        """Remove a server's folder with all that is in it."""
        with _explained(self._root / name):
            remove_folder(self._root / name)

    def folder(self, name: str) -> Path:
        """Return a server's folder.

        Raises:
            NotFoundError: It has gone.
            ConflictError: It is a link.
        """
        folder = self._root / name
        if folder.is_symlink():
            raise ConflictError(f"the folder of {name} is a symbolic link; put the folder itself there")
        if not folder.is_dir():
            raise NotFoundError(f"the folder of {name} has gone; create the server anew", field="name")
        return folder

    def _table(self, name: str) -> dict[str, Any]:
        """Return what the metadata of the server says now; what can't be read is written anew."""
        try:
            return read_metadata(self._root / name)
        except InvalidError:
            return {}

    def _keep(self, folder: Path, code: bytes) -> None:
        """Keep code as an earlier version, unless somebody who was cut off has done it."""
        kept = real_folder(folder / "versions")
        earlier = _earlier(folder)
        number = earlier[-1][0] if earlier else 0
        if earlier and read_file(kept, earlier[-1][1].name, MAX_KEPT_BYTES) == code:
            return
        write_files(kept, {f"{number + 1:04d}.py": code}, _changed(folder / CODE))


def _contents(source: Path) -> dict[str, bytes]:
    """Return a server's two files, the metadata only where there is any."""
    read = {file: read_file(source, file, MAX_KEPT_BYTES) for file in (CODE, METADATA)}
    return {CODE: b""} | {file: content for file, content in read.items() if content is not None}


def _earlier(folder: Path) -> list[tuple[int, Path]]:
    """Return the earlier versions, oldest first."""
    kept = folder / "versions"
    if kept.is_symlink() or not kept.is_dir():
        return []
    found = ((_VERSION.fullmatch(path.name), path) for path in kept.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match is not None)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)


def _as_json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, ensure_ascii=False, indent=2) + "\n").encode("utf-8", "replace")


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unusable(error, place) from error
