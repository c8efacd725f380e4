"""What open pages cost an idle server.

Absolute: the processor time that the real server takes while so many dashboards are open and nothing happens, as a
share of the time that passes; beside it what it takes with none.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Final

import psutil

from bench._figures import Effort, Figure, median, spread
from tests.served import Served, served

MOST_PERCENT: Final = 2.0
PAGES: Final = 50
SECONDS: Final = 20.0
SETTLED_SECONDS: Final = 5.0  # after its start it loads what it needs later


def measure(effort: Effort) -> list[Figure]:
    """Watch an idle server with pages open, and with none."""
    with_pages, without = [], []
    for _ in range(effort.rests):
        alone, watched = asyncio.run(_watch())
        without.append(alone)
        with_pages.append(watched)
    measured = median(with_pages)
    return [
        Figure(
            f"{PAGES} open dashboards on an idle server",
            f"<= {MOST_PERCENT:g} % of a core",
            f"{measured:.2f} %",
            measured <= MOST_PERCENT,
            (spread("with them", with_pages, "%", 2), spread("with none", without, "%", 2)),
        )
    ]


async def _watch() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as home, served(Path(home)) as site:
        await asyncio.sleep(SETTLED_SECONDS)
        alone = await _share(site)
        streams = await asyncio.gather(*(_opened(site) for _ in range(PAGES)))
        watched = await _share(site)
        for writer in streams:
            writer.close()
        return alone, watched


async def _opened(site: Served) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(
        f"GET /live HTTP/1.1\r\nHost: localhost:{site.port}\r\nAccept: text/event-stream\r\n\r\n".encode()
    )
    await reader.readuntil(b"event: hello")
    return writer


async def _share(site: Served) -> float:
    process = psutil.Process(site.process.pid)
    loop = asyncio.get_running_loop()
    began, used = loop.time(), sum(process.cpu_times()[:2])
    await asyncio.sleep(SECONDS)
    return 100 * (sum(process.cpu_times()[:2]) - used) / (loop.time() - began)
