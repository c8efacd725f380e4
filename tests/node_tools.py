"""The programs that others wrote to judge MCP servers, as tests/node-tools.sh installs them."""

import filecmp
from pathlib import Path
from typing import Final

from tests.conftest import need

HERE: Final = Path(__file__).parent / "node"


def node() -> str:
    """Return the path of the Node that the judges run on; where it is not installed the test is skipped."""
    return str(_program("node"))


def npm_tool(name: str) -> list[str]:
    """Return how a judge is started: `conformance`, `inspector` (its `--cli`) or `mcpb`."""
    return [node(), str(_program(name))]


def _program(name: str) -> Path:
    program = HERE / "node_modules" / ".bin" / name
    installed = HERE / "node_modules" / ".installed"
    if not (installed.is_file() and filecmp.cmp(HERE / "package-lock.json", installed) and program.exists()):
        need("the MCP judges are not installed: sh tests/node-tools.sh")
    return program.resolve()
