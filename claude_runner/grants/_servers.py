"""MCP servers among the tools: which are had, which of their tools, and what they lack."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from claude_runner.grants._names import BUILT_INS, plain, server_tool, tool_name


class KnownServer(NamedTuple):
    """What is known of an MCP server before it is started.

    Attributes:
        tools: Names of its tools as it lists them; `None` where it was never started.
        missing: Credentials it requires and has not got.
        problem: Why it can't be started at all, in a sentence without a full stop.
    """

    name: str
    enabled: bool = True
    tools: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    problem: str | None = None


class ServerGrant(NamedTuple):
    """An MCP server that runs may reach; `tools` are the names it may call, `None` for all."""

    name: str
    tools: tuple[str, ...] | None = None


class Unavailable(NamedTuple):
    """An MCP server that runs need and can't have: they fail, as `why` says in a sentence."""

    name: str
    why: str


def ready_servers(
    servers: Sequence[KnownServer], warnings: list[str]
) -> tuple[tuple[ServerGrant, ...], tuple[Unavailable, ...]]:
    """Return the enabled servers and those of them that can't be started; who only lacks credentials is left out.

    A warning tells of each that is not granted.
    """
    ready, unavailable = [], []
    for server in servers:
        if not server.enabled:
            continue
        lack = _lack(server)
        if server.problem is not None:
            unavailable.append(
                Unavailable(server.name, f"the enabled server '{server.name}' is broken: {lack}")
            )
            warnings.append(unavailable[-1].why)
        elif lack is not None:
            warnings.append(f"runs without the server '{server.name}': {lack}")
        else:
            ready.append(ServerGrant(server.name))
    return tuple(ready), tuple(unavailable)


def _lack(server: KnownServer) -> str | None:
    if server.problem is not None:
        return server.problem
    if server.missing:
        first = server.missing[0]
        return (
            f"{', '.join(server.missing)} {'is' if len(server.missing) == 1 else 'are'} not set; "
            f"set_server_credential('{server.name}', '{first}', …) sets {'it' if len(server.missing) == 1 else 'one'}"
        )
    return None


def named_servers(
    names: Sequence[str], known: dict[str, KnownServer], warnings: list[str]
) -> tuple[tuple[ServerGrant, ...], tuple[Unavailable, ...]]:
    """Return the servers whose tools are named, and those of them that can't be had; a warning tells of each."""
    wanted: dict[str, list[str]] = {}
    for name in names:
        if (found := server_tool(name)) is not None:
            wanted.setdefault(found[0], []).append(found[1])
        elif name not in BUILT_INS:
            warnings.append(f"'{name}' is not a known tool; runs go without it{_closest(name, known)}")
    granted, unavailable = [], []
    for server, tools in wanted.items():
        had = _had(server, tools, known, warnings)
        if isinstance(had, ServerGrant):
            granted.append(had)
        else:
            unavailable.append(had)
            warnings.append(had.why)
    return tuple(granted), tuple(unavailable)


def _had(
    name: str, tools: Sequence[str], known: dict[str, KnownServer], warnings: list[str]
) -> ServerGrant | Unavailable:
    """Return what is granted of a server, with a warning for what is amiss with that, or why it can't be had."""
    server = known.get(name)
    if server is None:
        names = [tool_name(name, tool) for tool in tools]
        about = (
            f"'{each}' is not a tool of any server here, so runs fail{_closest(each, known)}"
            for each in names
        )
        return Unavailable(name, "; ".join(about))
    if not server.enabled:
        return Unavailable(
            name, f"the server '{name}' is disabled, so runs fail; enable it, or leave its tools out"
        )
    lack = _lack(server)
    if server.problem is not None:
        return Unavailable(name, f"the server '{name}' is broken, so runs fail: {lack}")
    if lack is not None:
        warnings.append(f"the server '{name}' can't do its work yet, so runs fail: {lack}")
    there_are = None if server.tools is None else set(map(plain, server.tools))
    for tool in tools:
        if tool != "*" and there_are is not None and tool not in there_are:
            full = tool_name(name, tool)
            warnings.append(
                f"the server '{name}' has no tool '{tool}', so runs fail{_closest(full, {name: server})}"
            )
    return ServerGrant(name, None if "*" in tools else tuple(tools))


def _closest(name: str, known: dict[str, KnownServer]) -> str:
    """Return a question after the names most like this one, empty where there are none."""
    candidates = {built_in.lower(): built_in for built_in in BUILT_INS}
    for server in known.values():
        candidates[server.name] = tool_name(server.name, "*")
        for tool in server.tools or ():
            full = tool_name(server.name, tool)
            candidates[full.lower()] = candidates[tool.lower()] = full
    close = difflib.get_close_matches(name.lower(), candidates, n=2, cutoff=0.75)
    suggestions = dict.fromkeys(candidates[candidate] for candidate in close)
    if not suggestions:
        return ""
    return f" (did you mean {' or '.join(map(repr, suggestions))}?)"
