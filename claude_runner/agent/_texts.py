"""How the CLI's words become texts that can be stored."""

from typing import Any


def readable(text: str) -> str:
    """Return a text with every lone surrogate replaced, which the CLI passes on and UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode("utf-8")


def storable(value: Any) -> Any:
    """Return what JSON can hold with every lone surrogate replaced: the CLI passes half an emoji on, UTF-8 has none."""
    match value:
        case str():
            return readable(value)
        case list() | tuple():
            return [storable(item) for item in value]
        case dict():
            return {storable(name): storable(item) for name, item in value.items()}
        case _:
            return value
