"""Texts of tools and runs: how much of them is kept, and how much a list shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

MAX_TEXT: Final = 20_000  # characters of one text that are kept
HEAD: Final = 500  # characters of a text that a list shows


def head(text: str, most: int = HEAD) -> str:
    """Return the beginning of a text, with a sign where it was cut."""
    return text if len(text) <= most else text[:most] + "…"


def kept(text: str) -> str:
    """Return what is kept of a text."""
    return text[:MAX_TEXT]


def shortened(value: Any, cut: Callable[[str], str] = kept) -> Any:
    """Return JSON with each text in it cut."""
    match value:
        case str():
            return cut(value)
        case dict():
            return {name: shortened(part, cut) for name, part in value.items()}
        case list() | tuple():
            return [shortened(part, cut) for part in value]
        case _:
            return value


def text_of(content: str | Sequence[Mapping[str, Any]] | None) -> str:
    """Return the text of a tool's answer (MCP, CallToolResult); a block of it that has none is told by its type."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(block.get("text", f"[{block.get('type')}]")) for block in content)
