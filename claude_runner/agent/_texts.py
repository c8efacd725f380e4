"""How the CLI's words become texts that can be stored."""

from collections.abc import Mapping, Sequence
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


def text_of(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """Return the text of a tool's answer; a part of it that is none is told by its type."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(part.get("text", f"[{part.get('type')}]")) for part in content)
