"""The option set of a run: all of it explicit, since Claude Code's defaults are made for a person who watches."""

import os
import re
import shlex
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from claude_runner.agent._environment import environment_of, kept, secrets_of
from claude_runner.agent._prices import is_listed
from claude_runner.agent._protocol import Order
from claude_runner.agent._sandbox import sandbox_settings
from claude_runner.agent._sessions import KeptSessions, as_store
from claude_runner.agent._shell import write_shell
from claude_runner.config import CHECKOUT, Settings
from claude_runner.permissions import Profile
from claude_runner.processes import Confinement, guard_variables, guarded

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, SandboxSettings

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
    order: Order,
    settings: Settings,
    launcher: Path,
    workspace: Path,
    sessions: KeptSessions | None,
    note: Callable[[str], None],
) -> "ClaudeAgentOptions":
    """Return the options of a run, for which a program is written to start its shell commands with.

    Args:
        order: What is to be done.
        settings: The server's.
        launcher: What to start: the CLI under its guard.
        workspace: A folder of the run's own, for temporary files.
        sessions: Where a copy of its session is kept, if it is.
        note: Takes each line of the CLI's standard error.
    """
    from claude_agent_sdk import ClaudeAgentOptions  # noqa: PLC0415 - half a second that only a run needs

    variables = environment_of(settings, order.endpoint, workspace, order.run_id)
    variables |= _of_profile(order, settings, variables, workspace)
    free = order.profile is Profile.FULL
    return ClaudeAgentOptions(
        model=(order.endpoint and order.endpoint.model) or order.model,
        system_prompt=order.instructions,
        cwd=order.folder,
        cli_path=launcher,
        env=variables | guard_variables(kept(variables), pid_file(workspace)),
        setting_sources=[],
        strict_mcp_config=True,
        tools=list(order.built_ins),
        allowed_tools=[] if free else _rules(order),
        disallowed_tools=list(_NO_FETCHING) if "WebFetch" in order.built_ins and not free else [],
        permission_mode="bypassPermissions" if free else "dontAsk",
        sandbox=_sandbox(order, settings, workspace, variables),
        # By path: on the command line everybody on the machine could read the tokens in it.
        mcp_servers={} if order.mcp_config is None else order.mcp_config,
        session_id=None if order.resumes else order.session_id,
        resume=order.session_id if order.resumes else None,
        session_store=as_store(sessions),
        session_store_flush="batched" if sessions is None else "eager",
        max_budget_usd=_bound(order, variables),
        extra_args={} if order.kept else {"no-session-persistence": None},
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


def shell_file(state: Path, run_id: str) -> Path:
    """Return where the program is that starts a run's shell commands: not with its files, which they can change."""
    return state / f"shell-{run_id}"


def _bound(order: Order, variables: Mapping[str, str]) -> float | None:
    """Return what Claude Code is to stop at; nothing where it would take the model for another, and count wrongly."""
    asked = order.model or variables.get("ANTHROPIC_MODEL") or "default"
    renamed = [name for key, name in variables.items() if re.fullmatch(r"ANTHROPIC_.*_MODEL", key)]
    known = all(is_listed(name, order.prices) for name in (asked, *renamed))
    return order.max_cost_usd if known and order.endpoint is None else None


def _rules(order: Order) -> list[str]:
    """Return what Claude Code need not ask about."""
    rules: list[str] = []
    for name in order.built_ins:
        if name == "Bash" and order.profile is Profile.RULES:
            rules += [f"Bash({command}:*)" for command in order.commands]
        else:
            rules.append(_RULES.get(name, name))
    return list(dict.fromkeys((*rules, *order.mcp_tools)))


def _of_profile(
    order: Order, settings: Settings, variables: dict[str, str], workspace: Path
) -> dict[str, str]:
    """Return the variables that a run gets for its profile: what starts its shell commands outside of a sandbox."""
    if order.profile is Profile.CONTAINED:
        return {}
    chosen = {}
    if order.profile is Profile.FULL and "IS_SANDBOX" in settings.environment:
        chosen["IS_SANDBOX"] = settings.environment["IS_SANDBOX"]  # else Claude Code refuses it to root
    if "Bash" in order.built_ins:
        confinement = None if order.profile is Profile.FULL else _confinement(order, settings, workspace)
        shell = shell_file(settings.state, order.run_id)
        write_shell(shell, sorted(secrets_of(variables)), confinement)
        chosen["CLAUDE_CODE_SHELL_PREFIX"] = str(shell)
    return chosen


def _confinement(order: Order, settings: Settings, workspace: Path) -> Confinement:
    """Return what named commands may not see: the server's own files, other jobs' folders, and the owner's login."""
    snapshots = settings.state / "claude" / "shell-snapshots"  # what the CLI starts a shell with
    snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Confinement(
        hidden=(settings.home, CHECKOUT, settings.login, *settings.key_files),
        readable=(snapshots,),
        writable=(order.folder, workspace),
        rest_writable=True,
    )


def _sandbox(
    order: Order, settings: Settings, workspace: Path, variables: dict[str, str]
) -> "SandboxSettings | None":
    if "Bash" not in order.built_ins or order.profile is not Profile.CONTAINED:
        return None
    hidden = {settings.home, CHECKOUT, settings.owner_home, settings.login, *settings.key_files}
    hidden.add(Path(tempfile.gettempdir()))  # with those of other runs and of tool servers
    wanted = sandbox_settings([order.folder, workspace], sorted(hidden), sorted(secrets_of(variables)))
    return cast("SandboxSettings", wanted)  # the SDK passes it on whole; its type lacks the newer keys


class StderrTail:
    """The last lines of a CLI's standard error: where it says why it did not start."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=40)

    def note(self, line: str) -> None:
        """Take a line; one that is longer than any message is told by its length: cut, it might be half a secret."""
        self._lines.append(line if len(line) <= 1000 else f"(a line of {len(line):,} characters)")

    def text(self) -> str:
        """Return the lines, joined."""
        return "\n".join(self._lines)
