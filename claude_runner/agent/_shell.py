"""What stands between a run's shell commands and the keys that reach a model, where no sandbox does.

Claude Code hands its own environment to every command. Its own remedy (CLAUDE_CODE_SUBPROCESS_ENV_SCRUB) also makes a
repository's files read-only to them and leaves empty ones behind, so commands are started by a script of ours. Under
the profile `rules` it shows them neither the server's files nor the owner's login nor other processes, where bubblewrap
works; elsewhere a program that is granted can read those.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from claude_runner.processes import Confinement, confinement_problem

# With them a command could speak to the CLI that started it.
_OF_THE_CLI: Final = ("CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_MESSAGING_TOKEN")


def write_shell(path: Path, secrets: Iterable[str], confinement: Confinement | None) -> None:
    """Write the program that Claude Code starts shell commands with.

    Args:
        path: Where to; its folder exists.
        secrets: Names of variables that commands do not get.
        confinement: What else is kept from them; `None` for nothing.
    """
    command = ["bash", "-c"]
    if confinement is not None and confinement_problem() is None:
        command = confinement.command(command)
    path.write_text(
        f'#!/bin/sh\nunset {shlex.join([*secrets, *_OF_THE_CLI])}\nexec {shlex.join(command)} "$1"\n',
        encoding="utf-8",
    )
    path.chmod(0o700)
