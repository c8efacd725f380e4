"""The sandbox that shell commands run in: bubblewrap on Linux, Seatbelt on macOS, both through the CLI."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

INSTALL = "on Debian and Ubuntu: sudo apt-get install bubblewrap socat"
# What the CLI does with it: namespaces of its own for processes and network, /proc anew.
_TRIAL = ("--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true")


@functools.cache
def sandbox_problem() -> str | None:
    """Return why shell commands can't be confined on this machine, and what to do; `None` where they can.

    It is tried, not guessed: a kernel may forbid namespaces to a bubblewrap that is installed. The answer stands
    for the life of the process.
    """
    if sys.platform == "darwin":
        return None  # Seatbelt is part of the system
    if sys.platform != "linux":
        return "shell commands can be confined on Linux and macOS only"
    missing = [name for name in ("bwrap", "socat") if shutil.which(name) is None]
    if missing:
        names = " and ".join("bubblewrap" if name == "bwrap" else name for name in missing)
        return f"shell commands run only inside a sandbox, and {names} is not installed ({INSTALL})"
    trial = subprocess.run(["bwrap", *_TRIAL], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603, S607 - as the CLI finds it
    if trial.returncode != 0:
        return (
            "shell commands run only inside a sandbox, and bubblewrap can't make one here: "
            f"{trial.stderr.strip()[:200]} (user namespaces may be switched off; see the README's troubleshooting)"
        )
    return None


def sandbox_settings(
    folders: list[Path], hidden_folders: list[Path], hidden_variables: list[str]
) -> dict[str, Any]:
    """Return the CLI's `sandbox` settings: no way out, no network, nothing to write to but the run's own.

    Args:
        folders: What commands may read and write.
        hidden_folders: What else they may not read; `folders` may lie in them.
        hidden_variables: What is taken out of their environment.
    """
    return {
        "enabled": True,
        "failIfUnavailable": True,
        "autoAllowBashIfSandboxed": True,
        "allowUnsandboxedCommands": False,
        "filesystem": {
            "denyRead": [str(hidden) for hidden in hidden_folders],
            "allowRead": [str(folder) for folder in folders],
            "allowWrite": [str(folder) for folder in folders],
        },
        "credentials": {"envVars": [{"name": name, "mode": "deny"} for name in hidden_variables]},
    }
