"""Runs as files, written as they are read: CSV for spreadsheets (RFC 4180), JSON for programs."""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from pydantic_core import to_json

from claude_runner.runs import RunRow
from claude_runner.views.run_rows import RunFound, run_found

CSV: Final = "text/csv; charset=utf-8; header=present"

# What a spreadsheet would take for the beginning of a formula (OWASP, "CSV Injection").
_RISKY: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_COLUMNS: Final = tuple(field.name for field in fields(RunFound) if field.name != "snippet")


async def runs_as_csv(batches: AsyncIterator[Sequence[RunRow]], now: datetime) -> AsyncGenerator[bytes, None]:
    """Give a line with the names of the columns, then one for each run; no cell is a formula to a spreadsheet."""
    yield _lines([_COLUMNS])
    async for batch in batches:
        found = (run_found(run, now) for run in batch)
        yield _lines([[_cell(getattr(run, name)) for name in _COLUMNS] for run in found])


async def runs_as_json(
    batches: AsyncIterator[Sequence[RunRow]], now: datetime
) -> AsyncGenerator[bytes, None]:
    """Give one list of all runs."""
    before = b"["
    async for batch in batches:
        yield before + b",\n".join(to_json(run_found(run, now)) for run in batch)
        before = b",\n"
    yield b"[]" if before == b"[" else b"]"


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    match value:
        case bool():
            return "true" if value else "false"
        case str() if value.startswith(_RISKY):
            return f"'{value}"
        case _:
            return value
