"""What a program is started with: the command and variables that put it under its guard, and those for the network."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

# The variables by which a program finds its way out of this machine, and whom it trusts there.
NETWORK: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip
_GUARD: Final = Path(__file__).with_name("_guard.py")


def guarded(command: Sequence[str]) -> list[str]:
    """Return the command that starts a program under its guard.

    With this interpreter's full path, since the one found by name may be another.
    """
    return [sys.executable, "-I", "-S", str(_GUARD), *command]


def guard_variables(kept: Iterable[str], pid_file: Path | None = None) -> dict[str, str]:
    """Return what the guard reads from its environment.

    Args:
        kept: The names of the variables that the program gets; it gets no others.
        pid_file: Where the guard writes its process id.
    """
    variables = {"CLAUDE_RUNNER_KEEP": ",".join(kept)}
    return variables if pid_file is None else variables | {"CLAUDE_RUNNER_PID_FILE": str(pid_file)}
