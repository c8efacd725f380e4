"""Fields of a payload: how they are named, and where they are found."""

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from claude_runner.errors import InvalidError

ROOT: Final = "payload"
MAX_FIELD: Final = 500  # characters of a field's name
MAX_STEPS: Final = 50

_UNFIT: Final = re.compile(
    r'[{}|"<>\x00-\x1f\x7f]'
)  # what would end an insertion, or the tag around what it inserts

Path = tuple[str, ...]


class Found(NamedTuple):
    """What there is at a path, which may be null."""

    value: Any


def path_of(field: str) -> Path:
    """Read the name of a field, such as `payload.items.0.name`; `payload` by itself is the whole.

    Raises:
        InvalidError: It is none.
    """
    name = field.strip()
    root, *steps = name.split(".")
    if root != ROOT or len(name) > MAX_FIELD or len(steps) > MAX_STEPS or _UNFIT.search(name):
        raise InvalidError(
            f"{name[:60]!r} is no field of a payload; one is like payload.title, payload.items.0.name, or payload alone"
        )
    if not all(step.strip() for step in steps):
        raise InvalidError(f"{name[:60]!r} has two dots in a row, or one at its end")
    return tuple(steps)


def name_of(path: Path) -> str:
    """Return the name of the field at a path."""
    return ".".join((ROOT, *path))


def find(payload: Any, path: Path) -> Found | None:
    """Return what there is at a path, `None` where there is nothing.

    A key may itself contain dots: the longest that leads to something wins. Items of lists are counted from 0.
    """
    if not path:
        return Found(payload)
    if isinstance(payload, list):
        step = path[0]
        if step.isascii() and step.isdigit() and (place := int(step)) < len(payload):
            return find(payload[place], path[1:])
        return None
    if isinstance(payload, dict):
        for key, rest in _ways(path):
            if key in payload and (found := find(payload[key], rest)) is not None:
                return found
    return None


@lru_cache(maxsize=4096)
def _ways(path: Path) -> tuple[tuple[str, Path], ...]:
    """Return the keys that a path may begin with, the longest first, and what is left of it after each."""
    return tuple((".".join(path[:size]), path[size:]) for size in range(len(path), 0, -1))
