"""Entry point: `python -m bench [NAME …]` measures and prints a table.

Exit codes: 0 measured, whatever the verdicts are; 1 something broke; 2 wrong usage.
"""

import argparse
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields
from types import MappingProxyType
from typing import Final

from bench import (
    calls,
    catalogue,
    crowd,
    first_request,
    going,
    hands,
    idle_streams,
    invocations,
    kills,
    memory,
    open_pages,
    pages,
    per_run,
    quiet,
    redaction,
    restarts,
    slots,
    starts,
    stops,
    succession,
    usage,
    visible,
    volley,
    webhook_posts,
    writes,
)
from bench._figures import Effort, Figure, table

MEASUREMENTS: Final = MappingProxyType[str, Callable[[Effort], list[Figure]]](
    {
        "catalogue": catalogue.measure,
        "slots": slots.measure,
        "first_request": first_request.measure,
        "starts": starts.measure,
        "memory": memory.measure,
        "writes": writes.measure,
        "crowd": crowd.measure,
        "quiet": quiet.measure,
        "volley": volley.measure,
        "going": going.measure,
        "kills": kills.measure,
        "succession": succession.measure,
        "invocations": invocations.measure,
        "hands": hands.measure,
        "redaction": redaction.measure,
        "webhook_posts": webhook_posts.measure,
        "calls": calls.measure,
        "idle_streams": idle_streams.measure,
        "stops": stops.measure,
        "open_pages": open_pages.measure,
        "usage": usage.measure,
        "pages": pages.measure,
        "visible": visible.measure,
        "per_run": per_run.measure,
        "restarts": restarts.measure,
    }
)


def main() -> int:
    """Measure what is asked for, print the table and return the exit code."""
    names, effort = _arguments()
    figures: list[Figure] = []
    broken = False
    for name in names:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            figures += MEASUREMENTS[name](effort)
        except Exception:  # noqa: BLE001 - the other figures are wanted all the same
            traceback.print_exc()
            figures.append(Figure(name, "", "broke", met=None))
            broken = True
    print(table(figures))
    return int(broken)


def _arguments() -> tuple[list[str], Effort]:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures what the program promises."
    )
    parser.add_argument("name", nargs="*", help=f"what to measure: {', '.join(MEASUREMENTS)}; all by default")
    defaults = Effort()
    for field in fields(Effort):
        parser.add_argument(
            f"--{field.name}",
            type=_count,
            default=getattr(defaults, field.name),
            metavar="N",
            help="default: %(default)s",
        )
    given = vars(parser.parse_args())
    names: list[str] = given.pop("name")
    if unknown := sorted(set(names) - set(MEASUREMENTS)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    return names or list(MEASUREMENTS), Effort(**given)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
