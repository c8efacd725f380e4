"""Cursors: where in a list a page ends, so that it stays right while rows are added."""

import base64
import json
from contextlib import suppress

from claude_runner.errors import InvalidError


def cursor_of(at: str, row_id: str) -> str:
    """Return the cursor that stands for the last row seen."""
    return base64.urlsafe_b64encode(json.dumps([at, row_id]).encode()).decode()


def place_of(cursor: str, tool: str) -> tuple[str, str]:
    """Return the last row seen: its instant and its id.

    Raises:
        InvalidError: The cursor is not one that the tool gave.
    """
    with suppress(ValueError, TypeError, RecursionError):
        at, row_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if isinstance(at, str) and isinstance(row_id, str):
            return at, row_id
    raise InvalidError(f"this cursor was not given by {tool}; start without one", field="cursor")
