"""What is said of a run and of what happened in it: sentences, and what to do where it failed."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from claude_runner.runs import EventKind, Run, StoredEvent, Trigger
from claude_runner.web.dashboard._words import span

Body = Mapping[str, Any]


class Line(NamedTuple):
    """An event that is told in a sentence.

    Attributes:
        colour: What the style sheet calls it.
        words: The sentence.
        detail: More of it, for whoever unfolds it.
    """

    colour: str
    words: str
    detail: str = ""


class Advice(NamedTuple):
    """What to do about a run that failed: a sentence, and where it is done."""

    words: str
    link: str = ""
    label: str = ""


_TRIGGERS: Final[Mapping[Trigger, str]] = MappingProxyType(
    {
        Trigger.SCHEDULE: "Started by the schedule",
        Trigger.MANUAL: "Started by hand",
        Trigger.WEBHOOK: "Started by a webhook",
        Trigger.QUICK: "Quick run",
        Trigger.RETRY: "Tried again after a failure",
        Trigger.CATCH_UP: "Caught up for a slot that was late",
        Trigger.RUN: "Asked for by another run",
    }
)
_AGAIN: Final = "It may well go through if it is run again."
_EDIT: Final = "{owner}"
# By `reason`; `{owner}` becomes the page of the job or webhook that the run belongs to.
_ADVICE: Final[Mapping[str, Advice]] = MappingProxyType(
    {
        "not_signed_in": Advice(
            "Sign Claude in on the machine, then run it again.", "/settings#claude", "How"
        ),
        "billing": Advice("Look at the plan or the credit of the account that Claude is signed in with."),
        "usage_limit": Advice("Wait until the limit is over, then run it again."),
        "invalid_model": Advice("Choose another model.", _EDIT, "Edit"),
        "unreachable": Advice(f"Look at the machine's connection. {_AGAIN}"),
        "overloaded": Advice(_AGAIN),
        "too_large": Advice("Shorten the prompt, or have it read less at a time.", _EDIT, "Edit"),
        "answer_too_large": Advice("Ask for less in one answer, such as part of a file.", _EDIT, "Edit"),
        "invalid_request": Advice(
            "What Claude's service says tells more; often a tool's schema is at fault."
        ),
        "max_turns": Advice("Make the task smaller, or allow more turns.", _EDIT, "Edit"),
        "budget": Advice("Raise the budget, or wait until it begins anew.", "/settings#budgets", "Budgets"),
        "sandbox_missing": Advice(
            "Install what confines shell commands, or take Bash from its tools.", "/settings", "Settings"
        ),
        "start_timeout": Advice(f"The machine may be overloaded. {_AGAIN}"),
        "folder_unavailable": Advice("Look whether the disk is full and the home folder may be written to."),
        "session_in_use": Advice(_AGAIN),
        "session_lost": Advice("See how far it had come, then run it again if that does no harm."),
        "superseded": Advice("A newer run of its job has taken its place."),
        "mcp_server_failed": Advice("See what its servers need or say.", "/servers", "Servers"),
        "agent_crashed": Advice(f"The server's log tells more. {_AGAIN}"),
        "server_stopped": Advice("Nothing is wrong with the task: run it again."),
        "given_up": Advice("Another server has taken over; if nothing came of it, run it again."),
        "silent": Advice(
            "A tool or the model hung. Run it again, and look at its last step if it comes back."
        ),
        "timeout": Advice("Give it more time, or make the task smaller.", _EDIT, "Edit"),
        "cancelled": Advice("Somebody stopped it; what it had done up to then stays."),
        "cli_missing": Advice("Install the requirements anew; Claude Code comes with them."),
        "internal_error": Advice("This is a mistake of the server; its log tells more."),
        "job_disabled": Advice("Switch the job on and run it again.", _EDIT, "The job"),
    }
)


def owner_of(run: Run) -> str:
    """Return the page of the job or webhook that a run belongs to; empty where there is none."""
    if run.job_id is not None:
        return f"/jobs/{run.job_id}"
    return f"/webhooks/{run.webhook_id}" if run.webhook_id is not None else ""


def trigger_words(trigger: Trigger) -> str:
    """Return what started a run."""
    return _TRIGGERS[trigger]


def advice_for(run: Run) -> Advice | None:
    """Return what to do about a run that failed; `None` where there is nothing to say."""
    found = _ADVICE.get(run.reason or "") if run.error is not None else None
    if found is None:
        return None
    link = found.link.format(owner=owner_of(run))
    return found._replace(link=link, label=found.label if link else "")


def line_of(event: StoredEvent) -> Line:
    """Return in a sentence an event that is neither text nor a call, a result or a count of tokens."""
    return _TOLD[event.kind](event.body)


def _started(body: Body) -> Line:
    tools = [str(tool) for tool in body.get("tools") or ()]
    servers = [server for server in body.get("mcp_servers") or () if isinstance(server, dict)]
    bad = [f"{it.get('name')} ({it.get('status')})" for it in servers if it.get("status") == "failed"]
    version = f" {body['claude_code_version']}" if body.get("claude_code_version") else ""
    words = (
        f"Claude Code{version} started with {body.get('model') or 'its default model'}, {len(tools)} tools"
    )
    if servers:
        words += f" and {len(servers)} server{'s' * (len(servers) != 1)}"
    if bad:
        words += f"; not at work: {', '.join(bad)}"
    return Line("warn" if bad else "run", words, "\n".join(tools))


def _retry(body: Body) -> Line:
    why = " ".join(str(body[name]) for name in ("error_status", "error") if body.get(name))
    delay = body.get("retry_delay_ms")
    wait = f" in {span(delay / 1000)}" if isinstance(delay, int | float) else ""
    words = f"The model did not answer{f' ({why})' if why else ''}: asked again{wait}"
    return Line("warn", f"{words}, attempt {body.get('attempt')} of {body.get('max_retries')}")


def _notice(body: Body) -> Line:
    notice, message = body.get("notice"), str(body.get("message") or body.get("content") or "")
    match notice:
        case "rate_limit":
            return _limit(body)
        case "model_fallback":
            first = body.get("original_model") or "the model"
            return Line("warn", f"{body.get('fallback_model')} answers in place of {first}", message)
        case "permission_denied":
            return Line("warn", f"Not allowed: {body.get('tool_name')}", message)
        case "informational":
            return Line("skip", message)
        case _:
            return Line("bad", f"{str(notice).replace('_', ' ').capitalize()}: {message}")


def _limit(body: Body) -> Line:
    status, resets = body.get("status"), body.get("resets_at")
    until = ""
    if isinstance(resets, int | float) and 0 < resets < 1e11:
        until = f" until {datetime.fromtimestamp(resets, UTC):%d %b %H:%M} UTC"
    if status == "rejected":
        return Line("bad", f"The usage limit is reached{until}")
    if status == "allowed_warning":
        return Line("warn", f"The usage limit is near{until}")
    return Line("skip", f"Within the usage limit{until}")


def _result(body: Body) -> Line:
    turns, milliseconds = body.get("turns"), body.get("duration_ms")
    took = f" in {span(milliseconds / 1000)}" if isinstance(milliseconds, int | float) else ""
    words = f"{turns} turn{'s' * (turns != 1)}{took}"
    if denials := body.get("denials"):
        words += f", {denials} call{'s' * (denials != 1)} denied"
    if not body.get("is_error"):
        return Line("ok", f"Done: {words}")
    subtype = body.get("terminal_reason") or body.get("subtype")
    why = f" ({str(subtype).replace('_', ' ')})" if subtype not in {None, "success"} else ""
    return Line("bad", f"Failed{why}: {words}")


_TOLD: Final[Mapping[EventKind, Callable[[Body], Line]]] = MappingProxyType(
    {
        EventKind.STARTED: _started,
        EventKind.RETRY: _retry,
        EventKind.NOTICE: _notice,
        EventKind.RESULT: _result,
    }
)
