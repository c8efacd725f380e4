"""What the SDK asks of a store of sessions, answered by ours: by a session's id alone, whichever folder it ran in.

Claude Code tells of what it adds to a session a tenth of a second later. A call of a tool waits for that: else whoever
goes on in the session after a crash would not see why the call was made, or find no session at all.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from claude_runner.agent._protocol import Transcripts

if TYPE_CHECKING:
    from claude_agent_sdk import SessionStore
    from claude_agent_sdk.types import SessionKey, SessionListSubkeysKey, SessionStoreEntry

PATIENCE_SECONDS: Final = 2.0


class KeptSessions:
    """Transcripts as the SDK writes and reads them."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts
        self._calls: set[str] = set()
        self._growth = asyncio.Condition()
        self._is_behind = False

    async def append(self, key: "SessionKey", entries: "list[SessionStoreEntry]") -> None:
        """Keep entries of a session."""
        await self._transcripts.append(key["session_id"], key.get("subpath", ""), entries)
        async with self._growth:
            self._calls.update(_calls_in(entries))
            self._growth.notify_all()

    async def until_kept(self, use_id: str) -> None:
        """Wait until the model's wish for a call is kept; where that is not to be had, no call waits for it again."""
        if self._is_behind:
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._growth:
                await self._growth.wait_for(lambda: use_id in self._calls)
        except TimeoutError:
            self._is_behind = True

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """Return the entries of a session, `None` where none are kept."""
        found = await self._transcripts.load(key["session_id"], key.get("subpath", ""))
        return cast("list[SessionStoreEntry] | None", found)

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """Return the paths within a session, such as those of its subagents."""
        return await self._transcripts.subpaths(key["session_id"])


def as_store(sessions: KeptSessions | None) -> "SessionStore | None":
    """Return sessions as the SDK takes them; it asks which of a store's methods there are."""
    return cast("SessionStore | None", sessions)


def _calls_in(entries: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Give the ids of the calls of tools that are asked for."""
    for entry in entries:
        message = entry.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_use":
                yield str(block.get("id"))
