"""Words in prompts and outputs, found in SQLite's own index of them (FTS5, https://www.sqlite.org/fts5.html).

What a person types is words and nothing more: each is quoted, so that no operator of FTS5 can be reached. All must
occur, the last one as a beginning. Runs are numbered as they ended; the newest come first. Their words are taken in by
whoever looks after the index, a moment after they end.
"""

import json
import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_WORDS: Final = 16
MOST_ENDINGS: Final = 24  # words with the same beginning, in the order of the alphabet
SHORTEST_BEGINNING: Final = 2
LONGEST_WORD: Final = 100
SAMPLE: Final = 1_000  # of the latest runs, by which it is guessed how common a word is
TOO_COMMON: Final = 300  # of those; to step past such a word would take too long
RARE: Final = 500  # runs that a word may be in to be looked up in all there ever were
WINDOW: Final = 50_000  # runs that are looked through for words that are all common, four times a page
WINDOWS: Final = 4
LOOKED_AT: Final = 2_000  # runs found by their words of which a page looks at anything else

TAKEN: Final = 50  # runs whose words are taken in at a time,
TAKEN_CHARACTERS: Final = 300_000  # or so long are their texts together, but for the last
MERGED: Final = 32  # pages of the index that are merged at a time

_HIT: Final = "\ufdd0"  # no character of any text: Unicode, section 23.7
_END: Final = "\ufdd1"
_SNIPPET_WORDS: Final = 24

_WORD: Final = re.compile(r"[^\W_]+")
_NEXT_WORD: Final = "SELECT term FROM run_vocabulary WHERE term >= :word ORDER BY term LIMIT 1"
_COUNT: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM run_words WHERE run_words MATCH :word AND rowid >= :floor ORDER BY rowid DESC LIMIT :most
    )
"""
_FIND: Final = """
    SELECT rowid FROM run_words WHERE run_words MATCH :words AND rowid < :before AND rowid >= :floor
    ORDER BY rowid DESC LIMIT :limit
"""
_IS_BEHIND: Final = """
    SELECT EXISTS (SELECT 1 FROM run_ends WHERE n > (SELECT until FROM run_words_taken))
        OR EXISTS (SELECT 1 FROM run_words_stale)
"""
_STALE: Final = "SELECT n FROM run_words_stale ORDER BY n LIMIT :limit"
# In this order, for each run whose texts somebody has changed.
_TAKE_ANEW: Final = (
    """INSERT INTO run_words (run_words, rowid, prompt, output)
        SELECT 'delete', n, prompt, output FROM run_words_stale WHERE n = :n""",
    "INSERT INTO run_words (rowid, prompt, output) SELECT n, prompt, output FROM run_texts WHERE n = :n",
    "DELETE FROM run_words_stale WHERE n = :n",
)
_TO_TAKE: Final = """
    SELECT n, length(prompt) + length(output) AS size FROM run_texts WHERE n > (SELECT until FROM run_words_taken)
    ORDER BY n LIMIT :limit
"""
_TAKE: Final = """
    INSERT INTO run_words (rowid, prompt, output)
        SELECT n, prompt, output FROM run_texts WHERE n > (SELECT until FROM run_words_taken) AND n <= :until
"""
_MERGE: Final = "INSERT INTO run_words (run_words, rank) VALUES ('merge', :pages)"
# In one go, as to look words up again for each run takes longer than all else; the + keeps the index out of it.
_SNIPPETS: Final = """
    SELECT rowid, snippet(run_words, -1, :hit, :end, '…', :size) FROM run_words
    WHERE run_words MATCH :words AND rowid <= :newest AND rowid >= :oldest
        AND +rowid IN (SELECT value FROM json_each(:numbers))
    ORDER BY rowid DESC
