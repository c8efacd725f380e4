"""Files with a key in them: their owner alone may read them, and they are written whole or not at all.

Whoever writes one keeps others from doing so meanwhile, as by the database's write lock.
"""

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o600

log = logging.getLogger(__name__)


def read_key_file(path: Path, advice: str) -> str | None:
    """Return what a file holds, `None` where there is none; one that others could read is closed to them.

    Args:
        path: The file.
        advice: What its owner should do if others did read it, for the log.

    Raises:
        OSError: It can't be read.
    """
    try:
        with path.open("rb") as file:
            descriptor = file.fileno()
            if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~OWNER_ONLY:
                os.fchmod(descriptor, OWNER_ONLY)
                log.warning("others could read %s; now its owner alone may: if they did, %s", path, advice)
            return file.read().decode("ascii", "replace")
    except FileNotFoundError:
        return None


def write_key_file(path: Path, text: str) -> None:
    """Put a text into a file, whole or not at all; it is on the disk when this returns.

    Raises:
        OSError: It can't be written; what was there before is there still.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # left by a process that was killed
    try:
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
