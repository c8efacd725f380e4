"""How long it takes to list two hundred dynamic servers, as `list_dynamic_mcp_servers` does.

Absolute, and relative to the least that anybody could do who keeps nothing in mind: a scan of the folder and reading
the JSON of each. The catalogue is real, over a real home and database; a listing ends with each server's answer in
JSON. The first listing reads every file and is told beside the others, which look whether a file has changed.
"""

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from bench._figures import Effort, Figure, median, ratio, spread
from claude_runner.config import Settings, SystemClock
from claude_runner.db import open_database, to_text
from claude_runner.hub import Hub
from claude_runner.servers import Kind, Servers

COUNT: Final = 200
MOST_MS: Final = 20.0
MOST_RATIO: Final = 1.5

_CODE: Final = '''import os

import httpx
from fastmcp import FastMCP

mcp = FastMCP("server-{number}")


@mcp.tool
def look_up(city: str, days: int = 3) -> str:
    """Look something up."""
    answer = httpx.get(
        "https://example.com/api", params={{"city": city, "days": days, "key": os.environ.get("API_KEY")}}
    )
    return answer.text
'''


def measure(effort: Effort) -> list[Figure]:
    """Time the listings."""
    first, listings, bare = asyncio.run(_times(effort.listings))
    raw = (
        f"first listing, which reads every file: {first:.1f} ms",
        spread("listing", listings, "ms", 1),
        spread("scan and read alone", bare, "ms", 1),
    )
    took = median(listings)
    return [
        Figure(
            f"listing {COUNT} dynamic servers", f"<= {MOST_MS:.0f} ms", f"{took:.1f} ms", took <= MOST_MS, raw
        ),
        ratio(f"listing {COUNT} against scandir and json.load", MOST_RATIO, listings, bare, ()),
    ]


async def _times(rounds: int) -> tuple[float, list[float], list[float]]:
    """Return the milliseconds of the first listing, of the later ones, and of the bare reading in turns with them."""
    listings: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        root = settings.home / "dynamic_servers"
        _put(root)
        async with open_database(settings.database_path) as database:
            servers = Servers(database, Hub(), settings, settings.home / "checkout")
            first = await _list(servers)
            for _ in range(rounds):
                listings.append(await _list(servers))
                bare.append(_read(root))
    return first, listings, bare


async def _list(servers: Servers) -> float:
    begun = time.perf_counter()
    answer = [
        {
            "name": it.name,
            "description": it.description,
            "enabled": it.enabled,
            "created_at": it.created_at and to_text(it.created_at),
            "updated_at": it.updated_at and to_text(it.updated_at),
            "env_vars": [variable.as_entry() for variable in it.variables],
            "missing": it.missing({}),
            "problem": it.problem,
        }
        for it in await servers.list(Kind.DYNAMIC)
    ]
    json.dumps({"servers": answer, "total": len(answer)})
    took = (time.perf_counter() - begun) * 1000
    if len(answer) != COUNT or any(it["problem"] for it in answer):
        raise RuntimeError(f"{len(answer)} servers were listed")
    return took


def _read(root: Path) -> float:
    begun = time.perf_counter()
    with os.scandir(root) as entries:
        for entry in entries:
            with open(f"{entry.path}/metadata.json", encoding="utf-8") as file:  # noqa: PTH123 - the least there is
                json.load(file)
    return (time.perf_counter() - begun) * 1000


def _put(root: Path) -> None:
    now = to_text(SystemClock().now())
    for number in range(COUNT):
        folder = root / f"server-{number:03d}"
        folder.mkdir(parents=True)
        (folder / "server.py").write_text(_CODE.format(number=number), encoding="utf-8")
        metadata = {
            "description": f"Looks things up, for the {number}th time",
            "created_at": now,
            "updated_at": now,
            "enabled": True,
            "env_vars": [
                {"name": "API_KEY", "description": "Of your account", "required": True, "sensitive": True}
            ],
        }
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")
