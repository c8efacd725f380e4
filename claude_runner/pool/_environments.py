"""Environments of their own for servers that declare packages that ours lacks (PEP 723); off unless the owner allows.

An environment is made once for each set of declarations and shared by all who declare the same. Of an index only
wheels are installed. What is declared by its address, also by a package that is installed, may be built, which runs its
code: that sees and changes no more than a server does, where programs can be confined.
"""

import asyncio
import contextlib
import hashlib
import json
import platform
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import unquote

from claude_runner.config import CHECKOUT, Settings
from claude_runner.errors import ServerFailedError, unusable
from claude_runner.processes import NETWORK, Confinement, confinement_problem, guard_variables, guarded
from claude_runner.servers import Server

if TYPE_CHECKING:
    from packaging.requirements import Requirement

INSTALL_SECONDS: Final = 300.0
MAX_SAID: Final = 600
# pip's own settings, such as an index of the owner's, reach it; nothing else does.
_PASSED_ON: Final = ("PATH", "HOME", "LANG", *NETWORK)


class Environments:
    """The environments under the server's own folder."""

    def __init__(self, settings: Settings, allowed: Callable[[], Awaitable[bool]]) -> None:
        """Make a maker of environments.

        Args:
            settings: Ours.
            allowed: Tells whether the owner lets packages be installed.
        """
        self._settings = settings
        self._allowed = allowed
        self._making = asyncio.Lock()

    async def python_for(self, server: Server) -> Path | None:
        """Return the interpreter that a server needs, `None` where ours will do.

        Raises:
            ServerFailedError: It needs another Python, or packages that may not or can't be installed.
        """
        if server.requires_python is None and not server.dependencies:
            return None
        lacking = await asyncio.to_thread(_lacking, server)
        if not lacking:
            return None
        if not await self._allowed():
            raise ServerFailedError(
                f"{server.name} declares packages that are not here ({', '.join(lacking)}), and none may be installed: "
                "the owner can allow it by the setting install_dependencies, or the code does without"
            )
        folder = self._settings.state / "environments" / _key(server.dependencies)
        async with self._making:
            if not folder.exists():
                await self._make(folder, server)
        return folder / "bin" / "python"

    async def _make(self, folder: Path, server: Server) -> None:
        draft = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._run(server, sys.executable, "-I", "-m", "venv", "--without-pip", str(draft))
            python = str(draft / "bin" / "python")
            options = ("--disable-pip-version-check", "--no-input", "--quiet", "--only-binary", ":all:")
            pip = (sys.executable, "-I", "-m", "pip", "--python", python)
            install = (*pip, "install", *options, *server.dependencies)
            await self._run(server, *self._confined(install, draft, server))
            await asyncio.to_thread(_keep, draft, folder)
        except OSError as error:
            raise unusable(error, folder) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def _confined(self, install: Sequence[str], draft: Path, server: Server) -> Sequence[str]:
        """Return the command of an installation that sees nothing of the owner's but how to install."""
        if confinement_problem() is not None:
            return install
        owner = self._settings.owner_home
        return Confinement(
            hidden=(self._settings.home, owner, self._settings.login, CHECKOUT, *self._settings.key_files),
            readable=(
                owner / ".config" / "pip",
                owner / ".pip",
                *self._settings.certificates,
                *_wheels(server.dependencies),
            ),
            writable=(draft,),
        ).command(install)

    async def _run(self, server: Server, *command: str) -> None:
        given = self._settings.environment
        variables = {
            name: value for name, value in given.items() if name in _PASSED_ON or name.startswith("PIP_")
        }
        process = await asyncio.create_subprocess_exec(
            *guarded(command),
            stdin=asyncio.subprocess.PIPE,  # held open while we live: its guard hears it close
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**variables, **guard_variables(variables)},
            start_new_session=True,
        )
        reading = asyncio.create_task(cast("asyncio.StreamReader", process.stderr).read())
        try:
            async with asyncio.timeout(INSTALL_SECONDS):
                code = await process.wait()
        except TimeoutError as error:
            raise ServerFailedError(
                f"the packages of {server.name} could not be installed within {INSTALL_SECONDS:g} seconds"
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()  # its guard does the rest
            await asyncio.wait({reading})
        if code != 0:
            said = " ".join(reading.result().decode("utf-8", "replace").split())
            raise ServerFailedError(f"the packages of {server.name} can't be installed: {said[-MAX_SAID:]}")


def _lacking(server: Server) -> list[str]:
    """Return the declared packages that ours does not satisfy.

    Raises:
        ServerFailedError: What is declared can't be read, or asks for another Python.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415 - few servers declare any
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - as above

    python = platform.python_version()
    try:
        if server.requires_python is not None and python not in SpecifierSet(server.requires_python):
            raise ServerFailedError(
                f"{server.name} declares Python {server.requires_python}, and this server runs on {python}"
            )
        wanted = [Requirement(declared) for declared in server.dependencies]
        here = [each for each in wanted if each.marker is None or each.marker.evaluate()]
    except (ValueError, LookupError) as error:  # each of the library's is one, and a marker has several
        wrong = " ".join(str(error).split())  # a picture of several lines
        raise ServerFailedError(f"what {server.name} declares to need can't be read: {wrong}") from error
    return [str(each) for each in here if not _has(each)]


def _wheels(dependencies: Sequence[str]) -> list[Path]:
    """Return the wheels on this machine that are declared by their address."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - few servers declare any

    addresses = [Requirement(declared).url or "" for declared in dependencies]
    paths = [Path(unquote(it.removeprefix("file://"))) for it in addresses if it.startswith("file:///")]
    return [path for path in paths if path.suffix == ".whl" and path.is_file()]


def _has(wanted: "Requirement") -> bool:
    if (
        wanted.url is not None or wanted.extras
    ):  # which version that is, and what an extra brings, is not looked into
        return False
    try:
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def _key(dependencies: Sequence[str]) -> str:
    """Return the name of the environment of these declarations, on this Python."""
    content = json.dumps([platform.python_version(), sys.prefix, sorted(dependencies)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _keep(draft: Path, folder: Path) -> None:
    """Let what a new environment does not have be found where we have it, such as FastMCP, and put it in its place."""
    paths = sysconfig.get_paths(vars={"base": str(draft), "platbase": str(draft)})
    ours = Path(paths["purelib"], "claude-runner.pth")
    if not ours.resolve().is_relative_to(
        draft.resolve()
    ):  # what was installed may have left links that lead out
        raise ServerFailedError(
            "the packages can't be used: they put a link in the place of their own folder"
        )
    ours.write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    if not folder.exists():  # another process of this home may have been first
        draft.replace(folder)
