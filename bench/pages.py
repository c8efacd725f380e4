"""How long pages take the server, with a long history and a longer one, and how much of them is sent.

The real server, on a home that was filled beforehand; each page is asked for many times by one client that reads the
whole of it, compressed, over a connection that stays. Beside each stands `/health`, asked in the same turns: what any
answer costs. The first visit is a page with everything it refers to; a live update is a part of it that an open page
asks for again.
"""

import asyncio
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urljoin

from bench._figures import Effort, Figure, median, percentile, spread
from claude_runner.config import SystemClock
from tests.history import fill
from tests.served import Served, served

MOST_MS: Final = {100_000: 30.0, 1_000_000: 60.0}
JOBS: Final = 500
FIRST_VISIT_BYTES: Final = 40_000
UPDATE_BYTES: Final = 5_000
WARM: Final = 3  # requests of each page that are not counted
SETTLED_SECONDS: Final = 4.0  # after its start the server loads what it needs later


class Answer(NamedTuple):
    """What came, as it was sent."""

    status: int
    head: bytes
    body: bytes
    seconds: float


class Visitor:
    """A client with one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        self._reader = reader
        self._writer = writer
        self._port = port

    @classmethod
    async def arrive(cls, port: int) -> "Visitor":
        """Open the connection."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24), port)

    async def get(self, path: str, *, live: str = "", packed: bool = True) -> Answer:
        """Ask for a page, or a live part of it, and return what comes."""
        coding = "gzip" if packed else "identity"
        parts = f"X-Live: {live}\r\n" if live else ""
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{self._port}\r\nAccept: text/html\r\n"
            f"Accept-Encoding: {coding}\r\n{parts}\r\n"
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._writer.write(head.encode())
        answered = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answered)
        assert length is not None, answered
        body = await self._reader.readexactly(int(length[1]))
        return Answer(int(answered[9:12]), answered, body, loop.time() - began)

    def leave(self) -> None:
        """Close the connection."""
        self._writer.close()


def measure(effort: Effort) -> list[Figure]:
    """Visit every page of both homes."""
    figures: list[Figure] = []
    for runs, most in MOST_MS.items():
        with tempfile.TemporaryDirectory() as home:
            paths = _filled(Path(home), runs)
            with served(Path(home)) as site:
                each, health, sizes = asyncio.run(_visited(site, paths, effort.pages))
            figures.append(_time(runs, most, each, health))
            if runs == min(MOST_MS):
                figures += sizes
    return figures


def _filled(home: Path, runs: int) -> list[str]:
    """Fill a home and return the pages to visit."""
    now = SystemClock().now()
    path = home / "jobs.db"
    history = fill(path, runs, JOBS, until=now, calls=10_000)
    with closing(sqlite3.connect(path)) as connection:
        (run,) = connection.execute("SELECT id FROM runs ORDER BY created_at DESC LIMIT 1").fetchone()
    today = f"{now:%Y-%m-%d}"
    job = history.jobs[0]
    return [
        "/", "/jobs", "/jobs?sort=cost", "/jobs?q=report", f"/jobs/{job}", "/jobs/new",
        "/runs", "/runs?state=error", "/runs?reason=timeout", f"/runs?job={job}", "/runs?trigger=manual",
        "/runs?cost=0.5", "/runs?q=report", f"/runs?q={history.rare}", "/runs?q=nowhere-to-be-found",
        f"/runs?q=report&job={job}", f"/runs/{run}", "/calendar", f"/calendar/{today}", "/webhooks",
        "/webhooks/new", "/servers", "/servers/cat-facts", "/calls", "/calls?verdict=error", "/spending",
        "/spending?by=model", "/spending?by=day", "/runs?model=claude-sonnet-5", "/notifications", "/settings",
        "/quick", "/keys",
    ]  # fmt: skip


async def _visited(
    site: Served, paths: list[str], times: int
) -> tuple[dict[str, list[float]], list[float], list[Figure]]:
    await asyncio.sleep(SETTLED_SECONDS)
    visitor = await Visitor.arrive(site.port)
    each: dict[str, list[float]] = {path: [] for path in paths}
    health: list[float] = []
    for turn in range(times + WARM):
        for path in paths:
            answer = await visitor.get(path)
            if answer.status != 200:
                raise RuntimeError(f"{path} is answered with {answer.status}")
            if turn >= WARM:
                each[path].append(answer.seconds * 1000)
                health.append((await visitor.get("/health")).seconds * 1000)
    sizes = await _sizes(visitor, paths)
    visitor.leave()
    return each, health, sizes


def _time(runs: int, most: float, each: dict[str, list[float]], health: list[float]) -> Figure:
    late = {path: percentile(values, 0.95) for path, values in each.items()}
    slowest = max(late, key=lambda path: late[path])
    ratio = median(each[slowest]) / median(health)
    raw = [
        spread(path, values, "ms", 1) for path, values in sorted(each.items(), key=lambda it: -late[it[0]])
    ]
    return Figure(
        f"the slowest page with {runs:,} runs and {JOBS} jobs, p95",
        f"<= {most:g} ms",
        f"{late[slowest]:.1f} ms ({slowest}; {ratio:.0f} x /health)",
        late[slowest] <= most,
        (*raw, spread("/health", health, "ms", 2)),
    )


async def _sizes(visitor: Visitor, paths: list[str]) -> list[Figure]:
    visits, updates = {}, {}
    for path in paths:
        visits[path] = await _first_visit(visitor, path)
        page = (await visitor.get(path, packed=False)).body.decode()
        for tag in re.findall(r"<[^>]*\sdata-live=[^>]*>", page):
            name = re.findall(r'\sid="([^"]+)"', tag)[0]
            answer = await visitor.get(path, live=name)
            updates[f"{path} #{name}"] = len(answer.head) + len(answer.body)
    return [
        _size("first visit of a page, with everything", FIRST_VISIT_BYTES, visits),
        _size("a live update of a part", UPDATE_BYTES, updates),
    ]


async def _first_visit(visitor: Visitor, path: str) -> int:
    """Return the bytes of a page with all it refers to, as they are sent, heads included."""
    sent, seen, waiting = 0, {path}, [path]
    while waiting:
        url = waiting.pop()
        answer = await visitor.get(url)
        sent += len(answer.head) + len(answer.body)
        text = (await visitor.get(url, packed=False)).body.decode("utf-8", "replace")
        found = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
        if url.endswith(".js"):
            found = [urljoin(url, name) for name in re.findall(r'(?:from|import) "(\./[^"]+)"', text)]
        waiting += [each for each in dict.fromkeys(found) if each not in seen]
        seen.update(found)
    return sent


def _size(name: str, most: int, sizes: dict[str, int]) -> Figure:
    largest = max(sizes, key=lambda each: sizes[each])
    raw = ", ".join(f"{each} {size:,}" for each, size in sorted(sizes.items(), key=lambda it: -it[1])[:12])
    return Figure(
        name,
        f"<= {most / 1000:g} kB",
        f"{sizes[largest] / 1000:.1f} kB ({largest})",
        sizes[largest] <= most,
        (raw,),
    )
