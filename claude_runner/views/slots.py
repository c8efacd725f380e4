"""What is told of planned slots."""

from dataclasses import dataclass

from claude_runner.jobs import Fate, Slot
from claude_runner.runs import State
from claude_runner.views.instants import iso


@dataclass(frozen=True, slots=True)
class SlotView:
    """A planned slot of a job and what became of it; with an `until` several in a row, `count` of them if counted."""

    job_id: str
    job_name: str
    scheduled_for: str
    until: str | None
    count: int | None
    fate: Fate
    reason: str | None
    run_id: str | None
    state: State | None
    cost_usd: float | None


def slot_view(slot: Slot) -> SlotView:
    """Return a slot as callers see it."""
    return SlotView(
        job_id=slot.job_id,
        job_name=slot.job_name,
        scheduled_for=slot.scheduled_for.isoformat(),
        until=iso(slot.until),
        count=slot.count,
        fate=slot.fate,
        reason=slot.reason,
        run_id=slot.run_id,
        state=slot.state,
        cost_usd=slot.cost_usd,
    )
