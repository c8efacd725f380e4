"""Words in prompts and outputs, found in SQLite's own index of them (FTS5, https://www.sqlite.org/fts5.html).

What a person types is words and nothing more: each is quoted, so that no operator of FTS5 can be reached. All must
occur, the last one as a beginning. Runs are numbered as they ended; the newest come first.
"""

import re
import sqlite3
import unicodedata
from typing import Final, NamedTuple

MOST_WORDS: Final = 16
MOST_ENDINGS: Final = 50  # words with the same beginning, in the order of the alphabet
LONGEST_WORD: Final = 100
RARE: Final = 1_000  # runs that a word may be in to be looked up in all there ever were
WINDOW: Final = 50_000  # runs that are looked through for words that are all common, four times a page
WINDOWS: Final = 4
LOOKED_AT: Final = 2_000  # runs found by their words of which a page looks at anything else

_HIT: Final = "\ufdd0"  # no character of any text: Unicode, section 23.7
_END: Final = "\ufdd1"
_SNIPPET_WORDS: Final = 24

_WORD: Final = re.compile(r"[^\W_]+")
_NEXT_WORD: Final = "SELECT term FROM run_vocabulary WHERE term >= :word ORDER BY term LIMIT 1"
_COUNT: Final = """
    SELECT count(*) FROM (SELECT 1 FROM run_words WHERE run_words MATCH :word ORDER BY rowid DESC LIMIT :most)
"""
_FIND: Final = """
    SELECT rowid FROM run_words WHERE run_words MATCH :words AND rowid < :before AND rowid >= :floor
    ORDER BY rowid DESC LIMIT :limit
"""
_SNIPPET: Final = """
    SELECT snippet(run_words, -1, :hit, :end, '…', :size) FROM run_words WHERE run_words MATCH :words AND rowid = :n
"""


class Looked(NamedTuple):
    """Numbers of runs that hold the words, newest first; `until` is the number before which nobody looked yet."""

    numbers: list[int]
    until: int | None


def match_of(c: sqlite3.Connection, text: str) -> list[str]:
    """Return what each word of a text is looked up as; nothing where it has no words."""
    words = [word[:LONGEST_WORD] for word in _WORD.findall(text)][:MOST_WORDS]
    if not words:
        return []
    *whole, last = words
    return [_quoted(word) for word in whole] + [_any_of([last, *_endings(c, last)])]


def find(c: sqlite3.Connection, words: list[str], before: int) -> Looked:
    """Read which runs with a number below one hold all the words, as far as it takes no long time."""
    (newest,) = c.execute("SELECT coalesce(max(n), 0) + 1 FROM run_ends").fetchone()
    before = min(before, newest)
    match = " AND ".join(words)
    if len(words) == 1 or any(_is_rare(c, word) for word in words):
        numbers = _numbers(c, match, before, 0, LOOKED_AT)
        return Looked(numbers, numbers[-1] if len(numbers) == LOOKED_AT else None)
    numbers = []
    for _ in range(WINDOWS):
        floor = max(before - WINDOW, 0)
        numbers += _numbers(c, match, before, floor, LOOKED_AT - len(numbers))
        if len(numbers) == LOOKED_AT:
            return Looked(numbers, numbers[-1])
        before = floor
        if not before:
            return Looked(numbers, None)
    return Looked(numbers, before)


def snippet(c: sqlite3.Connection, words: list[str], number: int) -> tuple[tuple[str, bool], ...] | None:
    """Return where a run holds the words: pieces of its text, and whether each is one of the words."""
    values = {"hit": _HIT, "end": _END, "size": _SNIPPET_WORDS, "words": " AND ".join(words), "n": number}
    row = c.execute(_SNIPPET, values).fetchone()
    if row is None:
        return None
    pieces: list[tuple[str, bool]] = []
    for part in str(row[0]).split(_HIT):
        hit, end, rest = part.rpartition(_END)
        pieces += [(hit, True)] if end else []
        pieces += [(rest, False)] if rest else []
    return tuple(pieces)


def _endings(c: sqlite3.Connection, beginning: str) -> list[str]:
    """Return the first words that begin with a text, each found by a step in the index: no list of runs is read."""
    folded = _folded(beginning)
    found: list[str] = []
    word = folded
    while len(found) < MOST_ENDINGS:
        row = c.execute(_NEXT_WORD, {"word": word}).fetchone()
        if row is None or not row["term"].startswith(folded):
            break
        found.append(row["term"])
        word = row["term"] + "\x01"
    return found


def _folded(word: str) -> str:
    """Return a word as the index writes it: small letters without marks."""
    marked = unicodedata.normalize("NFD", word.lower())
    return unicodedata.normalize("NFC", "".join(c for c in marked if not unicodedata.combining(c)))


def _any_of(words: list[str]) -> str:
    return f"({' OR '.join(map(_quoted, dict.fromkeys(words)))})"


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def _is_rare(c: sqlite3.Connection, word: str) -> bool:
    return bool(c.execute(_COUNT, {"word": word, "most": RARE + 1}).fetchone()[0] <= RARE)


def _numbers(c: sqlite3.Connection, words: str, before: int, floor: int, limit: int) -> list[int]:
    values = {"words": words, "before": before, "floor": floor, "limit": limit}
    return [row["rowid"] for row in c.execute(_FIND, values)]
