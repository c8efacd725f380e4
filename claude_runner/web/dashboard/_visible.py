"""Texts from outside, shown so that nothing in them acts: no sign of a terminal, and none that turns text around."""

import re
from typing import Final

# Controls but tab and line feed (C0, DEL, C1); what turns, hides or joins (Unicode, "Bidirectional" and "Format").
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return a text in which each such sign is named instead: a picture for the oldest ones, else `[U+202E]`."""
    return _UNSEEN.sub(_named, text.replace("\r\n", "\n"))


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode, "Control Pictures"
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"[U+{code:04X}]"
