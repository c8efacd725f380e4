"""What is told of servers that lack credentials."""

from dataclasses import dataclass

from claude_runner.app import App
from claude_runner.servers import Kind


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


async def unconfigured_list(app: App) -> UnconfiguredList:
    """Return the servers that lack a required credential, enabled ones first."""
    values = await app.credentials.everything()
    lacking = [
        UnconfiguredServer(it.name, it.kind, it.enabled, it.description, list(missing))
        for it in await app.servers.list()
        if (missing := it.missing(values.get(it.name, {})))
    ]
    lacking.sort(key=lambda it: (not it.enabled, it.name))
    return UnconfiguredList(lacking, len(lacking))
