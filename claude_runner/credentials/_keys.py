"""The keys that seal and open: from the environment, else from a file that is made when it is first needed.

The file is changed only while the database's write lock is held, so two processes of a home never change it at once.
"""

import re
from typing import Final

from claude_runner.config import Settings
from claude_runner.errors import UnavailableError
from claude_runner.keyfiles import read_key_file, write_key_file

VARIABLE: Final = "CREDENTIALS_KEY"

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")


class KeyRing:
    """The keys of a home, read anew each time: another process may have rotated them.

    Attributes:
        path: The file, which is not used where the environment has keys.
        place: Where the keys are, as sentences name it.
    """

    def __init__(self, settings: Settings) -> None:
        self._given = settings.environment.get(VARIABLE, "").strip()
        self.path = settings.state / "credentials.key"
        self.place = VARIABLE if self._given else str(self.path)

    def keys(self) -> list[str]:
        """Return the keys: the first seals, all open. None where there is no file yet.

        Raises:
            UnavailableError: What is there is no key.
            OSError: The file can't be read.
        """
        if self._given:
            return self._checked(self._given.replace(",", " ").split())
        text = read_key_file(self.path, "run server.py --rotate-key and renew the credentials")
        return [] if text is None else self._checked(text.split())

    def keys_to_seal(self) -> list[str]:
        """Return the keys, of which there is at least one: it is made where there is no file yet."""
        return self.keys() or self._written([_new_key()])

    def renewed(self) -> list[str]:
        """Return the keys to seal with anew: those in the file after a new one, or those of the environment."""
        return self.keys() if self._given else self._written([_new_key(), *self.keys()])

    def forget_all_but(self, key: str) -> None:
        """Leave one key in the file, unless another has been put before it."""
        if not self._given and (keys := self.keys())[:1] == [key] and len(keys) > 1:
            self._written([key])

    def _checked(self, keys: list[str]) -> list[str]:
        if not keys or not all(map(_KEY.fullmatch, keys)):
            raise UnavailableError(
                f"{self.place} holds something that is no key; a key has 44 characters, as `python -c 'from"
                " cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'` prints it; put back the"
                " one that sealed the credentials"
            )
        return keys

    def _written(self, keys: list[str]) -> list[str]:
        """Put keys into the file, whole or not at all, and return them once they are on the disk."""
        write_key_file(self.path, "".join(f"{key}\n" for key in keys))
        return keys


def _new_key() -> str:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - imports much

    return Fernet.generate_key().decode()
