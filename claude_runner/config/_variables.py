"""The one list of the environment variables that are read; a test compares the README and `.env.example` with it."""

from dataclasses import dataclass
from typing import Final


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
        "none",
        "base of every URL that leaves the machine, such as `https://runner.example.org`; before the tunnel's URL,"
        " before the setting `webhook_base_url`",
    ),
    Variable(
        "DASHBOARD_USERNAME",
        "none",
        "the owner's name in the browser; without name and password only a browser on this machine is served. Both are"
        " needed where HOST is not this machine alone, with PUBLIC_URL and with NGROK_AUTHTOKEN",
    ),
    Variable("DASHBOARD_PASSWORD", "none", "the owner's password in the browser"),
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
    Variable("NGROK_AUTHTOKEN", "none", "opens an ngrok tunnel to the site at start and uses its URL"),
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
