"""How the parameter `policy` is told to a client: each rule in the words in which people wish for it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema

from claude_runner.jobs import CatchUp, NotifyOn, OnCrash, Overlap


def _one_of(kinds: type, description: str) -> dict[str, Any]:
    return {"enum": [str(kind) for kind in kinds], "description": description}  # type: ignore[attr-defined]


def _whole(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


_RULES: Final[Mapping[str, Any]] = {
    "overlap": _one_of(
        Overlap,
        "The last run still goes on: skip, leave it out; queue_one, queue_all: wait for its end; cancel_running:"
        " stop the old run; allow: run both.",
    ),
    "catch_up": _one_of(
        CatchUp, "Times when the machine was off or asleep: afterwards run none, the latest, or all."
    ),
    "catch_up_minutes": _whole("With all: only those of the last so many minutes."),
    "jitter_seconds": _whole("Start up to so much later, by chance."),
    "starts_at": {"type": "string", "description": "No run before it: ISO 8601 on the job's clock."},
    "ends_at": {"type": "string", "description": "No run after it, or after that day."},
    "blackouts": {
        "type": "array",
        "items": {"type": "string"},
        "description": "When not to run, on its clock: `Mon-Fri 22:00-06:00`, `Sat,Sun`, `2026-12-24..2027-01-01`.",
    },
    "max_retries": _whole(
        "How often to try again when Claude is overloaded or out of reach (0 to 10). Usage limits are waited for."
    ),
    "on_crash": _one_of(
        OnCrash, "The server died during a run: fail, retry from the start, or resume the conversation."
    ),
    "pause_after_failures": _whole("Pause the job after so many failures in a row; 0: never."),
    "max_cost_usd": {"type": "number", "description": "Stop a run that costs more US dollars."},
    "max_cost_per_day_usd": {
        "type": "number",
        "description": "When the runs of a day have cost so much: stop, and pause the job until the next day.",
    },
    "cost_breaker": {
        "type": "number",
        "description": "Stop a run that costs so many times the usual, and pause the job; 0: never.",
    },
    "notify_on": {
        "type": "array",
        "items": {"enum": [str(each) for each in NotifyOn]},
        "description": "What to tell the owner's channels; an empty list: nothing.",
    },
    "notify_after_failures": _whole("Tell of failures from the n-th in a row on."),
    "notify_channels": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Names of the channels to tell; null: all.",
    },
    "heartbeat_url": {
        "type": "string",
        "description": "Pinged at each start, success and failure, as healthchecks.io takes it.",
    },
}

# What callers send besides an object is a text that holds one, which some clients make of it.
_Object = dict[str, Any] | str | None
NewPolicy = Annotated[
    _Object, WithJsonSchema({"type": "object", "properties": dict(_RULES), "additionalProperties": False})
]
AnObject = Annotated[_Object, WithJsonSchema({"type": "object"})]
