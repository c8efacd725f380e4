"""How much memory an idle server takes.

Relative to a bare FastMCP server with one tool, by resident memory (RSS); the memory that is the process's alone (USS)
is shown beneath. Both have answered `initialize` and are left alone until what they load in the background is in.
Processes they started count with them.
"""

import subprocess
import time
from typing import Final

import psutil

from bench._figures import Effort, Figure, median, ratio, rotated, spread
from bench._servers import programs, started

MOST: Final = 1.3
SETTLED_SECONDS: Final = 6.0


def measure(effort: Effort) -> list[Figure]:
    """Weigh idle servers."""
    with programs() as everything:
        weights: dict[str, list[tuple[float, float]]] = {program.name: [] for program in everything}
        for number in range(effort.rests):
            for program in rotated(everything, number):
                with started(program) as server:
                    time.sleep(SETTLED_SECONDS)
                    weights[program.name].append(_weight(server.process))
    (bare_name, bare), *ours = weights.items()
    return [
        ratio(
            f"memory, idle ({name})",
            MOST,
            [rss for rss, _ in values],
            [rss for rss, _ in bare],
            (
                *_lines(name, values),
                *_lines(bare_name, bare),
                f"USS: {median(uss for _, uss in values) / median(uss for _, uss in bare):.2f} x",
            ),
        )
        for name, values in ours
    ]


def _weight(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return the RSS and USS of a process with its descendants, in MiB."""
    top = psutil.Process(process.pid)
    memory = [each.memory_full_info() for each in (top, *top.children(recursive=True))]
    return sum(each.rss for each in memory) / 2**20, sum(each.uss for each in memory) / 2**20


def _lines(name: str, values: list[tuple[float, float]]) -> tuple[str, str]:
    return (
        spread(f"{name}, RSS", [rss for rss, _ in values], "MiB", 1),
        spread(f"{name}, USS", [uss for _, uss in values], "MiB", 1),
    )
