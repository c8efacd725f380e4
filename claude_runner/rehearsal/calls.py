"""Knows which calls do no harm: which of the tools offered to try, and with what.

A call is really made, so what is tried is chosen with care: a file of its own in the working folder, the time
of day, and MCP tools that want nothing or little and whose names do not say that they act on the world.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from claude_runner.rehearsal.answers import Json, ToolUse
from claude_runner.rehearsal.conversations import Conversation, Tool

MOST_CALLS: Final = 3
FILE: Final = "rehearsal.md"
NOTE: Final = "A rehearsal wrote this file to see that it may write here. It can be deleted.\n"
WORD: Final = "rehearsal"
# A tool with one of these words in its name changes something, and made-up values change the wrong thing.
ACTING: Final = re.compile(
    "accept|add|append|apply|approve|archive|assign|ban|block|book|buy|call|cancel|change|charge|clear|click|close|"
    "commit|confirm|create|delete|deploy|disable|drop|edit|email|enable|exec|execute|fill|forget|grant|import|insert|"
    "install|invite|invoke|kill|lock|mail|merge|message|move|notify|open|order|patch|pause|pay|post|publish|purge|"
    "push|put|refund|register|reject|remove|rename|reply|reset|restart|restore|resume|revoke|rotate|run|save|"
    "schedule|send|set|share|shutdown|sign|sms|start|stop|submit|subscribe|sync|transfer|trigger|truncate|tweet|type|"
    "uninstall|unlock|update|upload|upsert|wipe|write"
)
LONGEST: Final = 1000  # letters of a made-up value; whatever wants more wants something particular


def next_call(conversation: Conversation) -> ToolUse | None:
    """Return the next call to ask for, or `None` where enough was tried."""
    if conversation.step >= MOST_CALLS:
        return None
    tried = {call.name for call in conversation.calls}
    return next((call for call in _harmless(conversation) if call.name not in tried), None)


def _harmless(conversation: Conversation) -> Iterator[ToolUse]:
    offered = {tool.name for tool in conversation.tools}
    folder = conversation.working_folder
    if folder and "Write" in offered:
        path = f"{folder.rstrip('/')}/{FILE}"
        yield ToolUse("Write", {"file_path": path, "content": NOTE})
        if "Read" in offered and not any(call.name == "Write" and call.failed for call in conversation.calls):
            yield ToolUse("Read", {"file_path": path})
    servers = [call for tool in conversation.tools if (call := _mcp_call(tool))]
    yield from servers[:1]  # before Bash: whether a server answers is what people most want to know
    if "Bash" in offered:
        yield ToolUse("Bash", {"command": "date -u"})
    yield from servers[1:]


def _mcp_call(tool: Tool) -> ToolUse | None:
    match tool.name.split("__", 2):
        case ["mcp", _, name] if not _acts(name):
            required, known = tool.schema.get("required", []), tool.schema.get("properties", {})
        case _:
            return None
    try:
        return ToolUse(tool.name, {parameter: _least(known[parameter]) for parameter in required})
    except (KeyError, TypeError, ValueError):  # wants more, or its schema is not one: servers are anyone's
        return None


def _acts(name: str) -> bool:
    return any(ACTING.fullmatch(word.lower()) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))


def _least(schema: Any) -> Any:
    """Return the least value that fits a JSON Schema.

    Raises:
        ValueError: The schema wants more than a plain word, number or truth value.
    """
    if not isinstance(schema, dict) or schema.keys() & {"$ref", "allOf", "oneOf", "pattern", "format"}:
        raise ValueError("not simple")
    if "const" in schema:
        return schema["const"]
    for choices in ("enum", "anyOf", "type"):
        if isinstance(found := schema.get(choices), list) and found:
            return _first(choices, found[0])
    return _plain(schema)


def _first(choices: str, choice: Any) -> Any:
    return choice if choices == "enum" else _least(choice if choices == "anyOf" else {"type": choice})


def _plain(schema: Json) -> Any:
    match schema.get("type"):
        case "string":
            if (shortest := schema.get("minLength", 0)) > LONGEST:
                raise ValueError("not simple")
            return WORD[: schema.get("maxLength")].ljust(shortest, "-")
        case "integer" | "number":
            least = max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
            return min(least, schema.get("maximum", least))
        case "boolean":
            return False
        case "null":
            return None
        case _:
            raise ValueError("not simple")
