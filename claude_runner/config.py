"""What the environment decides, read once, and the clock: the two things the outside world passes in.

`VARIABLES` is the one list of the environment variables that are read; a test compares the README and
`.env.example` with it.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from claude_runner.errors import InvalidError

CHECKOUT: Final = Path(__file__).resolve().parents[1]  # the folder of server.py, and of .env
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
LOOPBACK: Final = ("127.0.0.1", "::1")
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
    Variable(
        "MCP_TRANSPORT",
        "both",
        "`stdio`, `sse` (the HTTP site, with SSE and Streamable HTTP) or `both`; `stdio` opens no port",
    ),
    Variable("HOST", "127.0.0.1", "address the HTTP site listens on"),
    Variable("PORT", "8080", "port the HTTP site listens on"),
    Variable(
        "PUBLIC_URL",
        "–",
        "base of every URL that leaves the machine, such as `https://runner.example.org`; before the tunnel's URL,"
        " before the setting `webhook_base_url`",
    ),
    Variable(
        "DASHBOARD_USERNAME",
        "–",
        "the owner's name in the browser; without name and password only a browser on this machine is served. Both are"
        " needed where HOST is not this machine alone, with PUBLIC_URL and with NGROK_AUTHTOKEN",
    ),
    Variable("DASHBOARD_PASSWORD", "–", "the owner's password in the browser"),
    Variable(
        "OAUTH_CLIENT_ID",
        "made on first run",
        "id of the client to type in at claude.ai; without it one is made and printed once",
    ),
    Variable("OAUTH_CLIENT_SECRET", "made on first run", "the client's secret"),
    Variable(
        "OAUTH_SECRET_KEY",
        "made on first use",
        "key that access tokens are signed under, at least 32 characters; without it the key is in"
        " `.claude-runner/oauth.key`",
    ),
    Variable(
        "OAUTH_TOKEN_HOURS",
        "8",
        "how many hours an access token is good for, 1 to 168; clients renew theirs without asking",
    ),
    Variable("NGROK_AUTHTOKEN", "–", "opens an ngrok tunnel to the site at start and uses its URL"),
    Variable(
        "TRUSTED_PROXIES",
        "127.0.0.1, ::1",
        "addresses or networks of the proxies whose forwarded headers are believed, separated by commas",
    ),
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


class Login(NamedTuple):
    """A name and the secret that goes with it; the secret never shows where it is printed."""

    name: str
    secret: str

    def __repr__(self) -> str:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Return the name alone."""
        return f"Login({self.name!r})"


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings, fixed for the life of the process.

    Attributes:
        home: Folder of `jobs.db`, `claude_playground/` and what else the server keeps.
        max_concurrent_runs: Claude Code processes at a time, at least 1.
        shutdown_grace_seconds: Seconds that running runs get once the server is told to stop.
        rehearsal: Whether every run goes to the embedded stand-in model, as in the demo.
        public_url: Base of every URL that leaves the machine, without a slash at its end.
        dashboard: The owner's login in the browser; `None` where only a browser on this machine is served.
        oauth_client: Id and secret of the client that the owner chose; `None` where one is made.
        oauth_secret_key: What access tokens are signed under; `None` where it is kept in a file.
        oauth_token_hours: How long an access token is good for.
        trusted_proxies: Addresses and networks whose forwarded headers are believed.
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
    public_url: str | None = None
    dashboard: Login | None = None
    oauth_client: Login | None = field(default=None, repr=False)
    oauth_secret_key: str | None = field(default=None, repr=False)
    oauth_token_hours: int = 8
    ngrok_authtoken: str | None = field(default=None, repr=False)
    trusted_proxies: tuple[str, ...] = LOOPBACK
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
        host = given.get("HOST", LOOPBACK[0]).strip()
        public_url = _base_url(given, "PUBLIC_URL")
        dashboard = _login(given, "DASHBOARD_USERNAME", "DASHBOARD_PASSWORD")
        transport = Transport(_choice(given, "MCP_TRANSPORT", "both", tuple(Transport)))
        if transport is not Transport.STDIO and dashboard is None:
            _refuse_open_door(host, public_url)
        try:
            home = Path(given.get("RUNNER_HOME", default_home)).expanduser().resolve()
        except RuntimeError as error:  # a `~user` that there is none of
            raise InvalidError(f"RUNNER_HOME is not a folder: {error}", field="RUNNER_HOME") from error
        return cls(
            home=home,
            transport=transport,
            host=host,
            port=_whole_number(given, "PORT", 8080, 1, 65535),
            max_concurrent_runs=_whole_number(given, "MAX_CONCURRENT_RUNS", default_concurrency(), 1, 1000),
            shutdown_grace_seconds=_whole_number(given, "SHUTDOWN_GRACE_SECONDS", 5, 0, 3600),
            exit_on_eof=_choice(given, "EXIT_ON_EOF", "1", ("0", "1")) == "1",
            log_level=_choice(
                given, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"), fold=str.upper
            ),
            public_url=public_url,
            dashboard=dashboard,
            oauth_client=_login(given, "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"),
            oauth_secret_key=_long_enough(given, "OAUTH_SECRET_KEY", 32),
            oauth_token_hours=_whole_number(given, "OAUTH_TOKEN_HOURS", 8, 1, 168),
            ngrok_authtoken=given.get("NGROK_AUTHTOKEN", "").strip() or None,
            trusted_proxies=_networks(given, "TRUSTED_PROXIES", LOOPBACK),
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


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's own, which nobody else reaches (RFC 6761, section 6.3)."""
    name = host.strip("[]").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(name).is_loopback
    return False


def _login(given: Mapping[str, str], name: str, secret: str) -> Login | None:
    if (name in given) != (secret in given):
        there, missing = (name, secret) if name in given else (secret, name)
        raise InvalidError(f"{there} is set and {missing} is not; set both or neither", field=missing)
    return Login(given[name].strip(), given[secret]) if name in given else None


def _long_enough(given: Mapping[str, str], name: str, least: int) -> str | None:
    value = given.get(name)
    if value is not None and len(value) < least:
        raise InvalidError(f"{name} has {len(value)} characters; it needs at least {least}", field=name)
    return value


def _base_url(given: Mapping[str, str], name: str) -> str | None:
    """Return an http or https URL of a host alone, without a slash at its end."""
    text = given.get(name)
    if text is None:
        return None
    with suppress(ValueError):  # a port that is no number
        url = urlsplit(text.strip())
        plain = url.username is None and url.path in {"", "/"} and not url.query and not url.fragment
        if url.scheme in {"http", "https"} and url.hostname and url.port != 0 and plain:
            return f"{url.scheme}://{url.netloc.lower()}"
    raise InvalidError(f"{name} is {text!r}; it must be like https://runner.example.org", field=name)


def _networks(given: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    text = given.get(name)
    networks = default if text is None else tuple(text.replace(",", " ").split())
    for network in networks:
        try:
            ip_network(network)
        except ValueError as error:
            raise InvalidError(f"{name} has {network!r}; it takes addresses and networks", field=name) from error
    return networks


def _refuse_open_door(host: str, public_url: str | None) -> None:
    """Raise `InvalidError` where others could reach the site and nobody would have to log in."""
    if public_url is not None:
        why = f"PUBLIC_URL is {public_url}"
    elif not is_loopback(host):
        why = f"HOST is {host}, which others can reach"
    else:
        return
    raise InvalidError(
        f"{why}, so the site needs a login: set DASHBOARD_USERNAME and DASHBOARD_PASSWORD",
        field="DASHBOARD_PASSWORD",
    )


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
