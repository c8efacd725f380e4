"""The protocol as it goes over the wire: for clients that come in numbers, are timed, or vanish."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

NEWEST = "2026-07-28"
CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


def modern(method: str, params: Mapping[str, Any], number: int = 1) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a request that stands by itself (revision 2026-07-28)."""
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": NEWEST, f"{prefix}clientCapabilities": {}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": NEWEST,
        "Mcp-Method": method,
        **({"Mcp-Name": params["name"]} if "name" in params else {}),
    }
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}
    return headers, json.dumps(request).encode()


@dataclass
class Stream:
    """An open stream."""

    port: int
    token: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    endpoint: str = ""

    @classmethod
    async def open(cls, port: int, token: str) -> Self:
        """Open a stream and introduce the client."""
        stream = cls(port, token, *await asyncio.open_connection("127.0.0.1", port))
        stream.writer.write(request("GET /sse", port, token, "Accept: text/event-stream"))
        stream.endpoint = (await stream.event())[1]
        await stream.say("initialize", CLIENT, number=1)
        await stream.event()
        await stream.say("notifications/initialized")
        return stream

    async def event(self) -> tuple[str, str]:
        """Return the name and the text of the next event."""
        name = text = ""
        while line := (await self.reader.readline()).decode():
            if line.startswith("event: "):
                name = line.removeprefix("event: ").strip()
            elif line.startswith("data: "):
                text = line.removeprefix("data: ").strip()
            elif name and not line.strip():
                return name, text
        raise EOFError("the stream has ended")

    async def say(self, method: str, params: Any = None, *, number: int | None = None) -> None:
        """Post a message, which has been taken when this returns."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        body = json.dumps(message if number is None else {**message, "id": number})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
        writer.write(request(f"POST {self.endpoint}", self.port, self.token, *head) + body.encode())
        answer = await reader.read()
        writer.close()
        assert b" 202 " in answer.splitlines()[0], answer

    def close(self) -> None:
        """Be gone, without a word."""
        self.writer.transport.abort()


def request(line: str, port: int, token: str, *head: str) -> bytes:
    """Return the head of a request that has a token."""
    lines = (f"{line} HTTP/1.1", f"Host: localhost:{port}", f"Authorization: Bearer {token}", *head)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()
