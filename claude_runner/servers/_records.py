"""What a server is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from claude_runner.db import from_text
from claude_runner.servers._variables import Variable


class Kind(StrEnum):
    """Where a server comes from."""

    FIXED = "fixed"  # shipped with the program
    DYNAMIC = "dynamic"  # made here, by people or by Claude
    EXTERNAL = "external"  # somebody else's: a command or a URL


@dataclass(frozen=True, slots=True)
class Server:
    """A server as its files or the settings describe it.

    Attributes:
        variables: What it reads, in the order it is told or found.
        folder: Where its server.py is; `None` for an external server.
        data_dir: The folder for files of its own; it need not exist yet.
        per_run: Whether each run gets a process of its own.
        command: The program of an external server, with its arguments.
        url: Where an external server is reached.
        headers: What is sent to the URL; a value names credentials as `${NAME}`.
        dependencies: What its code declares to need (PEP 723).
        requires_python: Which Python its code declares to need.
        fingerprint: Changes whenever what would be started changes; empty where nothing can be.
        problem: A sentence about why it can't be started, or `None`.
    """

    name: str
    kind: Kind
    data_dir: Path
    folder: Path | None = None
    description: str = ""
    enabled: bool = False
    variables: tuple[Variable, ...] = ()
    per_run: bool = False
    command: tuple[str, ...] | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dependencies: tuple[str, ...] = ()
    requires_python: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    fingerprint: str = ""
    problem: str | None = None

    @property
    def code_path(self) -> Path | None:
        """Return where its code is, if it is one of files."""
        return None if self.folder is None else self.folder / "server.py"

    def missing(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the variables that it requires and that have neither a value nor a default.

        Args:
            values: The configured ones, by name.
        """
        given = {it.name: it.default for it in self.variables if it.default is not None}
        given |= {name: value for name, value in values.items() if value}
        return tuple(
            it.name for it in self.variables if it.required and it.name not in given and it.applies(given)
        )


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """A tool that a server lists.

    Attributes:
        input_schema: The JSON Schema of its arguments.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]


def read_instant(value: object) -> datetime | None:
    """Return the instant that a file or the settings name, `None` where they name none."""
    try:
        return from_text(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
