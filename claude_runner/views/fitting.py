"""How a sentence says what a value must be, read from its JSON schema, and shows the one that was given."""

import json
from collections.abc import Mapping
from typing import Any, Final

SHOWN: Final = 60  # characters of a value that a sentence repeats

_WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}


def fitting(part: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Return in words what a part of a JSON schema takes; `null` is only ever another way to leave it out."""
    if "$ref" in part:
        return fitting(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    if "anyOf" in part:
        return [words for choice in part["anyOf"] for words in fitting(choice, schema)]
    if "enum" in part:
        return list(part["enum"])
    if part["type"] == "null":
        return []
    if part["type"] == "array" and part["items"] == {"type": "string"}:
        return ["a list of texts"]
    return [_WORDS[part["type"]] + _bounds(part)]


def shown(value: object) -> str:
    """Return the beginning of a value, as JSON in the letters in which it was typed."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def joined(words: list[str], conjunction: str) -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def _bounds(part: Mapping[str, Any]) -> str:
    low, high = part.get("minimum"), part.get("maximum")
    if low is None:
        return ""
    return f" from {low} on" if high is None else f" from {low} to {high}"