"""

Snippet = tuple[tuple[str, bool], ...]


class Looked(NamedTuple):
    """Numbers of runs that hold the words, newest first; `until` is the number before which nobody looked yet."""

    numbers: list[int]
    until: int | None


def is_behind(c: sqlite3.Connection) -> bool:
    """Tell whether runs have ended whose words have not been taken in."""
    return bool(c.execute(_IS_BEHIND).fetchone()[0])


def take_some(c: sqlite3.Connection) -> bool:
    """Take in the words of some runs that have ended, oldest first; tells whether there are more."""
    for stale in c.execute(_STALE, {"limit": TAKEN}).fetchall():
        for statement in _TAKE_ANEW:
            c.execute(statement, {"n": stale["n"]})
    rows = c.execute(_TO_TAKE, {"limit": TAKEN + 1}).fetchall()
    until, size = None, 0
    for row in rows[:TAKEN]:
        until, size = row["n"], size + row["size"]
        if size > TAKEN_CHARACTERS:
            break
    if until is None:
        return False
    c.execute(_TAKE, {"until": until})
    c.execute("UPDATE run_words_taken SET until = :until", {"until": until})
    return bool(rows[-1]["n"] > until)


def merge_some(c: sqlite3.Connection) -> bool:
    """Merge a part of the index, which grows by pieces; tells whether there was anything to merge."""
    before = c.total_changes
    c.execute(_MERGE, {"pages": MERGED})
    return c.total_changes - before > 1  # by the manual of FTS5, section 6.8


def match_of(c: sqlite3.Connection, text: str) -> list[str]:
    """Return what each word of a text is looked up as; nothing where it has no words."""
    words = [word[:LONGEST_WORD] for word in _WORD.findall(text)][:MOST_WORDS]
    if not words:
        return []
    *whole, last = words
    return [_quoted(word) for word in whole] + [_any_of([last, *_endings(c, last)])]


def find(c: sqlite3.Connection, words: list[str], before: int) -> Looked:
    """Read which runs with a number below one hold all the words, as far as it takes no long time."""
    newest = _newest(c) + 1
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


def snippets(c: sqlite3.Connection, words: list[str], numbers: Sequence[int]) -> dict[int, Snippet]:
    """Return where runs hold the words: pieces of their texts, and whether each is one of the words."""
    if not numbers:
        return {}
    values = {"hit": _HIT, "end": _END, "size": _SNIPPET_WORDS, "words": " AND ".join(words)}
    values |= {"newest": max(numbers), "oldest": min(numbers), "numbers": json.dumps(numbers)}
    return {number: _pieces(text) for number, text in c.execute(_SNIPPETS, values)}


def _pieces(marked: str) -> Snippet:
    pieces: list[tuple[str, bool]] = []
    for part in marked.split(_HIT):
        hit, end, rest = part.rpartition(_END)
        pieces += [(hit, True)] if end else []
        pieces += [(rest, False)] if rest else []
    return tuple(pieces)


def _endings(c: sqlite3.Connection, beginning: str) -> list[str]:
    """Return the first words that begin with a text, each found by a step in the index.

    To step past a word takes the longer the more runs it is in; after one that is in very many there is no other.
    """
    folded = _folded(beginning)
    floor = _newest(c) - SAMPLE
    found: list[str] = []
    if len(folded) < SHORTEST_BEGINNING:
        return found
    word, passed = folded, 0
    while len(found) < MOST_ENDINGS and passed < TOO_COMMON:
        row = c.execute(_NEXT_WORD, {"word": word}).fetchone()
        if row is None or not row["term"].startswith(folded):
            break
        found.append(row["term"])
        passed += _count(c, _quoted(row["term"]), floor, TOO_COMMON)
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
    return _count(c, word, 0, RARE + 1) <= RARE


def _count(c: sqlite3.Connection, word: str, floor: int, most: int) -> int:
    """Count the runs from a number on that hold a word, up to so many."""
    return int(c.execute(_COUNT, {"word": word, "floor": floor, "most": most}).fetchone()[0])


def _newest(c: sqlite3.Connection) -> int:
    return int(c.execute("SELECT coalesce(max(n), 0) FROM run_ends").fetchone()[0])


def _numbers(c: sqlite3.Connection, words: str, before: int, floor: int, limit: int) -> list[int]:
    values = {"words": words, "before": before, "floor": floor, "limit": limit}
    return [row["rowid"] for row in c.execute(_FIND, values)]
