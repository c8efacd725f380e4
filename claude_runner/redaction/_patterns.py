"""Finds many patterns in bytes at once, from the left and each as long as can be, also where the bytes come in pieces.

One automaton (Aho and Corasick 1975) looks for the first bytes of each pattern alone, so it stays small however long
the patterns are; the rest is compared where they turn up, which is seldom.
"""

from collections.abc import Iterator, Mapping
from typing import Final

ANCHOR: Final = 16  # bytes that the automaton looks for


class Patterns:
    """What is replaced, and by what."""

    def __init__(self, replacements: Mapping[bytes, bytes]) -> None:
        """Prepare to find the patterns, of which there is at least one and none is empty."""
        from ahocorasick_rs import BytesAhoCorasick, Implementation  # noqa: PLC0415 - only where there are secrets

        groups: dict[bytes, list[bytes]] = {}
        for pattern in sorted(replacements, key=len, reverse=True):
            groups.setdefault(pattern[:ANCHOR], []).append(pattern)
        self._replacements = replacements
        self._groups = list(groups.values())
        self._automaton = BytesAhoCorasick(list(groups), implementation=Implementation.DFA)
        self._beginnings = frozenset(anchor[:size] for anchor in groups for size in range(1, len(anchor)))

    def replace(self, text: bytes, *, ended: bool) -> tuple[bytes, int]:
        """Return the text with every pattern replaced, and how many bytes of it that covers.

        Args:
            text: What is looked through; where nothing is found, this very object is returned.
            ended: Whether nothing comes after it. Where something may, the shortest end of the text on which what
                comes has a bearing is not covered.
        """
        pieces: list[bytes] = []
        done, size = 0, len(text)
        for start, patterns in self._candidates(text, ended=ended):
            if start < done:  # inside of what was replaced
                continue
            if not ended and _may_grow(text, start, patterns):
                size = start
                break
            found = next((pattern for pattern in patterns if text.startswith(pattern, start)), None)
            if found is not None:
                pieces += (text[done:start], self._replacements[found])
                done = start + len(found)
        if not pieces and size == len(text):
            return text, size
        return b"".join((*pieces, text[done:size])), size

    def _candidates(self, text: bytes, *, ended: bool) -> Iterator[tuple[int, list[bytes]]]:
        """Yield in order where patterns may begin and which, longest first; none where too little is there to tell."""
        found: dict[int, list[bytes]] = {}
        for group, start, _ in self._automaton.find_matches_as_indexes(text, overlapping=True):
            # Of two at one place, the longer anchor is found later, and its patterns are the longer ones.
            found[start] = self._groups[group] + found.get(start, [])
        if not ended:
            for size in range(1, min(ANCHOR, len(text) + 1)):
                if text[-size:] in self._beginnings:
                    found[len(text) - size] = []
        for start in sorted(found):
            yield start, found[start]


def _may_grow(text: bytes, start: int, patterns: list[bytes]) -> bool:
    """Tell whether what comes after the text may make a pattern of its end, or a longer one than is there."""
    left = len(text) - start
    return not patterns or any(len(it) > left and it.startswith(text[start:]) for it in patterns)
