"""Replaces secrets in whatever leaves the process."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from claude_runner.redaction._patterns import Patterns
from claude_runner.redaction._spellings import encoded, plain, spellings


class Redactor:
    """Knows the secrets of the moment; without any it costs nothing."""

    def __init__(self) -> None:
        self._patterns: Patterns | None = None
        self._labels: dict[str, str] = {}

    def set(self, secrets: Iterable[tuple[str, str]]) -> None:
        """Replace these from now on, and no others.

        Args:
            secrets: Names and values. Of two with one value, the first gives the name.
        """
        labels: dict[str, str] = {}
        replacements: dict[bytes, bytes] = {}
        for name, value in secrets:
            label = f"[credential {name}]"
            for text in plain(value):
                labels.setdefault(text, label)
            for spelling in spellings(value):
                replacements.setdefault(spelling, label.encode())
        self._patterns = Patterns(replacements) if replacements else None
        self._labels = labels

    def text(self, text: str) -> str:
        """Return the text with each secret replaced, from the left and each as long as can be."""
        patterns = self._patterns
        if patterns is None:
            return text
        raw = encoded(text)
        redacted, _ = patterns.replace(raw, ended=True)
        return text if redacted is raw else _decoded(redacted)

    def value(self, value: Any) -> Any:
        """Return JSON with each secret replaced, in keys too; a number becomes a text where it is one as a whole."""
        if self._patterns is None:
            return value
        match value:
            case bool() | None:
                return value
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.value(part) for key, part in value.items()}
            case list() | tuple():
                return [self.value(part) for part in value]
            case _:
                return self._labels.get(str(value), value)

    def stream(self) -> "RedactedStream":
        """Return a stream for a text that comes in pieces."""
        return RedactedStream(lambda: self._patterns)

    def formatter(self, formatter: logging.Formatter) -> logging.Formatter:
        """Return a formatter of log lines like the one given that replaces each secret, in tracebacks too."""
        return _RedactingFormatter(self, formatter)

    @contextmanager
    def guard_log(self) -> Iterator[None]:
        """Replace each secret in what the handlers that there are now log, while the context is open."""
        guarded: list[tuple[logging.Handler, logging.Formatter | None, logging.Formatter]] = []
        for handler in _handlers():
            before = handler.formatter
            mine = self.formatter(before or logging.Formatter())
            handler.setFormatter(mine)
            guarded.append((handler, before, mine))
        try:
            yield
        finally:
            for handler, before, mine in guarded:
                if handler.formatter is mine:  # else somebody put another one there, and keeps it
                    handler.setFormatter(before)


class RedactedStream:
    """A text that comes in pieces and goes out without secrets, also those that are split over pieces.

    It holds back only the end of what came that may be the beginning of a secret. All that it gives, put together, is
    what `Redactor.text` gives for the whole.
    """

    def __init__(self, patterns: Callable[[], Patterns | None]) -> None:
        """Make a stream; it asks for the patterns of the moment at each piece."""
        self._patterns = patterns
        self._held = b""

    def feed(self, chunk: str) -> str:
        """Take a piece and return what may go out."""
        patterns = self._patterns()
        if patterns is None:
            return self.rest() + chunk if self._held else chunk
        raw = self._held + encoded(chunk)
        redacted, covered = patterns.replace(raw, ended=False)
        unchanged = redacted is raw and not self._held
        self._held = raw[covered:]
        return chunk if unchanged else _decoded(redacted)

    def rest(self) -> str:
        """Return what was held back, as nothing comes after it."""
        held, self._held = self._held, b""
        patterns = self._patterns()
        return _decoded(held if patterns is None else patterns.replace(held, ended=True)[0])


class _RedactingFormatter(logging.Formatter):
    def __init__(self, redactor: Redactor, formatter: logging.Formatter) -> None:
        super().__init__()
        self._redactor = redactor
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override]  # typing.override is of 3.12
        return self._redactor.text(self._formatter.format(record))


def _handlers() -> list[logging.Handler]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    found = [
        handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers
    ]
    return list(dict.fromkeys(found))


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
