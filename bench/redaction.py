"""How fast a stream is redacted: 100 credentials, text as runs bring it, in pieces as they come.

The verdict is the rate, in megabytes of UTF-8 a second. Beside it stands what the same pieces took with `str.replace`
of one credential alone, taken in turns with it: the least that a program without this could do, and it finds neither
the other 99 nor a credential that is split over two pieces.
"""

import random
import string
from collections.abc import Callable
from time import perf_counter
from typing import Final

from bench._figures import Effort, Figure, median, rotated, spread
from claude_runner.redaction import Redactor

LEAST: Final = 50.0
CREDENTIALS: Final = 100
MEGABYTES: Final = 8
PIECES: Final = (4096, 65536)  # characters: what a pipe brings at a time, and what a tool's long answer does
SCARCE: Final = 5000  # words to each credential in the text
WORDS: Final = (
    "the server answered with a list of sprint items, each of which has a title;",
    '{"id": 4711, "state": "done", "url": "https://api.example.com/v2/items/4711?page=2"},',
    "def read(path: Path) -> str: return path.read_text()",
    "sk-ant is how a key begins, and ---------- is a line;",
    "für 12,50 € gibt's heute Käsespätzle",
)


def measure(effort: Effort) -> list[Figure]:
    """Measure the rate for each size of pieces."""
    chance = random.Random(4)  # the same text every time
    letters = string.ascii_letters + string.digits + "-_"
    values = [f"sk-{''.join(chance.choices(letters, k=chance.randint(20, 60)))}" for _ in range(CREDENTIALS)]
    text = _text(chance, values)
    redactor = Redactor()
    redactor.set((f"KEY_{number}", value) for number, value in enumerate(values))
    return [_figure(redactor, values, text, size, effort.streams) for size in PIECES]


def _figure(redactor: Redactor, values: list[str], text: str, size: int, rounds: int) -> Figure:
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    ways: dict[str, Callable[[list[str]], str]] = {
        "redacted": lambda given: _redacted(redactor, given),
        "str.replace of one": lambda given: "".join([piece.replace(values[0], "***") for piece in given]),
    }
    megabytes = len(text.encode()) / 1e6
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in rotated(list(ways), number):
            begun = perf_counter()
            given = ways[way](pieces)
            rates[way].append(megabytes / (perf_counter() - begun))
            if way == "redacted" and any(value in given for value in values):
                raise RuntimeError("a credential came through")
    ours, bare = rates.values()
    share = median(one / other for one, other in zip(ours, bare, strict=True))
    return Figure(
        f"redaction of {CREDENTIALS} credentials, pieces of {size // 1024} Ki characters",
        f">= {LEAST:g} MB/s",
        f"{median(ours):.0f} MB/s",
        median(ours) >= LEAST,
        (*(spread(way, rates[way], "MB/s") for way in ways), f"ratio of the two {share:.2f}"),
    )


def _text(chance: random.Random, values: list[str]) -> str:
    count = MEGABYTES * 1_000_000 // (sum(map(len, WORDS)) // len(WORDS))
    every = (
        chance.choice(values) if number % SCARCE == 0 else chance.choice(WORDS) for number in range(count)
    )
    return " ".join(every)


def _redacted(redactor: Redactor, pieces: list[str]) -> str:
    stream = redactor.stream()
    return "".join([*map(stream.feed, pieces), stream.rest()])
