"""How a tool server is started: its command, its small environment, and what it may see of the machine."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from claude_runner.config import CHECKOUT, Settings
from claude_runner.errors import ServerFailedError
from claude_runner.pool._child import Launch
from claude_runner.processes import NETWORK, Confinement, confinement_problem
from claude_runner.servers import Kind, Server

_HOST: Final = Path(__file__).with_name("_host.py")
_PASSED_ON: Final = ("PATH", "LANG", "LANGUAGE", "TZ", *NETWORK)  # what any program needs
# What the owner's own programs need besides, such as `npx` to find its cache.
_OF_THE_OWNER: Final = ("HOME", "USER", "LOGNAME", "SHELL")
# What it logs is for a file, and of what it does by itself only what went wrong.
_QUIET: Final = {
    "FASTMCP_SHOW_SERVER_BANNER": "false",
    "FASTMCP_CHECK_FOR_UPDATES": "off",
    "FASTMCP_ENABLE_RICH_LOGGING": "false",
    "FASTMCP_LOG_LEVEL": "WARNING",
}


def launch_of(
    server: Server,
    credentials: Mapping[str, str],
    settings: Settings,
    workspace: Path,
    python: Path | None = None,
) -> Launch:
    """Return how a server of a command or of a file is started; the folder for its files is made.

    Args:
        server: Which; not one that is reached by a URL.
        credentials: The server's own, by name: it gets them as variables.
        settings: Ours.
        workspace: A folder for its temporary files.
        python: The interpreter of an environment of its own; ours where it needs none.

    Raises:
        OSError: The folder can't be made.
        ServerFailedError: The program is not there.
    """
    passed = (*_PASSED_ON, *(_OF_THE_OWNER if server.kind is Kind.EXTERNAL else ()))
    environment = {name: settings.environment[name] for name in passed if settings.environment.get(name)}
    environment.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    environment.setdefault("HOME", str(server.data_dir))
    command = _command(server, python, environment["PATH"])
    server.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment |= credentials
    environment |= {"TMPDIR": str(workspace), "DATA_DIR": str(server.data_dir), **_QUIET}
    if confinement_problem() is None:
        command = tuple(_confinement(server, settings, workspace, python).command(command))
    return Launch(command, environment, server.data_dir, workspace)


def _command(server: Server, python: Path | None, path: str) -> tuple[str, ...]:
    if server.command is not None:
        name, *arguments = server.command
        program = shutil.which(name, path=path)
        if program is None:
            raise ServerFailedError(f"there is no program {name!r} on this machine")
        return (program, *arguments)
    return (str(python or sys.executable), "-I", "-B", str(_HOST), str(server.code_path))


def _confinement(server: Server, settings: Settings, workspace: Path, python: Path | None) -> Confinement:
    owner, login = settings.owner_home, settings.login
    if server.kind is Kind.EXTERNAL:  # a program the owner has chosen, which lives in the owner's home
        return Confinement(
            hidden=(settings.home, login, CHECKOUT, *settings.key_files),
            readable=settings.certificates,
            writable=(server.data_dir, workspace),
            rest_writable=True,
        )
    # With the browsers that playwright has installed.
    readable = [_HOST, owner / ".cache" / "ms-playwright", *settings.certificates]
    if server.folder is not None:
        readable.append(server.folder)
    if python is not None:
        readable.append(python.parents[1])
    return Confinement(
        hidden=(settings.home, owner, login, CHECKOUT, *settings.key_files),
        readable=tuple(readable),
        writable=(server.data_dir, workspace),
    )
