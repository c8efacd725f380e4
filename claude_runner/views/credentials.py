"""What is told of servers' credentials: never a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from claude_runner.app import App
from claude_runner.credentials import Stored
from claude_runner.servers import Server, Variable
from claude_runner.views.instants import iso

_UNDECLARED: Final = Variable("", required=False, sensitive=True)


@dataclass(frozen=True, slots=True)
class CredentialSet:
    """A credential that was set, and what the server still lacks."""

    server: str
    key: str
    configured: bool
    tail: str | None
    ready: bool
    missing: list[str]
    warning: str | None


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A credential as it may be shown."""

    key: str
    configured: bool
    tail: str | None
    declared: bool
    required: bool
    sensitive: bool
    description: str
    default: str | None
    updated_at: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class CredentialList:
    """What a server declares and what it was given."""

    server: str
    ready: bool
    missing: list[str]
    credentials: list[CredentialView]
    total: int


@dataclass(frozen=True, slots=True)
class RequiredCredential:
    """A credential that a server can't do without."""

    key: str
    configured: bool
    sensitive: bool
    description: str


@dataclass(frozen=True, slots=True)
class RequiredList:
    """What a server needs as it is configured now; `optional` are the names of what it reads besides."""

    server: str
    ready: bool
    missing: list[str]
    credentials: list[RequiredCredential]
    total: int
    optional: list[str]


@dataclass(frozen=True, slots=True)
class CredentialDeleted:
    """A credential that was deleted, and what the server lacks now."""

    deleted: bool
    server: str
    key: str
    ready: bool
    missing: list[str]


async def set_credential(app: App, server: str, key: str, value: str) -> CredentialSet:
    """Give a server a credential, and return what it still lacks.

    Raises:
        InvalidError: The name of the server, the key or the value can't be used.
        NotFoundError: There is no such server.
        UnavailableError: The key that seals or the database can't be used.
    """
    described = await app.servers.get(server, "server")
    await app.credentials.set(server, key, value, app.clock.now())
    missing = described.missing(await _values(app, server))
    tails = {it.key: it.tail for it in await app.credentials.stored(server)}
    return CredentialSet(
        server=server,
        key=key,
        configured=True,
        tail=tails.get(key),
        ready=not missing,
        missing=list(missing),
        warning=_warning(described, key, value),
    )


async def credential_list(app: App, server: str) -> CredentialList:
    """Return what a server declares and what it was given; raises where there is no such server."""
    described = await app.servers.get(server, "server")
    values = await _values(app, server)
    stored = {it.key: it for it in await app.credentials.stored(server)}
    needed = _needed(described, values)
    declared = {it.name: it for it in described.variables}
    views = [
        _view(app, key, declared.get(key), stored.get(key), required=key in needed)
        for key in (declared | stored)  # those that the server does not declare come last
    ]
    missing = described.missing(values)
    return CredentialList(server, not missing, list(missing), views, len(views))


async def required_list(app: App, server: str) -> RequiredList:
    """Return what a server can't do without; raises where there is no such server."""
    described = await app.servers.get(server, "server")
    values = await _values(app, server)
    needed = _needed(described, values)
    required = [
        RequiredCredential(it.name, it.name in values, it.sensitive, it.description)
        for it in described.variables
        if it.name in needed
    ]
    return RequiredList(
        server=server,
        ready=not described.missing(values),
        missing=list(described.missing(values)),
        credentials=required,
        total=len(required),
        optional=[it.name for it in described.variables if it.name not in needed],
    )


async def remove_credential(app: App, server: str, key: str) -> CredentialDeleted:
    """Take a credential from a server, and return what it lacks then.

    Raises:
        InvalidError: No server can have this name.
        NotFoundError: There is no such server, or it has no such credential.
    """
    described = await app.servers.get(server, "server")
    await app.credentials.remove(server, key)
    missing = described.missing(await _values(app, server))
    return CredentialDeleted(deleted=True, server=server, key=key, ready=not missing, missing=list(missing))


async def _values(app: App, server: str) -> Mapping[str, str]:
    """Return a server's values; one that can't be opened counts as missing."""
    return (await app.credentials.everything()).get(server, {})


def _view(
    app: App, key: str, variable: Variable | None, stored: Stored | None, *, required: bool
) -> CredentialView:
    told = variable or _UNDECLARED
    closed = stored is not None and not stored.readable
    return CredentialView(
        key=key,
        configured=stored is not None and stored.readable,
        tail=None if stored is None else stored.tail,
        declared=variable is not None,
        required=required,
        sensitive=told.sensitive,
        description=told.description,
        default=told.default,
        updated_at=None if stored is None else iso(stored.updated_at),
        problem=f"it can't be opened with the keys in {app.credentials.place}; set it again"
        if closed
        else None,
    )


def _needed(server: Server, values: Mapping[str, str]) -> set[str]:
    """Return what the server can't do without: what it would lack if only that were taken away."""
    return {
        it.name
        for it in server.variables
        if it.name in server.missing({key: value for key, value in values.items() if key != it.name})
    }


def _warning(server: Server, key: str, value: str) -> str | None:
    declared = [it.name for it in server.variables]
    warnings = []
    if key not in declared:
        what = f"only {', '.join(declared)}" if declared else "no credential at all"
        warnings.append(
            f"{server.name} declares {what}: check the name {key}, unless you know that its code reads it"
        )
    if value != value.strip() and len(value.splitlines()) == 1:
        warnings.append("the value has white space around it, which is kept")
    return "; ".join(warnings) or None
