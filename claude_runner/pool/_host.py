"""Runs the file of a tool server: `python -I -B _host.py SERVER.PY`.

A program of its own, started in the server's small environment. What the code prints goes to standard error, so that
nothing can get between the protocol's lines. The server that the code makes is served over stdio, whether the code
runs it itself or not. Where that can't be, the last line on standard error says why and, where it is known, in which
line of the code.

Environment:
    DATA_DIR: The server's folder for files; the code finds it there and as a global, a `Path`.
"""

import io
import os
import select
import sys
import traceback
import types
from pathlib import Path
from typing import Any, TextIO, cast

LAST_WORDS = "cannot serve: "
NO_SERVER = (
    "the code makes no server; make one at the top level of the file, such as mcp = FastMCP('weather'), "
    "and mark its tools with @mcp.tool"
)


class _Stream:
    """A standard stream whose text goes one way and whose buffer, which the protocol is spoken through, another."""

    def __init__(self, text: TextIO, buffer: io.BufferedIOBase) -> None:
        self._text = text
        self.buffer = buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)


def main() -> None:
    """Run the server whose file is named on the command line."""
    path = Path(sys.argv[1])
    incoming = _take_the_wire()
    try:
        _serve(_load(path))
    except BaseException as error:  # noqa: BLE001 - whatever the code raises is told
        if _has_closed(incoming):  # such as a code that ends with sys.exit(mcp.run())
            return
        if isinstance(error, SystemExit):
            _end(_where(path) + "the code ends the program (sys.exit) in place of serving")
        traceback.print_exc()
        _end(f"{_where(path)}{type(error).__name__}: {error}")


def _take_the_wire() -> int:
    """Keep descriptors 0 and 1 for the protocol, and give the code an empty input and standard error instead.

    Returns the descriptor on which the client is heard.
    """
    incoming, outgoing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    sys.stdin = _Stream(sys.stdin, os.fdopen(incoming, "rb"))
    sys.stdout = _Stream(sys.stderr, os.fdopen(outgoing, "wb"))
    return incoming


def _has_closed(incoming: int) -> bool:
    """Tell whether the client has gone, so that nobody waits for anything any more."""
    client = select.poll()
    client.register(incoming, 0)  # of a hang-up it tells unasked
    return bool(client.poll(0))


def _load(path: Path) -> dict[str, Any]:
    """Run the code as a program and return its globals."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    module.__dict__["DATA_DIR"] = Path(os.environ["DATA_DIR"])
    sys.modules["__main__"] = module
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.parent))
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - it is what this is for
    return module.__dict__


def _serve(names: dict[str, Any]) -> None:
    """Serve what the code made, unless the code did it itself and has come to the end of its input."""
    made = {id(value): value for value in names.values() if _is_server(value)}
    if not made:
        _end(NO_SERVER)
    preferred = names.get("mcp")
    server: Any = preferred if _is_server(preferred) else next(iter(made.values()))
    if cast(io.BufferedReader, sys.stdin.buffer).peek(1):  # a client speaks first
        server.run()


def _is_server(value: object) -> bool:
    """Tell whether it is one of FastMCP or of the MCP SDK, without importing either."""
    kinds = {(str(kind.__module__).partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    return bool(kinds & {("fastmcp", "FastMCP"), ("mcp", "MCPServer"), ("mcp", "FastMCP")})


def _where(path: Path) -> str:
    """Return at which line of the file what was raised came up."""
    error = sys.exc_info()[1]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""


def _end(words: str) -> None:
    # On a line of its own, whatever was said before; it is cut by who reads it, lest half of a secret be left.
    sys.stderr.write(f"\n{LAST_WORDS}{' '.join(words.split())}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
