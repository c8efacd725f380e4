"""The tools a run sees: how they are described to the model, and whether a call fits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.errors import InvalidError
from claude_runner.inside._when import EXAMPLES, FURTHEST
from claude_runner.jobs import MAX_PROMPT
from claude_runner.runs import ReportStatus

MAX_NOTE: Final = 4000
MAX_SUMMARY: Final = 2000
MAX_LISTED: Final = 50
DEFAULT_LISTED: Final = 10


@dataclass(frozen=True, slots=True)
class InsideTool:
    """A tool as the protocol lists it (MCP, Tool).

    Attributes:
        input_schema: A JSON schema.
        annotations: The protocol's hints.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    annotations: Mapping[str, bool]


def _tool(
    name: str,
    title: str,
    description: str,
    properties: Mapping[str, Any],
    optional: tuple[str, ...] = (),
    *,
    reads: bool = False,
    repeatable: bool = False,
) -> InsideTool:
    schema = {
        "type": "object",
        "properties": properties,
        "required": [parameter for parameter in properties if parameter not in optional],
        "additionalProperties": False,
    }
    hints = {
        "readOnlyHint": reads,
        "destructiveHint": False,
        "idempotentHint": reads or repeatable,
        "openWorldHint": False,
    }
    return InsideTool(name, title, description, schema, hints)


TOOLS: Final = (
    _tool(
        "schedule_followup",
        "Go on later",
        "Have this task gone on with later, in a run of its own: to look at something again, to wait for what is not "
        "ready yet, to do the rest. It starts at the time you give, once this run has ended, in the same working "
        "directory and with the same tools, model and time limit as this run; it knows nothing of this conversation. "
        "The job's own schedule goes on besides, so do not use it for what the schedule does anyway. How many "
        "follow-ups may come of one run, one after the other and in all, and at what cost, is capped; where a cap "
        "is reached, the call is refused and says which. Answers the follow-up's id, when it starts (in UTC and in "
        "the job's time zone) and what is left of the caps.",
        {
            "when": {
                "type": "string",
                "minLength": 1,
                "description": f"When it starts, {FURTHEST.days} days ahead at most: a span of time from now in weeks, "
                "days of 24 hours, hours, minutes and seconds, or an instant of ISO 8601 with its offset from UTC. "
                f"Examples: {EXAMPLES}.",
            },
            "prompt": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_PROMPT,
                "description": "The whole task of the follow-up, complete in itself: what to do, what was done and "
                "found up to now, where the files are, and when to stop.",
            },
        },
    ),
    _tool(
        "list_my_runs",
        "Look at earlier runs",
        "List the latest runs of this job, newest first: this one (this_run is true), those before it, and follow-ups "
        "that still wait for their time (state pending, with not_before). Each with its state, error, report and the "
        "beginning of its output; a follow-up with the beginning of its prompt. In a run that belongs to no job: "
        "the runs of this chain of follow-ups.",
        {
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_LISTED,
                "default": DEFAULT_LISTED,
                "description": f"How many at the most, 1 to {MAX_LISTED}; {DEFAULT_LISTED} where it is left out.",
            }
        },
        ("limit",),
        reads=True,
    ),
    _tool(
        "remember",
        "Keep a note",
        "Keep a note for the later runs of this job, which read it with recall: what was seen or sent last, where to "
        "go on, what to leave alone. It replaces the whole note there was, so recall it first and write down again "
        "what still holds. Never put secrets into it. A run that belongs to no job has no note.",
        {
            "note": {
                "type": "string",
                "maxLength": MAX_NOTE,
                "description": f"The whole note, at most {MAX_NOTE:,} characters; an empty text deletes it. Larger "
                "things belong into a file in the working directory, which is kept as well.",
            }
        },
        repeatable=True,
    ),
    _tool(
        "recall",
        "Read the note",
        "Read the note that earlier runs of this job kept with remember; note is null where there is none.",
        {},
        reads=True,
    ),
    _tool(
        "report",
        "Report",
        "Say how the task went, for the people who look at lists of runs and read no more than this. Call it once, "
        "at the end; a later call replaces the report before it. Be honest: a task that could not be done is failed.",
        {
            "status": {
                "type": "string",
                "enum": [str(status) for status in ReportStatus],
                "description": "done: all of the task; partly: some of it; nothing_to_do: there was nothing to do, "
                "such as no new mail; failed: it could not be done.",
            },
            "summary": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_SUMMARY,
                "description": f"What was done and found, at most {MAX_SUMMARY:,} characters; where something is "
                "missing, what and why.",
            },
        },
        repeatable=True,
    ),
)


def fitted(tool: InsideTool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, those left out that are null and may be.

    Raises:
        InvalidError: They do not fit the tool's schema; its `field` says which.
    """
    properties, required = tool.input_schema["properties"], tool.input_schema["required"]
    if unknown := next((name for name in arguments if name not in properties), None):
        known = f"it takes {' and '.join(properties)}" if properties else "it takes none"
        raise InvalidError(f"{tool.name} has no parameter {unknown[:60]!r}; {known}", field=unknown[:60])
    given = {name: value for name, value in arguments.items() if value is not None}
    if missing := [name for name in required if name not in given]:
        raise InvalidError(f"{tool.name} needs {' and '.join(missing)}", field=missing[0])
    for name, value in given.items():
        if wrong := _wrong(value, properties[name]):
            raise InvalidError(f"{name} {wrong}", field=name)
    return given


def _wrong(value: object, schema: Mapping[str, Any]) -> str | None:
    if schema["type"] == "integer":
        low, high = schema["minimum"], schema["maximum"]
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"must be a whole number from {low} to {high}"
    if not isinstance(value, str):
        return "must be a text"
    if "enum" in schema:
        return None if value in schema["enum"] else f"must be one of {', '.join(schema['enum'])}"
    return _wrong_length(value, schema)


def _wrong_length(text: str, schema: Mapping[str, Any]) -> str | None:
    if schema.get("minLength") and not text.strip():
        return "is empty"
    most = schema.get("maxLength")
    return (
        None
        if most is None or len(text) <= most
        else f"has {len(text):,} characters; at most {most:,} are kept"
    )
