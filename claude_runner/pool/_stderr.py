"""What a tool server says on standard error: kept in a file of its own, without the values of credentials."""

import asyncio
import codecs
import logging
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from claude_runner.errors import unusable
from claude_runner.pool._host import LAST_WORDS
from claude_runner.redaction import Redactor

MAX_FILE: Final = 256 * 2**10  # bytes, after which a file gives way to the next; two are kept
MAX_LINE: Final = 2000  # characters of a line that are kept
MAX_WORDS: Final = 600  # characters of last words
_LAST_LINES: Final = 6

log = logging.getLogger(__name__)


class StderrLog:
    """The standard error of one server, over all its processes."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        """Make a log.

        Args:
            path: The file; it is made, for its owner alone, when there is something to write.
            redactor: Takes out what nobody may read.
        """
        self._path = path
        self._redactor = redactor
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    async def drain(self, reader: asyncio.StreamReader) -> None:
        """Read to the end; of a line that is too long its beginning is kept."""
        self._last.clear()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stream = self._redactor.stream()
        rest = ""
        while piece := await reader.read(65536):
            *lines, rest = (rest + stream.feed(decoder.decode(piece))).split("\n")
            await self._note(lines)
            rest = rest[:MAX_LINE]
        await self._note((rest + stream.feed(decoder.decode(b"", final=True)) + stream.rest()).split("\n"))

    def last_words(self) -> str:
        """Return what was said last: the reason in words where there is one, else the last lines."""
        for line in reversed(self._last):
            if line.startswith(LAST_WORDS):
                return line.removeprefix(LAST_WORDS)[:MAX_WORDS]
        return " / ".join(self._last)[-MAX_WORDS:]

    async def _note(self, lines: list[str]) -> None:
        said = [line[:MAX_LINE].rstrip() for line in lines if line.strip()]
        if not said:
            return
        self._last.extend(said)
        try:
            await asyncio.to_thread(append, self._path, "".join(f"{line}\n" for line in said))
        except OSError as error:  # it must be read on, or the server could say no more and would stand still
            log.warning("what a tool server says is lost: %s", unusable(error, self._path))


def append(path: Path, text: str) -> None:
    """Write text at a file's end; a full file becomes the one before it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if path.stat().st_size > MAX_FILE:
        path.replace(_before(path))
        path.touch(mode=0o600)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, of the file before it too.

    Raises:
        OSError: It can't be read.
    """
    said: list[str] = []
    for file in (_before(path), path):
        with suppress(FileNotFoundError):
            said += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return said[-lines:]


def remove(path: Path) -> None:
    """Delete a log, and the file before it.

    Raises:
        OSError: It can't be deleted.
    """
    for file in (path, _before(path)):
        file.unlink(missing_ok=True)


def _before(path: Path) -> Path:
    return path.with_suffix(".log.1")
