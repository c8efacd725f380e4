"""Files of servers, read and written without following a link out of their folder."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from claude_runner.errors import ConflictError, InvalidError

STALE_SECONDS: Final = 3600

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make us wait
_LINKED: Final = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)


@contextmanager
def locked(path: Path, name: str) -> Iterator[None]:
    """Hold the lock of a server, which the death of this process frees.

    Args:
        path: The lock file.
        name: The server's.

    Raises:
        ConflictError: Somebody else holds it.
        OSError: The outside is in the way.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{name} is being changed by another call right now; look at it again, then repeat"
            ) from error
        yield
    finally:
        os.close(descriptor)


def read_file(folder: Path, name: str, most: int) -> bytes | None:
    """Return what a file of a folder holds, or `None` where there is none.

    Args:
        folder: The folder; it must not be a link.
        name: The file's name, which must not be one either.
        most: How many bytes it may have.

    Raises:
        InvalidError: It can't be read; the sentence says why.
    """
    try:
        within = os.open(folder, _FOLDER)
        try:
            descriptor = os.open(name, _FILE, dir_fd=within)
        finally:
            os.close(within)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidError(_unreadable(name, error)) from error
    try:
        return _contents(descriptor, name, most)
    except OSError as error:
        raise InvalidError(_unreadable(name, error)) from error
    finally:
        os.close(descriptor)


def write_files(folder: Path, contents: Mapping[str, bytes], at: datetime) -> None:
    """Write files of a folder, each whole or not at all, dated; older ones give way once all of them are on the disk.

    Raises:
        OSError: The outside is in the way.
    """
    parts = [(folder / f".{name}.part", folder / name, content) for name, content in contents.items()]
    try:
        for part, _, content in parts:
            _write(part, content, at)
        for part, path, _ in parts:
            part.replace(path)
    finally:
        for part, _, _ in parts:
            part.unlink(missing_ok=True)


def real_folder(path: Path) -> Path:
    """Return the folder, which is made where there is none.

    Raises:
        ConflictError: A link or a file is in its place.
        OSError: The outside is in the way.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise ConflictError(f"{path} is not a folder of its own; move it away and try again")
    return path


def new_folder(root: Path, name: str, now: datetime) -> Path:
    """Make a folder of our own that nobody lists, for what is not done yet; it is swept once it is stale.

    Raises:
        OSError: The outside is in the way.
    """
    path = root / f".{name}.{int(now.timestamp())}.{secrets.token_hex(4)}"
    path.mkdir(mode=0o700, parents=True)
    return path


def sweep(root: Path, now: datetime) -> None:
    """Remove the folders that `new_folder` made and somebody who was killed has left."""
    with suppress(OSError):
        for path in root.iterdir():
            made_at = _made_at(path.name)
            if made_at is not None and made_at < now.timestamp() - STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a server's folder at once; of a link, the link alone.

    Raises:
        OSError: The outside is in the way.
    """
    if path.is_symlink():
        path.unlink()
        return
    gone = path.with_name(f".{path.name}.0.{secrets.token_hex(4)}")
    path.rename(gone)  # half of a folder would be a broken server
    shutil.rmtree(gone, ignore_errors=True)  # what resists is swept with what is stale


def _write(path: Path, content: bytes, at: datetime) -> None:
    path.unlink(missing_ok=True)  # what somebody who was killed has left
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.utime(path, (at.timestamp(), at.timestamp()))


def _made_at(name: str) -> int | None:
    parts = name.split(".")
    is_ours = len(parts) == 4 and not parts[0] and parts[2].isascii() and parts[2].isdigit()
    return int(parts[2]) if is_ours else None


def _contents(descriptor: int, name: str, most: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidError(f"{name} is not a file")
    if found.st_size > most:
        raise InvalidError(f"{name} has {found.st_size:,} bytes; at most {most:,} are read")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(min(found.st_size, most))  # room for what was asked would be made first


def _unreadable(name: str, error: OSError) -> str:
    if error.errno in _LINKED:
        return f"{name} is a symbolic link, and links are not followed; put the file itself there"
    return f"{name} can't be read: {error.strerror}"
