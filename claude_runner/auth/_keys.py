"""The key that tokens are signed under: from the environment, else from a file that is made on first use."""

import hashlib
import hmac
import re
from typing import Final

from claude_runner.auth._secrets import new_secret
from claude_runner.config import Settings
from claude_runner.errors import UnavailableError, unusable
from claude_runner.keyfiles import read_key_file, write_key_file

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class SigningKey:
    """The key of a home."""

    def __init__(self, settings: Settings) -> None:
        self._given = settings.oauth_secret_key
        self._path = settings.state / "oauth.key"

    def read(self) -> str | None:
        """Return the key, `None` where there is none yet.

        Raises:
            UnavailableError: The file can't be read, or holds something else.
        """
        if self._given is not None:
            return self._given
        try:
            text = read_key_file(
                self._path, "delete it and restart: clients then renew their access by themselves"
            )
        except OSError as error:
            raise unusable(error, self._path) from error
        if text is not None and not _KEY.fullmatch(text.strip()):
            raise UnavailableError(
                f"{self._path} holds something that is no key; delete it and restart to have one made"
            )
        return None if text is None else text.strip()

    def made(self) -> str:
        """Return the key, making it where there is none; only under the write lock, so that it is made once.

        Raises:
            UnavailableError: The file can't be used.
        """
        if (key := self.read()) is not None:
            return key
        key = new_secret()
        try:
            write_key_file(self._path, key + "\n")
        except OSError as error:
            raise unusable(error, self._path) from error
        return key


def derived(key: str, purpose: str) -> bytes:
    """Return a key of 256 bits for another purpose, of which neither tells the other (HMAC as in RFC 5869)."""
    return hmac.digest(key.encode(), f"claude-runner: {purpose}".encode(), hashlib.sha256)
