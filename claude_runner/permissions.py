"""What a run may do without asking, since nobody is there to be asked: a profile, by name.

`contained` works in its folder and runs shell commands in a sandbox with no way out. `rules` works in its folder and
runs the shell commands whose beginnings are named, outside of a sandbox. `full` may do whatever its user may.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.text_lists import no_list, read_list

MAX_COMMANDS: Final = 100
MAX_COMMAND: Final = 200

_EXAMPLE: Final = '["git status", "npm test"]'

# What joins, nests, redirects, expands or globs commands is not the beginning of one.
_COMMAND = re.compile(r"[A-Za-z0-9_./~+@%=,:-]+( [A-Za-z0-9_./~+@%=,:-]+)*", re.ASCII)
# Before the program's name, they change what is run under it.
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=", re.ASCII)

AS_ROOT: Final = (
    "the profile 'full' can't be used by root: Claude Code refuses it. Run the server as a user of its own; or, where "
    "the machine itself is a sandbox, such as a container, put IS_SANDBOX=1 into the server's environment"
)
IN_SANDBOX_MODE: Final = (
    "the profile 'full' lets a run do whatever the server's user may; it can be had only where the owner has set "
    "sandbox_mode to false"
)


class Profile(StrEnum):
    """A profile's name."""

    CONTAINED = "contained"
    RULES = "rules"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Rights:
    """What the owner has decided about profiles.

    Attributes:
        sandbox_mode: Whether no run may have the profile `full`.
        default: The profile of whatever names none.
    """

    sandbox_mode: bool
    default: Profile

    def granted(self, wanted: Profile | None, environment: Mapping[str, str]) -> Profile:
        """Return the profile that is had by whoever wants this one, or names none.

        Args:
            wanted: The profile, or `None` for the owner's default.
            environment: The server's.

        Raises:
            InvalidError: It may not be had here; the sentence says what to do.
        """
        profile = wanted or self.default
        if profile is Profile.FULL:
            if self.sandbox_mode:
                raise InvalidError(IN_SANDBOX_MODE, field="profile")
            if problem := root_problem(environment):
                raise InvalidError(problem, field="profile")
        return profile


def root_problem(environment: Mapping[str, str]) -> str | None:
    """Return why this process can't let a run do everything, `None` where it can.

    Claude Code refuses that to root, other than where the variable IS_SANDBOX says that the machine is a sandbox.
    """
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return AS_ROOT if as_root and environment.get("IS_SANDBOX") != "1" else None


def read_commands(value: Sequence[str] | str | None) -> tuple[str, ...]:
    """Read beginnings of shell commands: a list, a text that holds one as JSON, or nothing.

    Raises:
        InvalidError: It is neither, or an entry is not the beginning of one plain command.
    """
    items = read_list(value, "commands", MAX_COMMANDS, _EXAMPLE)
    return tuple(dict.fromkeys(_checked(item) for item in items))


def _checked(command: str) -> str:
    if len(command) > MAX_COMMAND or not _COMMAND.fullmatch(command) or _ASSIGNMENT.match(command):
        raise no_list(
            f"{command[:60]!r} is not the beginning of one plain command: words with single spaces between them, "
            "without quotes, assignments or signs that mean something to the shell",
            "commands",
            _EXAMPLE,
        )
    return command
