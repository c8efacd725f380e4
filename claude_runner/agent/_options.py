"""The option set of a run: all of it explicit, since Claude Code's defaults are made for a person who watches."""

import os
import shlex
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from claude_runner.agent._environment import environment_of, kept, secrets_of
from claude_runner.agent._protocol import Order
from claude_runner.agent._sandbox import sandbox_settings
from claude_runner.config import Settings
from claude_runner.processes import guard_variables, guarded

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, SandboxSettings

CHECKOUT: Final = Path(__file__).resolve().parents[2]  # with server.py and .env
# Variables that name a file with a key in it.
_KEY_FILES: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLAUDE_CODE_CLIENT_KEY",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
MAX_TURNS: Final = 100
MAX_MESSAGE_BYTES: Final = 32 * 2**20  # one line of the CLI's output; its default of 1 MiB loses the run
# A bare `Read` or `Write` would lift the confinement to the folder; an `Edit` rule covers Write as well.
_RULES: Final = {
    "Read": "Read(./**)",
    "Glob": "Read(./**)",
    "Grep": "Read(./**)",
    "Write": "Edit(./**)",
    "Edit": "Edit(./**)",
    "NotebookEdit": "Edit(./**)",
}

# This machine's own services, which trust whoever speaks from it, and a cloud's metadata, which has its keys.
_NO_FETCHING: Final = tuple(
    f"WebFetch(domain:{host})"
    for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "169.254.169.254")  # noqa: S104 - nothing is bound
)


def options_of(
    order: Order, settings: Settings, launcher: Path, workspace: Path, note: Callable[[str], None]
) -> "ClaudeAgentOptions":
    """Return the options of a run.

    Args:
        order: What is to be done.
        settings: The server's.
        launcher: What to start: the CLI under its guard.
        workspace: A folder of the run's own, for temporary files.
        note: Takes each line of the CLI's standard error.
    """
    from claude_agent_sdk import ClaudeAgentOptions  # noqa: PLC0415 - half a second that only a run needs

    variables = environment_of(settings.environment, order.endpoint, settings.state, workspace, order.run_id)
    return ClaudeAgentOptions(
        model=order.endpoint.model if order.endpoint else order.model,
        system_prompt=order.instructions,
        cwd=order.folder,
        cli_path=launcher,
        env=variables | guard_variables(kept(variables), pid_file(workspace)),
        setting_sources=[],
        strict_mcp_config=True,
        tools=list(order.built_ins),
        allowed_tools=list(dict.fromkeys(_RULES.get(name, name) for name in order.built_ins)),
        disallowed_tools=list(_NO_FETCHING) if "WebFetch" in order.built_ins else [],
        permission_mode="dontAsk",
        sandbox=_sandbox(order, settings, workspace, variables),
        session_id=order.session_id,
        max_turns=MAX_TURNS,
        include_partial_messages=True,
        verbatim_prompts=True,  # else "@/path" in a prompt reads that file, and "/name" is a command
        max_buffer_size=MAX_MESSAGE_BYTES,
        stderr=note,
    )


def pid_file(workspace: Path) -> Path:
    """Return where the guard of the run writes its process id."""
    return workspace / "guard.pid"


def write_launcher(state: Path, cli: Path) -> Path:
    """Write the program that starts the CLI under its guard, and return its path.

    A script, since `cli_path` takes no arguments.
    """
    command = shlex.join(guarded([str(cli)]))
    launcher = state / "launcher"
    draft = state / f"launcher.{os.getpid()}"
    draft.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    draft.chmod(0o700)
    draft.replace(launcher)
    return launcher


def _sandbox(
    order: Order, settings: Settings, workspace: Path, variables: dict[str, str]
) -> "SandboxSettings | None":
    if "Bash" not in order.built_ins:
        return None
    home = Path(variables["HOME"])
    hidden = {settings.home, CHECKOUT, home, Path(variables["CLAUDE_SECURESTORAGE_CONFIG_DIR"])}
    hidden |= {Path(settings.environment[name]) for name in _KEY_FILES if settings.environment.get(name)}
    wanted = sandbox_settings([order.folder, workspace], sorted(hidden), sorted(secrets_of(variables)))
    return cast("SandboxSettings", wanted)  # the SDK passes it on whole; its type lacks the newer keys


class StderrTail:
    """The last lines of a CLI's standard error: where it says why it did not start."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=40)

    def note(self, line: str) -> None:
        """Take a line."""
        self._lines.append(line[:500])

    def text(self) -> str:
        """Return the lines, joined."""
        return "\n".join(self._lines)
