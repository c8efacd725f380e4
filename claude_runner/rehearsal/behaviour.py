"""Decides what the stand-in answers: a harmless call each turn, then what came of them, in plain words.

It keeps nothing between requests and takes nothing from the prompt: the same tools and results give the same
answer.
"""

import json
from typing import Final

from claude_runner.rehearsal.answers import Answer, Text, Usage, estimate
from claude_runner.rehearsal.calls import next_call
from claude_runner.rehearsal.conversations import Call, Conversation

PIECES: Final = 8  # deltas that the last answer is streamed in
HEAD: Final = 200  # letters shown of what a tool said


def rehearse(conversation: Conversation) -> Answer:
    """Return the next answer of a rehearsal; its tokens are estimated from the request and the answer."""
    call = next_call(conversation)
    text = Text(f"Rehearsal: trying {call.name}.") if call else Text(_report(conversation), PIECES)
    written = len(text.text) + (len(json.dumps(call.input)) if call else 0)
    usage = Usage(conversation.input_tokens, estimate(written))
    return Answer(conversation.model, (text, call) if call else (text,), usage)


def _report(conversation: Conversation) -> str:
    names = sorted(tool.name for tool in conversation.tools)
    calls = conversation.calls
    lines = [
        "This is a rehearsal: no model was asked, no token was spent, and the prompt was not acted on.",
        "",
        f"Tools offered ({len(names)}): {', '.join(names)}." if names else "No tools were offered.",
    ]
    if calls:
        lines += ["", f"Tools called ({len(calls)}):", *(_line(call) for call in calls)]
    elif names:
        lines.append("None was called: for none of them is a call known that does no harm.")
    return "\n".join(lines)


def _line(call: Call) -> str:
    words = " ".join(call.result.split())
    head = words if len(words) <= HEAD else f"{words[:HEAD]}…"
    return f"- {call.name} {'failed' if call.failed else 'said'}: {head or '(nothing)'}"
