"""What the SDK asks of a store of sessions, answered by ours: by a session's id alone, whichever folder it ran in."""

from typing import TYPE_CHECKING, cast

from claude_runner.agent._protocol import Transcripts

if TYPE_CHECKING:
    from claude_agent_sdk import SessionStore
    from claude_agent_sdk.types import SessionKey, SessionListSubkeysKey, SessionStoreEntry


class KeptSessions:
    """Transcripts as the SDK writes and reads them."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts

    async def append(self, key: "SessionKey", entries: "list[SessionStoreEntry]") -> None:
        """Keep entries of a session."""
        await self._transcripts.append(key["session_id"], key.get("subpath", ""), entries)

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """Return the entries of a session, `None` where none are kept."""
        found = await self._transcripts.load(key["session_id"], key.get("subpath", ""))
        return cast("list[SessionStoreEntry] | None", found)

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """Return the paths within a session, such as those of its subagents."""
        return await self._transcripts.subpaths(key["session_id"])


def store_of(transcripts: Transcripts | None) -> "SessionStore | None":
    """Return transcripts as the SDK takes them; it asks which of a store's methods there are."""
    return None if transcripts is None else cast("SessionStore", KeptSessions(transcripts))
