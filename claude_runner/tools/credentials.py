"""Tools that give servers what lets them in elsewhere. No answer shows a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from claude_runner.credentials import Stored
from claude_runner.servers import Kind, Server, Variable
from claude_runner.tools._confirmation import Question
from claude_runner.tools._texts import iso
from claude_runner.tools._toolbox import ToolGroup, tool

# OpenAPI's and JSON Schema's words for what is not to be shown.
Secret = Annotated[str, Field(json_schema_extra={"format": "password", "writeOnly": True})]

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
class UnconfiguredServer:
    """A server that lacks credentials."""

    name: str
    kind: Kind
    enabled: bool
    description: str
    missing: list[str]


@dataclass(frozen=True, slots=True)
class UnconfiguredList:
    """The servers that lack credentials."""

    servers: list[UnconfiguredServer]
    total: int


@dataclass(frozen=True, slots=True)
class CredentialDeleted:
    """A credential that was deleted, and what the server lacks now."""

    deleted: bool
    server: str
    key: str
    ready: bool
    missing: list[str]


class CredentialTools(ToolGroup):
    """Credentials of tool servers."""

    @tool("Set a server's credential", destroys=True, repeatable=True)
    async def set_server_credential(self, server: str, key: str, value: Secret) -> CredentialSet:
        """Give a tool server an API key, a password or another setting; it takes the place of an earlier value.

        The value is kept sealed and is never shown again; the server's process finds it in the environment variable
        `key`, and no other server does. The answer tells whether the server is ready and what is still missing.

        Args:
            server: The server's name.
            key: The name of the environment variable, such as SENDGRID_API_KEY; list_required_credentials tells which.
            value: The value as it is, without quotes; it may have several lines, as a private key has.
        """
        described = await self.app.servers.get(server, "server")
        await self.app.credentials.set(server, key, value, self.app.clock.now())
        missing = described.missing(await self._values(server))
        tails = {it.key: it.tail for it in await self.app.credentials.stored(server)}
        return CredentialSet(
            server=server,
            key=key,
            configured=True,
            tail=tails.get(key),
            ready=not missing,
            missing=list(missing),
            warning=_warning(described, key, value),
        )

    @tool("Show a server's credentials", reads=True)
    async def get_server_credentials(self, server: str) -> CredentialList:
        """Show which credentials a server reads and which of them it has; never their values.

        Of a long value the last four characters are shown, so that it can be told from another.

        Args:
            server: The server's name.
        """
        described = await self.app.servers.get(server, "server")
        values = await self._values(server)
        stored = {it.key: it for it in await self.app.credentials.stored(server)}
        needed = _needed(described, values)
        declared = {it.name: it for it in described.variables}
        views = [
            self._view(key, declared.get(key), stored.get(key), required=key in needed)
            for key in (declared | stored)  # those that the server does not declare come last
        ]
        missing = described.missing(values)
        return CredentialList(server, not missing, list(missing), views, len(views))

    @tool("List what a server requires", reads=True)
    async def list_required_credentials(self, server: str) -> RequiredList:
        """List the credentials that a server can't do without, and which of them it has.

        What is required may depend on other settings: with another EMAIL_PROVIDER, email needs other keys. Those that
        it can do without are named in `optional`; get_server_credentials describes them.

        Args:
            server: The server's name.
        """
        described = await self.app.servers.get(server, "server")
        values = await self._values(server)
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

    @tool("List servers that lack credentials", reads=True)
    async def get_unconfigured_servers(self) -> UnconfiguredList:
        """List the tool servers that lack a required credential, enabled ones first, each with what is missing.

        Runs of a job that names tools of such a server fail before they begin; others go without it. Tell the user what
        to set.
        """
        values = await self.app.credentials.everything()
        lacking = [
            UnconfiguredServer(it.name, it.kind, it.enabled, it.description, list(missing))
            for it in await self.app.servers.list()
            if (missing := it.missing(values.get(it.name, {})))
        ]
        lacking.sort(key=lambda it: (not it.enabled, it.name))
        return UnconfiguredList(lacking, len(lacking))

    async def _deletion(self, server: str, key: str) -> Question | None:
        described = await self.app.servers.get(server, "server")
        stored = {it.key: it for it in await self.app.credentials.stored(server)}
        if key not in stored:
            return None
        left = {name: value for name, value in (await self._values(server)).items() if name != key}
        lacks = "" if key not in described.missing(left) else f" {server} can't do without it."
        return Question(
            f"Delete the credential {key} of the tool server {server}?{lacks}",
            f"{server} {key} {iso(stored[key].updated_at)}",
        )

    @tool("Delete a server's credential", destroys=True, asks=_deletion)
    async def delete_server_credential(self, server: str, key: str) -> CredentialDeleted:
        """Delete a credential of a server; the answer tells what the server lacks without it.

        Args:
            server: The server's name.
            key: The credential's name, as get_server_credentials shows it.
        """
        described = await self.app.servers.get(server, "server")
        await self.app.credentials.remove(server, key)
        missing = described.missing(await self._values(server))
        return CredentialDeleted(
            deleted=True, server=server, key=key, ready=not missing, missing=list(missing)
        )

    async def _values(self, server: str) -> Mapping[str, str]:
        """Return a server's values; one that can't be opened counts as missing."""
        return (await self.app.credentials.everything()).get(server, {})

    def _view(
        self, key: str, variable: Variable | None, stored: Stored | None, *, required: bool
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
            problem=f"it can't be opened with the keys in {self.app.credentials.place}; set it again"
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
