"""Orders for the real agent alone, and a listener that keeps what it hears."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from claude_runner.agent import ClaudeAgent, Order, Stop
from claude_runner.config import Settings
from claude_runner.runs import Ending, EventKind, Tokens, Verdict
from tests.scripted_model import Step, script


class Heard:
    """A listener that keeps what it hears, and lets every call be made."""

    def __init__(self) -> None:
        self.events: list[tuple[EventKind, Mapping[str, Any]]] = []
        self.tokens = Tokens()
        self.costs: list[float | None] = []

    def started(self) -> None:
        pass

    def heard(self) -> None:
        pass

    def happened(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        self.events.append((kind, body))

    async def calling(self, _use_id: str, _tool: str, _arguments: Mapping[str, Any]) -> str | None:
        return None

    def called(self, use_id: str, verdict: Verdict, result: str | None, duration_ms: float | None) -> None:
        pass

    def used(self, tokens: Tokens, _model: str | None, cost_usd: float | None = None) -> None:
        self.tokens = tokens
        self.costs.append(cost_usd)

    def notices(self, kind: str) -> list[Mapping[str, Any]]:
        return [
            body for event, body in self.events if event is EventKind.NOTICE and body.get("notice") == kind
        ]


def order(owner: Settings, *steps: Step, **changes: Any) -> Order:
    """An order that the scripted model carries out by these steps."""
    folder = owner.playground / "job"
    folder.mkdir(parents=True, exist_ok=True)
    owner.state.mkdir(exist_ok=True)
    plain = Order(uuid4().hex, str(uuid4()), script(*steps), "You are tried out.", ("Read",), folder)
    return replace(plain, **changes)


async def carried_out(owner: Settings, what: Order, stop: Stop | None = None) -> tuple[Ending, Heard]:
    """What became of an order, and what was heard of it."""
    heard = Heard()
    return await ClaudeAgent(owner).execute(what, heard, stop or Stop()), heard
