"""Endpoints about the OAuth clients that the owner has let in; an id may be a URL, slashes and all."""

from dataclasses import dataclass

from claude_runner.auth import ClientRow
from claude_runner.errors import ConflictError
from claude_runner.views.instants import iso
from claude_runner.web.api._endpoints import EndpointGroup, endpoint


@dataclass(frozen=True, slots=True)
class ClientView:
    """A client of OAuth; `grants` are the logins that it has at this moment."""

    client_id: str
    name: str
    source: str
    redirect_uris: list[str]
    created_at: str
    consented_at: str | None
    last_used_at: str | None
    grants: int


@dataclass(frozen=True, slots=True)
class ClientList:
    """The clients that are known."""

    clients: list[ClientView]
    total: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """A client whose logins were all ended; `grants` of them were good till then."""

    revoked: bool
    client_id: str
    grants: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A client that is no longer known."""

    deleted: bool
    client_id: str


class ClientEndpoints(EndpointGroup):
    """Who may use the MCP tools over the network."""

    subject = "OAuth clients"

    @endpoint("GET /api/oauth-clients")
    async def list_oauth_clients(self) -> ClientList:
        """List the OAuth clients, with what each was given and when it last used it."""
        clients = [_view(client) for client in await self.app.auth.clients()]
        return ClientList(clients, len(clients))

    @endpoint("POST /api/oauth-clients/{client_id:path}/revoke")
    async def revoke_oauth_client(self, client_id: str) -> Revoked:
        """End all logins of a client; it has to ask the owner again."""
        taken = await self.app.auth.revoke_client(client_id, self.app.clock.now())
        return Revoked(revoked=True, client_id=client_id, grants=taken)

    @endpoint("DELETE /api/oauth-clients/{client_id:path}", ConflictError)
    async def forget_oauth_client(self, client_id: str) -> Forgotten:
        """End all logins of a client and forget it."""
        await self.app.auth.forget_client(client_id, self.app.clock.now())
        return Forgotten(deleted=True, client_id=client_id)


def _view(client: ClientRow) -> ClientView:
    return ClientView(
        client_id=client.client_id,
        name=client.name,
        source=client.source,
        redirect_uris=list(client.redirect_uris),
        created_at=client.created_at.isoformat(),
        consented_at=iso(client.consented_at),
        last_used_at=iso(client.last_used_at),
        grants=client.grants,
    )
