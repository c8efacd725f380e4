"""External servers: a program or a URL of somebody else's, as the setting `mcp_servers` lists them.

The setting is a JSON list of `{name, command, args, env_vars}` and `{name, url, headers}`, which its owner may edit by
hand. What it must not hold is secrets: they are taken out here, for the caller to seal.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from claude_runner.errors import InvalidError
from claude_runner.servers._names import check_name
from claude_runner.servers._records import Kind, Server, read_instant
from claude_runner.servers._variables import Variable, check_description, plain, read_variables

MAX_ARGUMENTS: Final = 100
MAX_LENGTH: Final = 4096  # characters of a program, an argument, a URL, a header's value

PLACEHOLDER: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,99})\}")  # a credential's name in a header
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,80}")  # a token, RFC 9110, section 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SECRET_FLAG: Final = re.compile(r"--?[\w-]*(?:key|secret|token|password)", re.ASCII | re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(
    r"(?:--?)?[\w-]*(?:key|secret|token|password)=[^$].*|authorization:\s*[^$\s].*", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ExternalDraft:
    """An external server as somebody adds it.

    Attributes:
        command: The program, by name or whole path, where it is one.
        args: What it is started with.
        url: Where it is reached, where it is not started here.
        headers: What is sent to the URL. A value may name credentials as `${NAME}`; any other is one itself.
        env_vars: Names, objects as in metadata.json, or values by name, which are credentials themselves.
    """

    name: str
    command: str | None = None
    args: Sequence[str] = ()
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    env_vars: Sequence[str | Mapping[str, Any]] | Mapping[str, str] = ()
    description: str = ""

    def entry(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what the setting is to hold, and the values by name that it must not.

        Raises:
            InvalidError: It can't be used; its field says what of it.
        """
        check_name(self.name)
        check_description(self.description)
        if (self.command is None) == (self.url is None):
            raise InvalidError("give either a command, with its args, or a url", field="command")
        variables, values = self._variables()
        entry: dict[str, Any] = {"name": self.name, "description": self.description}
        if self.url is None:
            _check_command(self.command or "", self.args)
            _refuse_secrets(self.args)
            if self.headers:
                raise InvalidError("headers go with a url, not with a command", field="headers")
            entry |= {"command": self.command, "args": list(self.args)}
        else:
            _check_url(self.url)
            if self.args:
                raise InvalidError("args go with a command, not with a url", field="args")
            headers, sealed = _sealed(self.headers)
            entry |= {"url": self.url, "headers": headers}
            values |= sealed
        return entry | {"env_vars": [variable.as_entry() for variable in variables]}, values

    def _variables(self) -> tuple[list[Variable], dict[str, str]]:
        if isinstance(self.env_vars, Mapping):
            values = {name: str(value) for name, value in self.env_vars.items()}
            return read_variables(list(values)), {name: value for name, value in values.items() if value}
        return read_variables(self.env_vars), {}


def read_external(setting: str | None, data: Path) -> list[Server]:
    """Read the servers of the setting; what is wrong with one is its `problem`.

    Args:
        setting: The JSON text, `None` where there is none.
        data: The folder of the folders for their files.
    """
    entries = entries_of(setting)
    if entries is None:
        return [_spoiled("mcp_servers", data, "the setting mcp_servers is not a JSON list; mend it")]
    return [_server(number, entry, data) for number, entry in enumerate(entries, start=1)]


def entries_of(setting: str | None) -> list[Any] | None:
    """Return the entries of the setting, `None` where it is no list."""
    if setting is None:
        return []
    try:
        entries = json.loads(setting)
    except (ValueError, RecursionError):
        return None
    return entries if isinstance(entries, list) else None


def _server(number: int, entry: object, data: Path) -> Server:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str):
        return _spoiled(
            f"mcp_servers-{number}", data, f"entry {number} of mcp_servers is no object with a name"
        )
    try:
        return _read(name, entry, data)
    except InvalidError as error:
        return _spoiled(plain(name)[:60], data, f"its entry in mcp_servers can't be used: {error}", entry)


