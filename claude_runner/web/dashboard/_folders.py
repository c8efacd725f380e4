"""What is in a job's folder: a list to look at, which follows no link out of it and ends where it gets long."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Final

from claude_runner.web.dashboard._visible import visible

SHOWN: Final = 100
LOOKED_AT: Final = 2_000  # entries in all
DEEPEST: Final = 6
LATEST: Final = 32_503_680_000.0  # seconds: the year 3000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file.

    Attributes:
        path: Within the folder, fit to be shown.
        kind: `file`, `link`, or `other` for a device, a socket or a pipe.
        size: In bytes.
    """

    path: str
    kind: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder, what was changed last first.

    Attributes:
        place: Where it is.
        total: Files that were found, which may be more than are listed.
        is_whole: Whether it was looked through to its end.
    """

    place: Path
    entries: Sequence[Entry]
    total: int
    is_whole: bool


def listing(folder: Path) -> Listing:
    """Return what is in a folder; nothing where it is not there, can't be read, or is a link itself."""
    found: list[Entry] = []
    looked_at = 0
    for entry in _within(str(folder), None, "", 0):
        looked_at += 1
        if looked_at > LOOKED_AT:
            break
        if entry is not None:
            found.append(entry)
    found.sort(key=lambda entry: (-entry.modified_at.timestamp(), entry.path))
    return Listing(folder, found[:SHOWN], len(found), looked_at <= LOOKED_AT)


def _within(name: str, parent: int | None, prefix: str, depth: int) -> Iterator[Entry | None]:
    """Yield each file of a folder and of those in it, and `None` for each folder.

    Folders are opened from the handle of the one that they are in: nobody can put a link in their place meanwhile.
    """
    try:
        handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    except OSError:
        return
    try:
        yield from _entries(handle, prefix, depth)
    finally:
        os.close(handle)


def _entries(handle: int, prefix: str, depth: int) -> Iterator[Entry | None]:
    with os.scandir(handle) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            if not S_ISDIR(status.st_mode):
                yield _entry(prefix + entry.name, status)
                continue
            yield None
            if depth < DEEPEST:
                yield from _within(entry.name, handle, f"{prefix}{entry.name}/", depth + 1)


def _entry(path: str, status: os.stat_result) -> Entry:
    kind = "link" if S_ISLNK(status.st_mode) else "file" if S_ISREG(status.st_mode) else "other"
    seconds = min(max(status.st_mtime, 0.0), LATEST)  # anybody can set it
    return Entry(
        visible(path).replace("\n", "\N{SYMBOL FOR LINE FEED}"),
        kind,
        status.st_size,
        datetime.fromtimestamp(seconds, UTC),
    )
