"""The server's settings, read from the environment once."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from claude_runner.config import _reading as read
from claude_runner.errors import InvalidError

CHECKOUT: Final = Path(__file__).resolve().parents[2]  # the folder of server.py, and of .env
LOOPBACK: Final = ("127.0.0.1", "::1")
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
        host = given.get("HOST", LOOPBACK[0]).strip().strip("[]")
        public_url = read.base_url(given, "PUBLIC_URL")
        dashboard = read.pair(given, "DASHBOARD_USERNAME", "DASHBOARD_PASSWORD")
        if dashboard is not None and ":" in dashboard[0]:  # RFC 7617, section 2
            raise InvalidError("DASHBOARD_USERNAME can't have a colon in it", field="DASHBOARD_USERNAME")
        client = read.pair(given, "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET")
        transport = Transport(read.choice(given, "MCP_TRANSPORT", "both", tuple(Transport)))
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
            port=read.whole_number(given, "PORT", 8080, 1, 65535),
            max_concurrent_runs=read.whole_number(
                given, "MAX_CONCURRENT_RUNS", default_concurrency(), 1, 1000
            ),
            shutdown_grace_seconds=read.whole_number(given, "SHUTDOWN_GRACE_SECONDS", 5, 0, 3600),
            exit_on_eof=read.choice(given, "EXIT_ON_EOF", "1", ("0", "1")) == "1",
            log_level=read.choice(
                given, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"), fold=str.upper
            ),
            public_url=public_url,
            dashboard=None if dashboard is None else Login(*dashboard),
            oauth_client=None if client is None else Login(*client),
            oauth_secret_key=read.long_enough(given, "OAUTH_SECRET_KEY", 32),
            oauth_token_hours=read.whole_number(given, "OAUTH_TOKEN_HOURS", 8, 1, 168),
            ngrok_authtoken=given.get("NGROK_AUTHTOKEN", "").strip() or None,
            trusted_proxies=read.networks(given, "TRUSTED_PROXIES", LOOPBACK),
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


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address is this machine's own, which nobody else reaches (RFC 6761, section 6.3)."""
    name = host.strip("[]").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return ip_address(name).is_loopback
    return False


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
