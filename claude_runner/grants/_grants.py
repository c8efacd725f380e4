"""The decision what a list of tools grants."""

from collections.abc import Sequence
from dataclasses import dataclass

from claude_runner.errors import InvalidError
from claude_runner.grants._names import BUILT_INS, full_name
from claude_runner.grants._servers import KnownServer, ServerGrant, Unavailable, named_servers, ready_servers
from claude_runner.permissions import Profile


@dataclass(frozen=True, slots=True)
class Grant:
    """The tools a run gets.

    Attributes:
        tools: The list as the job keeps it, each name in its full form; empty where the defaults apply.
        built_ins: Claude Code's own tools among them, or by default.
        warnings: A sentence for whatever was changed, left out or not found.
        profile: What the run may do with them without asking.
        servers: MCP servers among them, or by default.
        unavailable: MCP servers that are needed and are unknown, disabled or can't be started.
    """

    tools: tuple[str, ...]
    built_ins: tuple[str, ...]
    warnings: tuple[str, ...]
    profile: Profile = Profile.CONTAINED
    servers: tuple[ServerGrant, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()


def resolve(
    tools: Sequence[str],
    allowed: Sequence[str],
    sandbox_problem: str | None,
    *,
    profile: Profile = Profile.CONTAINED,
    commands: Sequence[str] = (),
    servers: Sequence[KnownServer] = (),
) -> Grant:
    """Decide what a list of tools grants.

    Args:
        tools: Names as `read_tools` gives them; empty for the defaults.
        allowed: The built-in tools the owner allows.
        sandbox_problem: Why shell commands can't be confined on this machine, or `None` where they can.
        profile: What runs may do without asking.
        commands: Beginnings of the shell commands that the profile `rules` grants.
        servers: The MCP servers there are.

    Raises:
        InvalidError: A tool named is one that may not or can't be granted.
    """
    no_bash = _no_bash(profile, commands, sandbox_problem)
    known = {server.name: server for server in servers}
    warnings: list[str] = []
    if tools:
        names = tuple(dict.fromkeys(full_name(tool, warnings) for tool in tools))
        for name in names:
            _refuse_what_cannot_be(name, allowed, sandbox_problem if profile is Profile.CONTAINED else None)
        built_ins = tuple(name for name in names if name in BUILT_INS)
        granted, unavailable = named_servers(names, known, warnings)
    else:
        names = ()
        built_ins = tuple(name for name in allowed if name in BUILT_INS)
        granted, unavailable = ready_servers(servers, warnings)
    if "Bash" in built_ins and no_bash is not None:
        built_ins = tuple(name for name in built_ins if name != "Bash")
        warnings.append(f"runs without Bash: {no_bash}")
    if commands and (profile is not Profile.RULES or "Bash" not in built_ins):
        warnings.append(
            "commands has no effect: it is for Bash under the profile 'rules', "
            f"and runs have {_had(profile, built_ins)}"
        )
    return Grant(names, built_ins, tuple(warnings), profile, granted, unavailable)


def _no_bash(profile: Profile, commands: Sequence[str], sandbox_problem: str | None) -> str | None:
    """Return why there is no Bash, `None` where there may be."""
    if profile is Profile.CONTAINED:
        return sandbox_problem
    if profile is Profile.RULES and not commands:
        return "the profile 'rules' grants just the commands that commands names, and it names none"
    return None


def _had(profile: Profile, built_ins: Sequence[str]) -> str:
    return (
        f"the profile '{profile}'"
        if profile is not Profile.RULES
        else f"{', '.join(built_ins) or 'no tools'}"
    )


def _refuse_what_cannot_be(name: str, allowed: Sequence[str], sandbox_problem: str | None) -> None:
    if "(" in name:
        raise InvalidError(
            f"'{name}' is a permission rule; tools takes names alone, such as '{name.partition('(')[0]}'; "
            "shell commands are granted by commands and the profile 'rules'",
            field="tools",
        )
    if name in BUILT_INS and name not in allowed:
        raise InvalidError(
            f"'{name}' is not among the allowed tools ({', '.join(allowed) or 'none'}); "
            "the setting allowed_tools decides which there are",
            field="tools",
        )
    if name == "Bash" and sandbox_problem is not None:
        raise InvalidError(f"Bash can't be granted: {sandbox_problem}", field="tools")
