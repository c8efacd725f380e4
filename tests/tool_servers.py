"""Tool servers at work in a real application: code that starts at once, and ways to look at what became of it."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from fastmcp import Client

from claude_runner.agent import Agent
from claude_runner.app import App, open_app
from claude_runner.config import Settings
from claude_runner.pool import Patience
from claude_runner.servers import Server
from claude_runner.tools import build_mcp
from tests.support import FakeAgent, FakeClock, content, text

# A server that speaks the protocol by itself: it starts in 50 ms, where the library takes 550 and FastMCP 1,000.
QUICK = '''
import json, os, signal, subprocess, sys, threading, time

class MCPServer:
    __module__ = "mcp.server"

    def __init__(self):
        self.tools, self.wire = {}, threading.Lock()

    def tool(self, function):
        self.tools[function.__name__] = function
        return function

    def run(self):
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "id" in message:
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()

    def answer(self, message):
        method, params = message["method"], message.get("params", {})
        if method == "initialize":
            about = {"name": "quick", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
        elif method == "tools/list":
            result = self.list()
        else:
            result = self.call(**params)
        self.say({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def list(self):
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]}

    def call(self, name, arguments):
        try:
            said = self.tools[name](**arguments)
        except Exception as error:
            return {"isError": True, "content": [{"type": "text", "text": str(error)}]}
        return said if isinstance(said, dict) else {"content": [{"type": "text", "text": str(said)}]}

    def say(self, message):
        with self.wire:
            sys.stdout.buffer.write(json.dumps(message).encode() + b"\\n")
            sys.stdout.buffer.flush()

mcp = MCPServer()

@mcp.tool
def echo(text):
    return text

@mcp.tool
def which():
    """Tell which of its processes this is."""
    return os.environ["CLAUDE_RUNNER_SERVER"]

@mcp.tool
def key(name="API_KEY"):
    return os.environ.get(name, "none")

@mcp.tool
def hold():
    """Tell that it has begun and go on until it may end."""
    (DATA_DIR / "held").touch()
    while not (DATA_DIR / "go").exists():
        time.sleep(0.01)
    return "held " + os.environ.get("API_KEY", "")
'''

SDK = '''
from mcp.server import MCPServer

mcp = MCPServer("sdk")

@mcp.tool()
def echo(text: str) -> str:
    """Say the same."""
    return text
'''


@dataclass(frozen=True)
class Lab:
    """An application, a client of its tools, and its servers' processes."""

    app: App
    clock: FakeClock
    _opened: AsyncExitStack
    _clients: list[Client[Any]] = field(default_factory=list)

    async def client(self) -> Client[Any]:
        """Return the client, made when it is first needed: making all tools takes longer than all the rest."""
        if not self._clients:
            client: Client[Any] = Client(await build_mcp(self.app))
            self._clients.append(await self._opened.enter_async_context(client))
        return self._clients[0]

    @property
    def home(self) -> Path:
        return self.app.settings.home

    async def put(self, name: str, code: str = QUICK, **metadata: Any) -> Server:
        put(self.app.settings, name, code, **metadata)
        return await self.app.servers.get(name)

    def data(self, name: str, *parts: str) -> Path:
        """A place in the folder for a server's own files."""
        return self.home.joinpath("dynamic_servers", name, "data", *parts)

    async def answer(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """What one of our tools answers."""
        return dict(content(await (await self.client()).call_tool(tool, arguments, raise_on_error=False)))

    async def refusal(self, tool: str, /, **arguments: Any) -> str:
        """The sentence with which one of our tools refuses, which is one line."""
        result = await (await self.client()).call_tool(tool, arguments, raise_on_error=False)
        assert result.is_error, result.structured_content
        assert "\n" not in text(result)
        return text(result)

    async def call(self, tool: str, /, **payload: Any) -> str:
        """What a server's tool says, called at once."""
        outcome = await self.app.invocations.invoke(tool, payload, 20)
        assert not outcome.is_error, outcome.content
        return str(outcome.content[0]["text"])

    async def enable(self, name: str, *, enabled: bool = True) -> None:
        await self.app.servers.enable(name, enabled, self.clock.now())

    async def set(self, server: str, key: str, value: str) -> None:
        await self.app.credentials.set(server, key, value, self.clock.now())

    def processes(self, name: str) -> list[psutil.Process]:
        return processes(name)

    def half_made(self) -> list[Path]:
        """What is left of servers that were not kept, and of temporary files."""
        folders = (self.app.settings.state / "staged", self.home / "dynamic_servers")
        return [path for folder in folders for path in folder.glob(".*")] + workspaces()


def put(settings: Settings, name: str, code: str = QUICK, **metadata: Any) -> None:
    """What a person does who puts a server's files there by hand."""
    folder = settings.home / "dynamic_servers" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.py").write_text(code)
    (folder / "metadata.json").write_text(json.dumps({"description": "A test", **metadata}))


def processes(name: str) -> list[psutil.Process]:
    """The processes of this test that bear the mark of a server, as a person would look for them.

    Outside of `temporary` these are those of tests at its side as well.
    """
    return list(_marked(re.compile(re.escape(name) + "-[0-9a-f]{16}")))


def _marked(mark: re.Pattern[str]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["environ", "status"]):
        variables = process.info["environ"] or {}
        is_ours = variables.get("TMPDIR", "").startswith(tempfile.gettempdir())
        is_it = is_ours and mark.fullmatch(variables.get("CLAUDE_RUNNER_SERVER", ""))
        if is_it and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield process


def workspaces() -> list[Path]:
    """The folders for the temporary files of servers."""
    return list(Path(tempfile.gettempdir()).glob("claude-runner-server-*"))


async def comes(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for what another program does, which tells nobody of it."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)


@asynccontextmanager
async def open_lab(
    path: Path,
    agent: Agent | None = None,
    patience: Patience | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Lab]:
    owner = path / "owner"
    owner.mkdir(exist_ok=True)
    variables = {"PATH": os.environ["PATH"], "HOME": str(owner), **environment}
    settings = Settings(home=path / "home", environment=variables, shutdown_grace_seconds=0.2)
    clock = FakeClock()
    opening = open_app(settings, agent=agent or FakeAgent(), clock=clock, patience=patience)
    with temporary(path / "temporary"):
        async with opening as app, AsyncExitStack() as opened:
            yield Lab(app, clock, opened)


@contextmanager
def temporary(folder: Path) -> Iterator[None]:
    """Have temporary files in a folder of the test's own, so that what is left of it can be told from others'."""
    folder.mkdir(exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
