"""Texts that others wrote, made fit to be looked at: without what only a terminal understands, and bounded."""

import re
from typing import Final

_ESCAPES: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])"
)  # ECMA-48
_UNSHOWN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Letters that turn the order of others around, so that code or a sentence reads otherwise than it is (CVE-2021-42574).
_TURNING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")


def plain_text(text: str) -> str:
    """Return a text as a page can show it: colours of a terminal are left out, control characters are marked."""
    plain = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    marked = _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", plain)
    return _TURNING.sub(
        lambda found: (
            f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{ord(found[0]):04X}\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
        ),
        marked,
    )


def cut(text: str, most: int) -> tuple[str, int]:
    """Return the beginning of a text and how many characters were left out."""
    return plain_text(text[:most]), max(len(text) - most, 0)
