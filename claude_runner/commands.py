"""What `server.py` does besides serving: each makes a text, and ends."""

import sys

from claude_runner import notifications, webhooks
from claude_runner.addresses import Addresses
from claude_runner.auth import Auth
from claude_runner.client_config import Surface, client_config
from claude_runner.config import Settings, SystemClock
from claude_runner.credentials import Credentials
from claude_runner.db import open_database
from claude_runner.hub import Hub
from claude_runner.settings import StoredSettings


async def client_configuration(surface: Surface, command: tuple[str, ...], settings: Settings) -> str:
    """Return what a surface of Claude's is given to find this server, at the address that the site has now."""
    base = settings.public_url or f"http://localhost:{settings.port}"
    if surface is not Surface.DESKTOP and settings.database_path.exists():
        async with open_database(settings.database_path) as database:
            base = await Addresses(settings, StoredSettings(database)).base()
    return client_config(surface, command, base)


async def access_token(settings: Settings, url: str) -> str:
    """Return an access token that is good at a URL's site, at the site's own address where none is given.

    Raises:
        InvalidError: The URL is not one of this server's.
    """
    async with open_database(settings.database_path) as database:
        addresses, auth = Addresses(settings, StoredSettings(database)), Auth(database, Hub(), settings)
        now = SystemClock().now()
        async with auth.open():
            if (made := await auth.ensure_client(now)) is not None:
                print(made.frame, file=sys.stderr)  # noqa: T201 - it is shown this once, and never logged
            return await auth.personal_token(now, await addresses.named(url))


async def rotate_key(settings: Settings) -> str:
    """Seal the credentials anew and return a sentence about it."""
    async with open_database(settings.database_path) as database:
        credentials = Credentials(database, Hub(), settings)
        count = await credentials.rotate(webhooks.reseal, notifications.reseal)
    return f"sealed anew: {count} credential{'' if count == 1 else 's'}; the key is in {credentials.place}"
