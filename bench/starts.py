"""How long a server started over stdio takes to answer `initialize`.

Relative to a bare FastMCP server with one tool. Real processes over real pipes, from before the spawn until the answer
is read; ours with a database that an earlier start made, once over stdio alone and once as it starts by default, with
the HTTP site on a free port. The three take turns.
"""

from typing import Final

from bench._figures import Effort, Figure, ratio, rotated, spread
from bench._servers import programs, started

MOST: Final = 1.25


def measure(effort: Effort) -> list[Figure]:
    """Time starts."""
    with programs() as everything:
        taken: dict[str, list[float]] = {program.name: [] for program in everything}
        for number in range(effort.starts):
            for program in rotated(everything, number):
                with started(program) as server:
                    taken[program.name].append(server.seconds * 1000)
    (bare_name, bare), *ours = taken.items()
    return [
        ratio(
            f"start -> initialize answered ({name})",
            MOST,
            values,
            bare,
            (spread(name, values, "ms"), spread(bare_name, bare, "ms")),
        )
        for name, values in ours
    ]
