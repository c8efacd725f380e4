"""What is told of calls of tools."""

from dataclasses import dataclass, replace
from typing import Any

from claude_runner.runs import CallPage, ToolCall, Verdict, head, shortened


@dataclass(frozen=True, slots=True)
class CallView:
    """A call of a tool, with the beginnings of long texts."""

    id: str
    run_id: str | None
    server: str | None
    tool: str
    arguments: dict[str, Any]
    verdict: Verdict
    result: str | None
    result_length: int | None
    started_at: str
    duration_ms: float | None


@dataclass(frozen=True, slots=True)
class CallList:
    """Some calls, newest first."""

    calls: list[CallView]
    total: int
    next_cursor: str | None


def call_list(page: CallPage) -> CallList:
    """Return a page of calls as a list shows them."""
    return CallList([call_view(call) for call in page.calls], page.total, page.next_cursor)


def call_view(call: ToolCall) -> CallView:
    """Return a call as a list shows it."""
    result = None if call.result is None else head(call.result)
    return replace(whole_call_view(call), arguments=shortened(call.arguments, head), result=result)


def whole_call_view(call: ToolCall) -> CallView:
    """Return a call with all that is kept of it."""
    return CallView(
        id=call.id,
        run_id=call.run_id,
        server=call.server,
        tool=call.tool,
        arguments=dict(call.arguments),
        verdict=call.verdict,
        result=call.result,
        result_length=call.result_length,
        started_at=call.started_at.isoformat(),
        duration_ms=call.duration_ms,
    )
