"""Lists of texts as callers give them, and as rows keep them."""

import json
from collections.abc import Sequence

from claude_runner.errors import InvalidError


def read_list(value: Sequence[str] | str | None, field: str, most: int, example: str) -> list[str]:
    """Read a list of texts: a list, a text that holds one as JSON, or nothing.

    Args:
        value: What was given.
        field: What it is called, as a sentence says it.
        most: How many entries it may have.
        example: Such a list.

    Raises:
        InvalidError: It is neither, or too long.
    """
    if value is None or value == "":
        return []
    items: object = value
    if isinstance(value, str):
        try:
            items = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise no_list(f"{field} is a text that is not JSON ({error})", field, example) from error
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise no_list(f"{field} must be a list of texts", field, example)
    if len(items) > most:
        raise no_list(f"{field} has {len(items)} entries; at most {most} can be kept", field, example)
    return list(items)


def no_list(what: str, field: str, example: str) -> InvalidError:
    """Return the failure of a value that is no such list, with an example of one that is."""
    return InvalidError(f"{what}; give a list such as {example}", field=field)
