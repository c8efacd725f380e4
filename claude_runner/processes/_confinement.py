"""Keeps a program to its own files: bubblewrap around it, with its network left open.

What a shell command of a run may do is Claude Code's sandbox to see to; this is for tool servers, whose code a model
may have written. A confined one sees no other process, nothing in the folders that are hidden, and writes to its own.
"""

import functools
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

INSTALL: Final = "on Debian and Ubuntu: sudo apt-get install bubblewrap"
_NAMESPACES: Final = ("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL")
_SYSTEM: Final = ("--dev", "/dev", "--proc", "/proc")
# Sockets of the session's agents and buses, which act in the owner's name.
_ALWAYS_HIDDEN: Final = (Path("/run/user"),)


@functools.cache
def confinement_problem() -> str | None:
    """Return why tool servers can't be confined on this machine, and what to do; `None` where they can.

    It is tried, not guessed. The answer stands for the life of the process.
    """
    if sys.platform != "linux":
        return "tool servers can be confined on Linux only"
    if shutil.which("bwrap") is None:
        return f"bubblewrap is not installed ({INSTALL})"
    command = ["bwrap", *_NAMESPACES, "--ro-bind", "/", "/", *_SYSTEM, "true"]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - fixed
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    else:
        if trial.returncode == 0:
            return None
        said = trial.stderr.strip()
    return (
        f"bubblewrap can't confine programs here: {said[:200]} "
        "(user namespaces may be switched off; see the README's troubleshooting)"
    )


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a program may see and change of the machine's files.

    Attributes:
        hidden: Folders it finds empty, where what it writes is gone with it; and files it can't read.
        readable: What it may read although it lies in what is hidden.
        writable: What it may change, wherever it lies.
        rest_writable: Whether it may change all the rest of the machine as its user may, or only read it.
    """

    hidden: tuple[Path, ...]
    readable: tuple[Path, ...]
    writable: tuple[Path, ...]
    rest_writable: bool = False

    def command(self, program: Sequence[str]) -> list[str]:
        """Return the command that runs the program so."""
        command = [
            shutil.which("bwrap") or "bwrap",
            *_NAMESPACES,
            "--bind" if self.rest_writable else "--ro-bind",
            "/",
            "/",
            *_SYSTEM,
        ]
        # What is there for temporary files has those of others, so it is made anew inside.
        covered = _outermost((*self.hidden, *_ALWAYS_HIDDEN, Path("/tmp"), Path(tempfile.gettempdir())))  # noqa: S108
        for folder in covered:
            command += ["--tmpfs", str(folder)]
        shown = {(path, "--ro-bind") for path in (*self.readable, *_interpreter()) if path.exists()}
        shown |= {(path, "--bind") for path in self.writable if path.exists()}
        # Outer folders before what lies in them, else they would cover it again.
        for seen, option in sorted({(name, option) for path, option in shown for name in _names(path)}):
            if option == "--bind" or any(seen.is_relative_to(folder) for folder in covered):
                command += [option, str(seen.resolve()), str(seen)]
        for file in (path.resolve() for path in self.hidden if path.is_file()):
            if not any(file.is_relative_to(folder) for folder in covered):
                command += ["--ro-bind", "/dev/null", str(file)]
        return [*command, "--", *program]


@functools.cache
def _interpreter() -> tuple[Path, ...]:
    """Return the folders that this Python and its packages are in."""
    paths = {Path(sys.prefix), Path(sys.base_prefix), *map(Path, sysconfig.get_paths().values())}
    return (*paths, Path(sys.executable).resolve().parent)


def _names(path: Path) -> set[Path]:
    """Return the path as it was given, and as it is without symbolic links: either may be asked for."""
    return {path.absolute(), path.resolve()}


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the folders there are, each once, without those inside of others."""
    found: list[Path] = []
    for path in sorted({path.resolve() for path in paths}):
        if path.is_dir() and path != Path("/") and not any(path.is_relative_to(outer) for outer in found):
            found.append(path)
    return found
