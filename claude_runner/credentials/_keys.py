"""The keys that seal and open: from the environment, else from a file that is made when it is first needed.

The file is changed only while the database's write lock is held, so two processes of a home never change it at once.
"""

import logging
import os
import re
import stat
from contextlib import suppress
from typing import Final

from claude_runner.config import Settings
from claude_runner.errors import UnavailableError

VARIABLE: Final = "CREDENTIALS_KEY"
OWNER_ONLY: Final = 0o600

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{43}=")

log = logging.getLogger(__name__)


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
        try:
            with self.path.open("rb") as file:
                self._tighten(file.fileno())
                return self._checked(file.read().decode("ascii", "replace").split())
        except FileNotFoundError:
            return []

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

    def _tighten(self, descriptor: int) -> None:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & ~OWNER_ONLY:
            os.fchmod(descriptor, OWNER_ONLY)
            log.warning(
                "others could read %s; now its owner alone may: if they did, run server.py --rotate-key and renew the"
                " credentials",
                self.path,
            )

    def _written(self, keys: list[str]) -> list[str]:
        """Put keys into the file, whole or not at all, and return them once they are on the disk."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        part.unlink(missing_ok=True)  # left by a process that was killed
        try:
            descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.writelines(f"{key}\n" for key in keys)
                file.flush()
                os.fsync(descriptor)
            part.replace(self.path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        _flush_folder(self.path.parent)
        return keys


def _flush_folder(folder: os.PathLike[str]) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_key() -> str:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - imports much

    return Fernet.generate_key().decode()
