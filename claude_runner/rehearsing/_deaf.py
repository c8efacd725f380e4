"""Who listens to a rehearsed run: nobody."""
# ruff: noqa: ARG002 - of what is said nothing is used

from collections.abc import Mapping
from typing import Any, Final

from claude_runner.runs import EventKind, Tokens, Verdict

REFUSED: Final = "this is a rehearsal: no tool is called"


class Deaf:
    """A listener that does nothing about what it hears, and lets no tool be called; see `Listener`."""

    def started(self) -> None:
        """Do nothing."""

    def heard(self) -> None:
        """Do nothing."""

    def happened(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        """Do nothing."""

    async def calling(self, use_id: str, tool: str, arguments: Mapping[str, Any]) -> str | None:
        """Refuse the call."""
        return REFUSED

    def called(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        """Do nothing."""

    def used(self, tokens: Tokens, model: str | None, cost_usd: float | None = None) -> None:
        """Do nothing."""
