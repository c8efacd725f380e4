"""What is sent of what waits: each by itself, or many as one."""

from collections import Counter
from typing import Final

from claude_runner.notifications import Claim, Event, Message, Notification

SINGLE: Final = 5  # so many that wait for one channel are sent one by one, more as a digest
NAMED: Final = 30  # titles that a digest names

_WORDS: Final = {
    Event.FAILURE: ("failure", "failures"),
    Event.RECOVERY: ("recovery", "recoveries"),
    Event.MISSED: ("miss", "misses"),
    Event.PAUSED: ("pause", "pauses"),
    Event.BUDGET: ("budget", "budgets"),
    Event.SUCCESS: ("success", "successes"),
    Event.HELD: ("hold", "holds"),
}


def worded(claim: Claim, base: str) -> tuple[Message, ...]:
    """Return the messages that tell of all that is claimed; `base` is where the pages are."""
    if len(claim.ids) <= SINGLE:
        return tuple(Message(it.title, _with_page(it, base)) for it in claim.first)
    return (_digest(claim, base),)


def _with_page(it: Notification, base: str) -> str:
    page = _page(it, base)
    return it.body if page is None else f"{it.body}\n\n{page}"


def _page(it: Notification, base: str) -> str | None:
    if it.run_id is not None:
        return f"{base}/runs/{it.run_id}"
    return None if it.job_id is None else f"{base}/jobs/{it.job_id}"


def _digest(claim: Claim, base: str) -> Message:
    total = len(claim.ids)
    named = claim.first[:NAMED]
    lines = [f"{it.created_at:%Y-%m-%d %H:%M} UTC  {it.title}" for it in named]
    if total > len(named):
        lines.append(f"… and {total - len(named):,} more")
    counted = Counter(it.event for it in named) if total == len(named) else Counter()
    kinds = ", ".join(
        f"{count} {_WORDS[event][count > 1]}" for event, count in counted.most_common() if event in _WORDS
    )
    title = f"{total:,} notifications" + (f": {kinds}" if kinds else "")
    return Message(title, "\n".join([*lines, "", f"{base}/runs"]))