def _read(name: str, entry: Mapping[str, Any], data: Path) -> Server:
    """Make a server of its entry; raises `InvalidError` where that can't be."""
    check_name(name)
    command, url = _command(entry), entry.get("url")
    if (command is None) == (url is None):
        raise InvalidError("it must have either a command or a url", field="command")
    if url is not None:
        _check_url(url)
    if isinstance(entry.get("env_vars"), Mapping):
        raise InvalidError(
            "env_vars must be a list of names; values are set with set_server_credential", field="env_vars"
        )
    headers = _headers(entry.get("headers") or {})
    started = json.dumps([command, url, headers], sort_keys=True)
    return Server(
        name=name,
        kind=Kind.EXTERNAL,
        data_dir=data / name,
        description=plain(entry.get("description")),
        enabled=entry.get("enabled", True) is True,
        variables=_with_placeholders(read_variables(entry.get("env_vars")), headers),
        per_run=entry.get("per_run") is True,
        command=command,
        url=url,
        headers=MappingProxyType(headers),
        created_at=read_instant(entry.get("created_at")),
        updated_at=read_instant(entry.get("updated_at")),
        fingerprint=hashlib.sha256(started.encode("utf-8", "replace")).hexdigest(),
    )


def _spoiled(name: str, data: Path, problem: str, entry: Mapping[str, Any] = MappingProxyType({})) -> Server:
    enabled = entry.get("enabled", bool(entry)) is True
    return Server(name, Kind.EXTERNAL, data / "unusable", enabled=enabled, problem=problem)


def _command(entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    program, args = entry.get("command"), entry.get("args") or []
    if program is None:
        return None
    if not isinstance(args, list):
        raise InvalidError("args must be a list of texts", field="args")
    _check_command(program, args)
    return (program, *args)


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise InvalidError("headers must be an object of texts", field="headers")
    names: set[str] = set()
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name) or name.lower() in names:
            raise InvalidError(
                f"{str(name)[:60]!r} is no name of a header, or is there twice", field="headers"
            )
        names.add(name.lower())
        _check_text(value, "headers", MAX_LENGTH, f"the value of {name}")
    return dict(headers)


def _with_placeholders(variables: list[Variable], headers: Mapping[str, str]) -> tuple[Variable, ...]:
    found = dict.fromkeys(name for value in headers.values() for name in PLACEHOLDER.findall(value))
    needed = {name: Variable(name, "sent in a header", sensitive=True) for name in found}
    return tuple((needed | {variable.name: variable for variable in variables}).values())


def _sealed(headers: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return headers that name credentials, and the values that they had."""
    named: dict[str, str] = {}
    values: dict[str, str] = {}
    for header, value in _headers(headers).items():
        if PLACEHOLDER.search(value) or not value.strip():
            named[header] = value
            continue
        name = "HEADER_" + re.sub(r"[^A-Z0-9]", "_", header.upper())
        while name in values:
            name += "_"
        named[header], values[name] = f"${{{name}}}", value
    return named, values


def _check_command(program: object, args: Sequence[object]) -> None:
    _check_text(program, "command", MAX_LENGTH)
    if not isinstance(program, str) or not program.strip():
        raise InvalidError("the command is empty; name a program, such as npx", field="command")
    if len(args) > MAX_ARGUMENTS:
        raise InvalidError(f"args has {len(args):,} entries; at most {MAX_ARGUMENTS} are taken", field="args")
    for argument in args:
        _check_text(argument, "args", MAX_LENGTH, "an argument")
    if program.startswith("/"):
        return
    if "/" in program:
        raise InvalidError(
            f"{program[:60]!r} is half a path; give a whole one or a program's name", field="command"
        )
    if any(it.isspace() for it in program):
        first, *rest = program.split()
        raise InvalidError(
            f"{program[:60]!r} is not one program; give the command {first!r} with the args {rest!r}"[:300],
            field="command",
        )


def _check_url(url: object) -> None:
    _check_text(url, "url", MAX_LENGTH)
    try:
        parts = urlsplit(str(url))
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable, parts = False, urlsplit("")
    if not usable or re.search(r"\s", str(url)):
        raise InvalidError(
            f"{str(url)[:60]!r} is no address of a server, such as https://example.com/mcp", field="url"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidError(
            "the url has a user name or password in it, which would be kept in the clear; give a header instead",
            field="url",
        )


def _refuse_secrets(args: Sequence[str]) -> None:
    """Refuse arguments that look like secrets: they would be kept in the clear, and every process could see them."""
    for argument, following in zip(args, [*args, "-"][1:], strict=True):
        flagged = _SECRET_FLAG.fullmatch(argument) and not following.startswith(("-", "$"))
        if flagged or _SECRET_VALUE.fullmatch(argument):
            name = re.split(r"[=:]", argument)[0]
            raise InvalidError(
                f"{name[:60]!r} in args seems to hold a secret, which would be kept in the clear; let the program take"
                " it from a variable, named in env_vars",
                field="args",
            )


def _check_text(value: object, field: str, most: int, what: str | None = None) -> None:
    if not isinstance(value, str) or len(value) > most or _CONTROL.search(value):
        raise InvalidError(
            f"{what or f'the {field}'} must be a text of at most {most:,} characters without control characters",
            field=field,
        )
