"""What the environment decides, read once, and the clock: the two things the outside world passes in.

`VARIABLES` is the one list of the environment variables that are read; a test compares the README and
`.env.example` with it.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from claude_runner.errors import InvalidError

CHECKOUT: Final = Path(__file__).resolve().parents[1]  # the folder of server.py, and of .env
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
LOOK_AGAIN_SECONDS: Final = 5.0
MEMORY_PER_RUN_MIB: Final = 110  # private memory of one Claude Code process, measured with 2.1.330


class Transport(StrEnum):
    """How clients reach the server."""

    STDIO = "stdio"
    SSE = "sse"
    BOTH = "both"


# Variables that name a file with a key in it.
_KEY_FILES: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLAUDE_CODE_CLIENT_KEY",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
# Variables that name certificates to trust.
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable as the documentation shows it."""

    name: str
    default: str
    meaning: str


VARIABLES: Final = (
    Variable("MCP_TRANSPORT", "both", "`stdio`, `sse` (the HTTP site) or `both`; `stdio` opens no port"),
    Variable("HOST", "127.0.0.1", "address the HTTP site listens on"),
    Variable("PORT", "8080", "port the HTTP site listens on"),
    Variable(
        "RUNNER_HOME",
        "the folder of server.py",
        "where `jobs.db`, `dynamic_servers/` and `claude_playground/` live",
    ),
    Variable(
        "MAX_CONCURRENT_RUNS",
        "from cores and memory",
        "Claude Code processes at a time; further runs wait as `pending`",
    ),
    Variable(
        "SHUTDOWN_GRACE_SECONDS", "5", "how long running runs may go on once the server is told to stop"
    ),
    Variable("EXIT_ON_EOF", "1", "`0` keeps a `both` server running after its stdio client has gone"),
    Variable(
        "CREDENTIALS_KEY",
        "made on first use",
        "Fernet keys, separated by commas, that credentials are sealed under: the first seals, all open; without it the"
        " key is in `.claude-runner/credentials.key`",
    ),
    Variable(
        "LOG_LEVEL", "INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`; the log goes to standard error, always"
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings, fixed for the life of the process.

    Attributes:
        home: Folder of `jobs.db`, `claude_playground/` and what else the server keeps.
        max_concurrent_runs: Claude Code processes at a time, at least 1.
        shutdown_grace_seconds: Seconds that running runs get once the server is told to stop.
        rehearsal: Whether every run goes to the embedded stand-in model, as in the demo.
        environment: What the server was started with; the agent chooses from it what a run may see.
    """

    home: Path
    transport: Transport = Transport.BOTH
    host: str = "127.0.0.1"
    port: int = 8080
    max_concurrent_runs: int = 2
    shutdown_grace_seconds: float = 5.0
    exit_on_eof: bool = True
    log_level: str = "INFO"
    rehearsal: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def database_path(self) -> Path:
        """Return where the SQLite file is."""
        return self.home / "jobs.db"

    @property
    def playground(self) -> Path:
        """Return the folder that holds the jobs' working folders."""
        return self.home / "claude_playground"

    @property
    def state(self) -> Path:
        """Return the folder of what the server and the CLI keep for themselves, mode 0700."""
        return self.home / ".claude-runner"

    @property
    def owner_home(self) -> Path:
        """Return the home of the user whom the server runs as."""
        return Path(self.environment.get("HOME") or Path.home())

    @property
    def login(self) -> Path:
        """Return the folder in which the owner's own `claude` keeps its login."""
        return Path(self.environment.get("CLAUDE_CONFIG_DIR") or self.owner_home / ".claude")

    @property
    def certificates(self) -> tuple[Path, ...]:
        """Return the files and folders of certificates that programs are told to trust, wherever they lie."""
        return tuple(Path(self.environment[name]) for name in _CERTIFICATES if self.environment.get(name))

    @property
    def key_files(self) -> tuple[Path, ...]:
        """Return the files with keys that reach a model, which may lie anywhere."""
        return tuple(Path(self.environment[name]) for name in _KEY_FILES if self.environment.get(name))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], default_home: Path) -> "Settings":
        """Read the settings.

        Args:
            environment: Variables by name; empty values count as not given.
            default_home: The home where `RUNNER_HOME` is not given.

        Raises:
            InvalidError: A variable has a value that can't be used; its `field` is the variable's name.
        """
        given = {name: value for name, value in environment.items() if value.strip()}
        try:
            home = Path(given.get("RUNNER_HOME", default_home)).expanduser().resolve()
        except RuntimeError as error:  # a `~user` that there is none of
            raise InvalidError(f"RUNNER_HOME is not a folder: {error}", field="RUNNER_HOME") from error
        return cls(
            home=home,
            transport=Transport(_choice(given, "MCP_TRANSPORT", "both", tuple(Transport))),
            host=given.get("HOST", "127.0.0.1"),
            port=_whole_number(given, "PORT", 8080, 1, 65535),
            max_concurrent_runs=_whole_number(given, "MAX_CONCURRENT_RUNS", default_concurrency(), 1, 1000),
            shutdown_grace_seconds=_whole_number(given, "SHUTDOWN_GRACE_SECONDS", 5, 0, 3600),
            exit_on_eof=_choice(given, "EXIT_ON_EOF", "1", ("0", "1")) == "1",
            log_level=_choice(
                given, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"), fold=str.upper
            ),
            environment=MappingProxyType(dict(environment)),
        )


def default_concurrency() -> int:
    """Return how many runs this machine carries: four a core, in half of its memory."""
    cores = os.cpu_count() or 1
    try:
        memory_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    except (ValueError, OSError, AttributeError):  # a platform that does not tell
        return cores
    return max(1, min(4 * cores, memory_mib // 2 // MEMORY_PER_RUN_MIB))


def _choice(
    given: Mapping[str, str],
    name: str,
    default: str,
    choices: tuple[str, ...],
    fold: Callable[[str], str] = str.lower,
) -> str:
    value = fold(given.get(name, default).strip())
    if value not in choices:
        raise InvalidError(f"{name} is {value!r}; it must be one of {', '.join(choices)}", field=name)
    return value


def _whole_number(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = given.get(name, str(default)).strip()
    if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise InvalidError(f"{name} is {text!r}; it must be a whole number from {low} to {high}", field=name)
    return int(text)


class Clock(Protocol):
    """Where the time comes from; tests bring one that they move.

    The time of day may jump, forward and back, and does when a machine was suspended. What happens at an instant goes
    by `now`; how long something lasts goes by `elapsed`, which only ever runs on, while the machine does.
    """

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return the seconds since some moment in the past."""
        ...

    async def wait(self, event: asyncio.Event, until: datetime) -> None:
        """Return once the event is set or the instant has come; it may be earlier, so look again."""
        ...

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Return once the event is set or so many seconds have passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that reads it

    def elapsed(self) -> float:
        """Return the seconds since some moment in the past."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, until: datetime) -> None:
        """Return once the event is set or the instant has come.

        A timer does not notice that the time of day jumps or the machine sleeps, so it is set anew every few seconds;
        where the time of day was set back, it returns after as long as it looked to be in the beginning.
        """
        left = (until - self.now()).total_seconds()
        enough = self.elapsed() + left
        while left > 0 and not event.is_set():
            await self.pause(event, min(left, LOOK_AGAIN_SECONDS))
            left = min((until - self.now()).total_seconds(), enough - self.elapsed())

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """Return once the event is set or so many seconds have passed."""
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
