"""What a tool server says on standard error: kept in a file of its own, without the values of credentials."""

import asyncio
from collections import deque
from pathlib import Path
from typing import Final

from claude_runner.pool._host import LAST_WORDS
from claude_runner.redaction import Redactor

MAX_FILE: Final = 256 * 2**10  # bytes, after which a file gives way to the next; two are kept
MAX_LINE: Final = 2000  # characters of a line that are kept
MAX_WORDS: Final = 600  # characters of last words
_LAST_LINES: Final = 6


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
        """Read to the end; a piece without a line's end is a line when it has grown too long."""
        self._last.clear()
        stream = self._redactor.stream()
        rest = ""
        while piece := await reader.read(65536):
            *lines, rest = (rest + stream.feed(piece.decode("utf-8", "replace"))).split("\n")
            await self._note(lines)
            rest = rest[-MAX_LINE:]
        await self._note((rest + stream.rest()).split("\n"))

    def last_words(self) -> str:
        """Return what was said last: the reason in words where there is one, else the last lines."""
        for line in reversed(self._last):
            if line.startswith(LAST_WORDS):
                return line.removeprefix(LAST_WORDS)[:MAX_WORDS]
        return " / ".join(self._last)[-MAX_WORDS:]

    async def _note(self, lines: list[str]) -> None:
        said = [line[:MAX_LINE].rstrip() for line in lines if line.strip()]
        if said:
            self._last.extend(said)
            await asyncio.to_thread(append, self._path, "".join(f"{line}\n" for line in said))


def append(path: Path, text: str) -> None:
    """Write text at a file's end; a full file becomes the one before it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if path.stat().st_size > MAX_FILE:
        path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, of the file before it too."""
    said: list[str] = []
    for file in (path.with_suffix(".log.1"), path):
        if file.exists():
            said += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return said[-lines:]
