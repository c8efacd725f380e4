"""Server processes spoken to over pipes: ours, and the least that FastMCP makes."""

import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SERVER: Final = Path(__file__).resolve().parent.parent / "server.py"
PATIENCE: Final = 60.0  # seconds

# A docstring on the tool would make FastMCP load a parser for it; there is none, so that we compare with the least.
BARE_SERVER: Final = """\
from fastmcp import FastMCP

mcp = FastMCP("bare")


@mcp.tool
def echo(text: str) -> str:
    return text


mcp.run(transport="stdio", show_banner=False)
"""

INITIALIZE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}
INITIALIZED: Final = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@dataclass(frozen=True, slots=True)
class Program:
    """What to start; its home is kept from one start to the next."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """A server that has answered `initialize`.

    Attributes:
        seconds: From before it was spawned until its answer was read.
    """

    process: subprocess.Popen[bytes]
    seconds: float

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured answer."""
        call = {"name": tool, "arguments": arguments}
        _say(self.process, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
        while line := _line(self.process):
            answer = json.loads(line)
            if answer.get("id") != 2:  # a notification
                continue
            if "error" in answer or answer["result"].get("isError"):
                raise RuntimeError(f"{tool} was refused: {answer}")
            structured: dict[str, Any] = answer["result"]["structuredContent"]
            return structured
        raise RuntimeError(f"{tool} was not answered")


@contextmanager
def programs() -> Iterator[tuple[Program, Program, Program]]:
    """Lend the bare server, ours over stdio alone, and ours as it starts by default, each with a used home."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "bare.py"
        script.write_text(BARE_SERVER, encoding="utf-8")
        bare = Program("bare FastMCP", (sys.executable, str(script)), _environment(folder))
        ours = (sys.executable, str(SERVER))
        stdio = {"MCP_TRANSPORT": "stdio", "RUNNER_HOME": str(folder / "stdio")}
        both = {"MCP_TRANSPORT": "both", "RUNNER_HOME": str(folder / "both"), "PORT": str(_free_port())}
        everything = (
            bare,
            Program("ours, stdio", ours, _environment(folder) | stdio),
            Program("ours, both", ours, _environment(folder) | both),
        )
        for program in everything:  # compiled, its database made, the files in the system's cache
            with started(program):
                pass
        yield everything


@contextmanager
def started(program: Program) -> Iterator[Started]:
    """Start a server and have it answer `initialize`; it ends by the end of its standard input."""
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        process = subprocess.Popen(
            program.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=dict(program.environment),
        )
        try:
            _say(process, INITIALIZE)
            answer = _line(process)
            seconds = time.perf_counter() - begun
            if b'"serverInfo"' not in answer:
                said.seek(0)
                raise RuntimeError(f"{program.name} did not answer: {answer!r}\n{said.read().decode()}")
            _say(process, INITIALIZED)
            yield Started(process, seconds)
        finally:
            _end(process)


def _environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def _say(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line, or what there is of it when the server ends or is silent for too long."""
    assert process.stdout is not None
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(PATIENCE):
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                break
            line += piece
    return line


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
