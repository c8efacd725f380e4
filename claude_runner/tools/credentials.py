"""Tools that give servers what lets them in elsewhere. No answer shows a value."""

from typing import Annotated

from pydantic import Field

from claude_runner.tools._confirmation import Question
from claude_runner.tools._toolbox import ToolGroup, tool
from claude_runner.views.credentials import (
    CredentialDeleted,
    CredentialList,
    CredentialSet,
    RequiredList,
    credential_list,
    remove_credential,
    required_list,
    set_credential,
)
from claude_runner.views.instants import iso
from claude_runner.views.unconfigured import UnconfiguredList, unconfigured_list

# OpenAPI's and JSON Schema's words for what is not to be shown.
Secret = Annotated[str, Field(json_schema_extra={"format": "password", "writeOnly": True})]


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
        return await set_credential(self.app, server, key, value)

    @tool("Show a server's credentials", reads=True)
    async def get_server_credentials(self, server: str) -> CredentialList:
        """Show which credentials a server reads and which of them it has; never their values.

        Of a long value the last four characters are shown, so that it can be told from another.

        Args:
            server: The server's name.
        """
        return await credential_list(self.app, server)

    @tool("List what a server requires", reads=True)
    async def list_required_credentials(self, server: str) -> RequiredList:
        """List the credentials that a server can't do without, and which of them it has.

        What is required may depend on other settings: with another EMAIL_PROVIDER, email needs other keys. Those that
        it can do without are named in `optional`; get_server_credentials describes them.

        Args:
            server: The server's name.
        """
        return await required_list(self.app, server)

    @tool("List servers that lack credentials", reads=True)
    async def get_unconfigured_servers(self) -> UnconfiguredList:
        """List the tool servers that lack a required credential, enabled ones first, each with what is missing.

        Runs of a job that names tools of such a server fail before they begin; others go without it. Tell the user what
        to set.
        """
        return await unconfigured_list(self.app)

    async def _deletion(self, server: str, key: str) -> Question | None:
        described = await self.app.servers.get(server, "server")
        stored = {it.key: it for it in await self.app.credentials.stored(server)}
        if key not in stored:
            return None
        values = (await self.app.credentials.everything()).get(server, {})
        left = {name: value for name, value in values.items() if name != key}
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
        return await remove_credential(self.app, server, key)
