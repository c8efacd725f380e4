"""The real server as a program of its own, reached over the network with a token of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.sites import free_port

SERVER = Path(__file__).resolve().parent.parent / "server.py"
PATIENCE = 60.0  # seconds
# What has coverage measure a program that is started; see `tests.conftest` for who is started without.
MEASURING = MappingProxyType(
    {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
)


@dataclass(frozen=True)
class Served:
    """A server that listens.

    Attributes:
        token: What a client shows to be let in.
    """

    process: "subprocess.Popen[bytes]"
    home: Path
    port: int
    token: str

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def stop(self) -> tuple[int, str]:
        """Ask it to stop, and return the exit code and what it had logged since it began to listen."""
        self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said.decode()


@contextmanager
def served(home: Path, port: int | None = None, /, **more: str) -> Iterator[Served]:
    """Start the site on a home."""
    port = port or free_port()
    environment = variables(home, MCP_TRANSPORT="sse", PORT=str(port), **more)
    with subprocess.Popen(
        [sys.executable, str(SERVER)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            _until_it_listens(process)
            yield Served(process, home, port, access_token(environment))
        finally:
            process.kill()


def _until_it_listens(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.decode())
        if "the site is at" in said[-1]:
            return
    raise RuntimeError(f"the server does not serve:\n{''.join(said)}")


def access_token(environment: dict[str, str]) -> str:
    """Return what `server.py --access-token` prints."""
    done = subprocess.run(
        [sys.executable, str(SERVER), "--access-token"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def variables(home: Path, **more: str) -> dict[str, str]:
    """The least that the server is started with."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RUNNER_HOME": str(home), **more}


def measured(home: Path, **more: str) -> dict[str, str]:
    """The same for a server whose lines count as tested, where they do: for those that are run nowhere else."""
    return variables(home, **MEASURING, **more)
