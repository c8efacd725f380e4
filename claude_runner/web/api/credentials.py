"""Endpoints about servers' credentials, whose values go in and never come out."""

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from claude_runner.views.credentials import (
    CredentialDeleted,
    CredentialList,
    CredentialSet,
    credential_list,
    remove_credential,
    set_credential,
)
from claude_runner.views.unconfigured import UnconfiguredList, unconfigured_list
from claude_runner.web.api._endpoints import EndpointGroup, endpoint


class Value(TypedDict):
    """A credential's value."""

    value: Annotated[
        str,
        Field(
            description="The value as it is; it is sealed and never shown.",
            json_schema_extra={"format": "password", "writeOnly": True},
        ),
    ]


class CredentialEndpoints(EndpointGroup):
    """Credentials of tool servers."""

    subject = "Credentials"

    @endpoint("GET /api/servers/{name}/credentials")
    async def list_credentials(self, name: str) -> CredentialList:
        """List the credentials that a server reads and which of them it has; never their values."""
        return await credential_list(self.app, name)

    @endpoint("PUT /api/servers/{name}/credentials/{key}")
    async def set_credential(self, name: str, key: str, body: Value) -> CredentialSet:
        """Give a server a credential, in place of an earlier value."""
        return await set_credential(self.app, name, key, body["value"])

    @endpoint("DELETE /api/servers/{name}/credentials/{key}")
    async def delete_credential(self, name: str, key: str) -> CredentialDeleted:
        """Delete a credential of a server."""
        return await remove_credential(self.app, name, key)

    @endpoint("GET /api/unconfigured-servers")
    async def list_unconfigured(self) -> UnconfiguredList:
        """List the servers that lack a required credential, enabled ones first."""
        return await unconfigured_list(self.app)
