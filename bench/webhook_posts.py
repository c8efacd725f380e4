"""How many posts to a webhook a second are accepted and durable.

Relative to the least there can be: a Starlette route that reads the same JSON and commits one row for each request,
with the disk flushed for each. Both are served by uvicorn with uvloop and httptools, each in a process of its own; this
process posts to them in turns over connections that it keeps, as fast as they answer: 64 at a time, then one. Ours is
the whole site: every post becomes a delivery and a pending run with its prompt, in one flushed transaction. One run is
going on all the time and takes the only place, so that no other is started meanwhile.
"""

import argparse
import asyncio
import gc
import json
import selectors
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bench._figures import Effort, Figure, median, rotated, spread
from claude_runner.app import open_app
from claude_runner.config import Settings
from claude_runner.tools import build_mcp
from claude_runner.web import build_site, serve_site
from claude_runner.webhooks import WebhookDraft
from tests.support import FakeAgent

TEMPLATE: Final = (
    'A work item was {{payload.event | "changed"}}: {{payload.resource.fields.System.Title}}. Sort it.'
)
BODY: Final = json.dumps(
    {
        "event": "created",
        "resource": {"id": 4711, "fields": {"System.Title": "The lamp in the hall flickers"}},
    }
).encode()
MANY: Final = 64
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Load:
    """How it is posted, and what the rate must be against the bare server's."""

    clients: int
    posts: int
    least: float


LOADS: Final = (Load(MANY, 1_500, 1.5), Load(1, 150, 0.6))


def measure(effort: Effort) -> list[Figure]:
    """Post to both in turns."""
    with (
        tempfile.TemporaryDirectory() as folder,
        _serving("ours", folder) as ours,
        _serving("bare", folder) as bare,
    ):
        return [_figure(load, ours, bare, effort.posts) for load in LOADS]


def _figure(load: Load, ours: "Target", bare: "Target", rounds: int) -> Figure:
    rates: dict[Target, list[float]] = {ours: [], bare: []}
    for number in range(1 + rounds):
        for target in rotated([ours, bare], number):
            rates[target].append(_rate(target, load))
    kept = {target: values[1:] for target, values in rates.items()}  # the first is for warming up
    measured = median(one / other for one, other in zip(kept[ours], kept[bare], strict=True))
    who = "1 client" if load.clients == 1 else f"{load.clients} at a time"
    return Figure(
        f"webhook posts accepted and durable, {who}",
        f">= {load.least:g} x",
        f"{measured:.2f} x",
        measured >= load.least,
        (spread("ours", kept[ours], "/s"), spread("Starlette, one commit a request", kept[bare], "/s")),
    )


@dataclass(frozen=True, slots=True)
class Target:
    """A server that takes posts, and where."""

    port: int
    path: str


def _rate(target: Target, load: Load) -> float:
    """Return how many posts a second were answered; each connection posts again as soon as it has its answer."""
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: localhost:{target.port}\r\nContent-Type: application/json\r\n"
    )
    request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with ExitStack() as stack:
        # Plain sockets: what the clients take of the machine, the servers lack.
        poll = stack.enter_context(selectors.DefaultSelector())
        for _ in range(load.clients):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE)
            )
            poll.register(client, selectors.EVENT_READ, bytearray())
        begun = time.perf_counter()
        for key in poll.get_map().values():
            _socket_of(key).sendall(request)
        left = load.posts
        while left > 0:
            ready = poll.select(PATIENCE)
            if not ready:
                raise RuntimeError("the server does not answer")
            for key, _ in ready:
                if _answered(key):
                    left -= 1
                    _socket_of(key).sendall(request)
        return load.posts / (time.perf_counter() - begun)


def _answered(key: selectors.SelectorKey) -> bool:
    """Read what has come, and tell whether the answer is whole: it ends as the object in it does."""
    heard: bytearray = key.data
    heard += _socket_of(key).recv(65_536)
    if not heard.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"the server answered {bytes(heard[:300])!r}")
    if not heard.endswith(b"}"):
        return False
    heard.clear()
    return True


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


@contextmanager
def _serving(kind: str, folder: str) -> Iterator[Target]:
    """Start one of the servers in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "bench.webhook_posts", kind, str(Path(folder) / kind), str(port)]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            path = process.stdout.readline().strip()
            if not path:
                raise RuntimeError(f"{kind} does not start")
            _until_it_listens(port)
            yield Target(port, path)
        finally:
            process.terminate()


def _until_it_listens(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


async def _serve_ours(home: Path, port: int) -> None:
    settings = Settings(home=home, port=port, max_concurrent_runs=1)
    async with open_app(settings, agent=FakeAgent(FakeAgent.wait_for_stop)) as app:
        draft = WebhookDraft("Work items", TEMPLATE, max_per_minute=1_000_000)
        webhook = await app.webhooks.add(draft, app.clock.now())
        site = build_site(app, await build_mcp(app))
        gc.freeze()  # as the server does once it is warm
        print(f"/webhook/{webhook.token}", flush=True)
        await serve_site(site, settings, asyncio.Event(), patient=False)


async def _serve_bare(home: Path, port: int) -> None:
    with closing(sqlite3.connect(f"{home}.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")

        async def take(request: Request) -> Response:
            body = json.dumps(await request.json())
            row = connection.execute("INSERT INTO posts (body) VALUES (?)", (body,)).lastrowid
            return JSONResponse({"id": row}, status_code=202)

        gc.freeze()
        print("/", flush=True)
        app = Starlette(routes=[Route("/", take, methods=["POST"])])
        config = uvicorn.Config(
            app, port=port, loop="none", http="httptools", log_config=None, access_log=False, lifespan="off"
        )
        await uvicorn.Server(config).serve()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_posts")
    parser.add_argument("kind", choices=["ours", "bare"])
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    serve = _serve_ours if options.kind == "ours" else _serve_bare
    uvloop.run(serve(options.home, options.port))


if __name__ == "__main__":
    main()
