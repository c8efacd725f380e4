"""Which runs a list shows, as its address says it."""

from typing import Final

from claude_runner.runs import RunQuery, State, Trigger
from claude_runner.web.dashboard._filters import Asked

TRIGGERS: Final = {
    Trigger.SCHEDULE: "schedule",
    Trigger.MANUAL: "by hand",
    Trigger.WEBHOOK: "webhook",
    Trigger.QUICK: "quick run",
    Trigger.RETRY: "retry",
    Trigger.CATCH_UP: "caught up",
    Trigger.RUN: "follow-up",
}
STATES: Final = {
    State.RUNNING: "Running",
    State.PENDING: "Pending",
    State.FINISHED: "Finished",
    State.ERROR: "Failed",
    State.CANCELLED: "Cancelled",
}
# What runs often end for; any other can be typed as well.
REASONS: Final = (
    "timeout",
    "not_signed_in",
    "usage_limit",
    "overloaded",
    "budget",
    "max_turns",
    "mcp_server_failed",
    "agent_crashed",
    "server_stopped",
    "invalid_model",
    "cancelled",
)


def run_query(asked: Asked) -> RunQuery:
    """Return which runs are asked for; what can't be read is left in `asked.errors`."""
    return RunQuery(
        text=asked.text("q"),
        states=asked.several("state", State),
        reason=_code(asked.text("reason")),
        job_id=asked.text("job"),
        webhook_id=asked.text("webhook"),
        trigger=asked.one_of("trigger", Trigger),
        since=asked.instant("since"),
        until=asked.instant("until"),
        min_cost_usd=asked.amount("cost"),
        rehearsal=asked.yes_or_no("rehearsal"),
        model=asked.text("model"),
    )


def _code(reason: str | None) -> str | None:
    """Return a reason as it is kept, where it was typed as badges show it."""
    return None if reason is None else reason.lower().replace(" ", "_")
