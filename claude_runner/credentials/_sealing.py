"""Sealing: texts that only whoever has the keys can read, each bound to whose it is."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from claude_runner.config import Settings
from claude_runner.credentials._keys import KeyRing
from claude_runner.db import Connection, Database

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

# Opens what was sealed for an owner; `None` where no key opens it, or it was sealed for another.
Open = Callable[[Sequence[str], str], str | None]
# Seals anew what was sealed before; `None` where no key opens it.
Anew = Callable[[str], str | None]
# Seals all of a table anew and returns how many texts those were.
Reseal = Callable[[Connection, Anew], int]


class Sealing:
    """Seals texts of a home and opens them again.

    An owner is a few words that say whose a text is: where a row takes the place of another, its text does not open.
    """

    def __init__(self, settings: Settings) -> None:
        self._ring = KeyRing(settings)

    @property
    def place(self) -> str:
        """Return where the keys are: the name of the variable, or the path of the file."""
        return self._ring.place

    def seal(self, owner: Sequence[str], value: str) -> str:
        """Return the text sealed; a key is made where there is none yet.

        Called in a write of the database, so that no rotation comes between the key and the row.

        Raises:
            UnavailableError: What should be the key is none.
        """
        fernet = _fernet(self._ring.keys_to_seal())
        return fernet.encrypt(json.dumps([*owner, value]).encode()).decode()

    def opener(self) -> Open:
        """Return what opens sealed texts with the keys of this moment; another process may rotate them.

        Raises:
            UnavailableError: What should be the key is none.
        """
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - imports much

        keys = self._ring.keys()
        fernet = _fernet(keys) if keys else None

        def opened(owner: Sequence[str], sealed: str) -> str | None:
            if fernet is None:
                return None
            try:
                content = json.loads(fernet.decrypt(sealed.encode()))
            except (InvalidToken, ValueError):
                return None
            match content:
                case [*of, str(value)] if of == list(owner):
                    return value
            return None

        return opened

    async def rotate(self, database: Database, parts: Sequence[Reseal]) -> int:
        """Seal everything anew and return how many texts; servers may run meanwhile, and a crash loses nothing.

        With keys in the environment, the first of them seals; else a new one is made, and those in the file before
        are forgotten once everything is sealed under the new one. What can't be opened stays as it is.

        Raises:
            UnavailableError: The keys or the database can't be used.
        """
        first, count = await database.write(lambda c: self._reseal(c, parts))
        await database.write(lambda _: self._ring.forget_all_but(first))
        return count

    def _reseal(self, c: Connection, parts: Sequence[Reseal]) -> tuple[str, int]:
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - imports much

        keys = self._ring.renewed()
        fernet = _fernet(keys)

        def anew(sealed: str) -> str | None:
            try:
                return fernet.rotate(sealed.encode()).decode()
            except InvalidToken:
                return None

        return keys[0], sum(part(c, anew) for part in parts)


def _fernet(keys: list[str]) -> "MultiFernet":
    from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - imports much

    return MultiFernet([Fernet(key) for key in keys])
