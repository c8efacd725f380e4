"""Tool servers over a real home, and what a person does to their files and settings by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from claude_runner.config import Settings
from claude_runner.db import open_database
from claude_runner.hub import Hub
from claude_runner.jobs import Jobs
from claude_runner.runs import Runs
from claude_runner.servers import Kind, Server, Servers, ToolInfo, Variable, examine
from tests.parts import Parts
from tests.support import FakeClock

CODE = (
    "import os\nfrom fastmcp import FastMCP\nmcp = FastMCP('weather')\nKEY = os.environ.get('WEATHER_KEY')\n"
)
KEY = Variable("WEATHER_KEY", sensitive=True)
METADATA = {"description": "Forecasts", "env_vars": []}
TOOLS = (ToolInfo("get_weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}}),)


@dataclass(frozen=True)
class House:
    """Servers over a real home and a checkout of its own."""

    settings: Settings
    checkout: Path
    parts: Parts
    servers: Servers

    @property
    def clock(self) -> FakeClock:
        return self.parts.clock

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @property
    def root(self) -> Path:
        return self.settings.home / "dynamic_servers"

    def put(
        self, name: str, code: str | None = CODE, metadata: Any = METADATA, *, fixed: bool = False
    ) -> Path:
        """What a person does who puts a server's files there by hand."""
        folder = (self.checkout / "fixed-servers" if fixed else self.root) / name
        folder.mkdir(parents=True, exist_ok=True)
        if code is not None:
            (folder / "server.py").write_text(code)
        if metadata is not None:
            text = metadata if isinstance(metadata, str) else json.dumps(metadata)
            (folder / "metadata.json").write_text(text)
        return folder

    async def made(self, name: str = "weather", code: str = CODE) -> Server:
        """A server that was made as the tools make it."""
        async with self.servers.lock(name):
            await self.servers.check_free(name)
            staged = await self.servers.stage(name, code, "Forecasts", examine(code).variables, self.now)
            return await self.servers.keep_new(name, staged, self.now)

    async def updated(self, code: str, name: str = "weather", **changes: Any) -> Server:
        async with self.servers.lock(name):
            staged = await self.servers.stage(
                name, code, changes.get("description"), examine(code).variables, self.now
            )
            return await self.servers.keep_version(name, staged, self.now)

    async def set(self, key: str, value: Any) -> None:
        """What a person does at the sqlite3 shell."""
        text = value if isinstance(value, str) else json.dumps(value)
        await self.parts.sql(
            "INSERT INTO settings (key, value) VALUES (:key, :value)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key=key,
            value=text,
        )

    async def names(self, kind: Kind | None = None) -> list[str]:
        return [server.name for server in await self.servers.list(kind)]

    def files(self) -> list[str]:
        """Every file under the home but the database's, to tell what is left."""
        found = (
            path.relative_to(self.settings.home) for path in self.settings.home.rglob("*") if path.is_file()
        )
        return sorted(
            str(path) for path in found if not path.name.startswith("jobs.db") and "locks" not in path.parts
        )


@asynccontextmanager
async def open_house(path: Path) -> AsyncIterator[House]:
    settings = Settings(home=path / "home")
    settings.state.mkdir(parents=True)
    checkout = path / "checkout"
    checkout.mkdir()
    hub = Hub()
    async with (
        open_database(settings.database_path, lock_timeout=0.01) as database,
        AsyncExitStack() as opened,
    ):
        jobs, runs = Jobs(database, hub), Runs(database, hub)
        parts = Parts(settings.database_path, database, hub, FakeClock(), jobs, runs, opened)
        yield House(settings, checkout, parts, Servers(database, hub, settings, checkout))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
