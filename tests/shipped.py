"""Starts the tool servers that are shipped, each as a program of its own, and stand-ins for what they talk to."""

import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support import text

ROOT = Path(__file__).parent.parent
EMAIL = ROOT / "fixed-servers" / "email"
PLAYWRIGHT = ROOT / "fixed-servers" / "playwright"
SAMPLES = ROOT / "dynamic_servers"


@asynccontextmanager
async def open_server(folder: Path, home: Path, **variables: str) -> AsyncIterator[Client[Any]]:
    """Start a server with the variables and little else, and yield a client of it."""
    # In the system's folder, as the pool has it: Chromium makes a socket there, whose path may not be long.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as workspace:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": workspace,
            "DATA_DIR": str(home),
            "FASTMCP_SHOW_SERVER_BANNER": "false",
            "FASTMCP_CHECK_FOR_UPDATES": "off",
            **variables,
        }
        transport = StdioTransport(
            sys.executable,
            ["-B", str(folder / "server.py")],
            env=environment,
            cwd=str(home),
            keep_alive=False,
            log_file=home / "stderr.log",
        )
        async with Client(transport) as client:
            yield client


async def refused(client: Client[Any], tool: str, **arguments: object) -> str:
    """Call a tool that is to refuse, and return its sentence."""
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error, result
    return text(result)


async def answered(client: Client[Any], tool: str, **arguments: object) -> Any:
    """Call a tool and return what it answers."""
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert not result.is_error, text(result)
    assert result.structured_content is not None
    content = dict(result.structured_content)
    return content["result"] if content.keys() == {"result"} else content


@dataclass
class StandIn:
    """A service of the web that answers as a test wants it to.

    Attributes:
        url: Where it is.
        answer: Makes the answer to a request.
        cut: Cuts all lines.
        requests: What came, each with its body.
    """

    url: str
    answer: Callable[[Request], Awaitable[Response]]
    cut: Callable[[], None]
    requests: list[tuple[Request, bytes]] = field(default_factory=list)

    def answers(self, content: str | bytes, status: int = 200, **headers: str) -> None:
        """Answer every request so from now on."""
        named: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_request: Request) -> Response:
            return Response(content, status, named)

        self.answer = answer
        self.requests.clear()

    def hangs_up(self) -> None:
        """Take every request from now on and cut the line."""

        async def answer(_request: Request) -> Response:
            self.cut()
            return Response()  # goes nowhere

        self.answer = answer


@asynccontextmanager
async def open_stand_in() -> AsyncIterator[StandIn]:
    """Serve a stand-in on loopback."""

    async def answer(request: Request) -> Response:
        stand_in.requests.append((request, await request.body()))
        return await stand_in.answer(request)

    async def nothing(_request: Request) -> Response:
        return Response("", 404)

    methods = ["GET", "POST", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none", loop="none")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)

    def cut() -> None:
        for connection in list(server.server_state.connections):
            connection.transport.abort()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        stand_in = StandIn(f"http://127.0.0.1:{listener.getsockname()[1]}", nothing, cut)
        await server.startup([listener])
        try:
            yield stand_in
        finally:
            for one in server.servers:
                one.close()
            cut()
