"""The tokens that were let in a moment ago: a client's next call asks neither the signature nor the database."""

import hashlib
from datetime import datetime, timedelta
from typing import Final

from claude_runner.auth._tokens import Access

MOST: Final = 1000
# Whoever takes access back says so, and what is known is forgotten at once. This is for when that can't be heard: a
# statement at the sqlite3 shell, or a process of the home that has just lost its leader.
TRUST: Final = timedelta(seconds=5)


class KnownTokens:
    """Tokens by their hash, each with what it is good for and when that was looked up.

    Attributes:
        generation: Grows whenever all is forgotten.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._known: dict[bytes, tuple[Access, datetime]] = {}

    def find(self, token: str, now: datetime) -> Access | None:
        """Return what a token is good for, where that is known and as fresh as it must be."""
        key = _key(token)
        found = self._known.get(key)
        if found is None:
            return None
        access, looked_up_at = found
        if looked_up_at <= now < min(looked_up_at + TRUST, access.expires_at):
            return access
        del self._known[key]
        return None

    def keep(self, token: str, access: Access, now: datetime, generation: int) -> None:
        """Keep what was looked up, unless everything has been forgotten since that was begun."""
        if generation != self.generation:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[_key(token)] = access, now

    def forget(self) -> None:
        """Forget everything: something was taken back."""
        self._known.clear()
        self.generation += 1


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
