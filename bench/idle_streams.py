"""How much memory a client of HTTP+SSE takes that is there and says nothing.

Absolute: what the real server grows by (USS) from some clients to many, for each of them. Each has shown a token,
opened its stream and introduced itself. They come in two crowds: the first brings in what is needed once, the second is
weighed.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

import psutil

from bench._figures import Effort, Figure, median, spread
from tests.served import Served, served
from tests.wire import Stream

MOST_KIB: Final = 100.0
FIRST: Final = 50
WEIGHED: Final = 500
AT_ONCE: Final = 25
SETTLED_SECONDS: Final = 4.0  # after its start it loads what it needs later


def measure(effort: Effort) -> list[Figure]:
    """Weigh clients."""
    each = [asyncio.run(_weigh()) for _ in range(effort.rests)]
    raw = (spread(f"growth by {WEIGHED} clients, each", each, "KiB", 1),)
    measured = median(each)
    return [
        Figure(
            "memory of an idle SSE connection",
            f"<= {MOST_KIB:g} KiB",
            f"{measured:.0f} KiB",
            measured <= MOST_KIB,
            raw,
        )
    ]


async def _weigh() -> float:
    with tempfile.TemporaryDirectory() as home, served(Path(home)) as site:
        await asyncio.sleep(SETTLED_SECONDS)
        streams = await _opened(site, FIRST)
        before = _memory(site)
        streams += await _opened(site, WEIGHED)
        grown = _memory(site) - before
        for stream in streams:
            stream.close()
        return grown / WEIGHED / 1024


async def _opened(site: Served, count: int) -> list[Stream]:
    streams: list[Stream] = []
    while len(streams) < count:
        one_crowd = (Stream.open(site.port, site.token) for _ in range(AT_ONCE))
        streams += await asyncio.gather(*one_crowd)
    return streams


def _memory(site: Served) -> float:
    return float(psutil.Process(site.process.pid).memory_full_info().uss)
