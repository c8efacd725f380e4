"""The hooks that Claude Code asks before each call of a tool and tells after it.

They fail closed: a call that was not asked about is not made. A call that is denied by a rule is asked about first.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from claude_runner.agent._protocol import Listener
from claude_runner.agent._sessions import KeptSessions
from claude_runner.agent._texts import readable, storable
from claude_runner.runs import Verdict, text_of

if TYPE_CHECKING:
    from claude_agent_sdk import HookMatcher
    from claude_agent_sdk.types import HookEvent

SECONDS: Final = 30.0  # longer than a database waits for another program's lock


def hooks_for(listener: Listener, sessions: KeptSessions | None) -> "dict[HookEvent, list[HookMatcher]]":
    """Return the hooks through which a listener hears of every call.

    Args:
        listener: Whom they tell.
        sessions: Where the session is kept, if it is; no call is made before it is in there.
    """
    from claude_agent_sdk import HookMatcher  # noqa: PLC0415 - half a second that only a run needs

    async def before(call: Any, _use_id: str | None, _context: Any) -> Any:
        why = await listener.calling(call["tool_use_id"], call["tool_name"], storable(call["tool_input"]))
        if why is None:
            if sessions is not None:
                await sessions.until_kept(call["tool_use_id"])
            return {}
        refusal = {"permissionDecision": "deny", "permissionDecisionReason": why}
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **refusal}}

    async def after(call: Any, _use_id: str | None, _context: Any) -> Any:
        verdict, answer = _outcome(call)
        listener.called(call["tool_use_id"], verdict, readable(answer), call.get("duration_ms"))
        return {}

    def alone(hook: Any) -> list[HookMatcher]:
        return [HookMatcher(hooks=[hook], timeout=SECONDS, on_failure="block")]

    return {"PreToolUse": alone(before), "PostToolUse": alone(after), "PostToolUseFailure": alone(after)}


def _outcome(call: Mapping[str, Any]) -> tuple[Verdict, str]:
    if call["hook_event_name"] == "PostToolUse":
        return Verdict.OK, _answer(call.get("tool_response"))
    if call.get("is_interrupt"):
        return Verdict.ABANDONED, str(call["error"])
    return Verdict.ERROR, str(call["error"])


def _answer(response: Any) -> str:
    """Return what a tool answered as text: an MCP tool's own words, or the structure that a built-in one gives."""
    if isinstance(response, str):
        return response
    if isinstance(response, list) and all(isinstance(part, dict) and "type" in part for part in response):
        return text_of(response)
    return json.dumps(response, ensure_ascii=False)
