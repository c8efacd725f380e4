"""How much is kept of what tools are given and answer."""

from typing import Any, Final

MAX_TEXT: Final = 20_000  # characters of one text


def shortened(value: Any) -> Any:
    """Return JSON with each text in it cut to `MAX_TEXT` characters."""
    match value:
        case str():
            return value[:MAX_TEXT]
        case dict():
            return {name: shortened(part) for name, part in value.items()}
        case list() | tuple():
            return [shortened(part) for part in value]
        case _:
            return value
