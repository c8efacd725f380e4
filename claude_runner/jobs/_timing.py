"""Whether a job would ever run by its timetable, and as its rules want it."""

from datetime import datetime
from itertools import pairwise
from typing import Final

from claude_runner.errors import InvalidError
from claude_runner.jobs._choices import CatchUp
from claude_runner.jobs._policies import Policy
from claude_runner.schedule import Timetable

_LOOKED_AT: Final = 8  # slots to come, for how close together they are


def check_timing(timetable: Timetable, policy: Policy, now: datetime) -> None:
    """Refuse a timetable of which nothing comes after an instant, or rules that do not go together with it.

    Raises:
        InvalidError: `field` is what is to be changed: "cron", or the name of a rule.
    """
    if timetable.next(now) is None:
        raise _nothing(timetable, now)
    if not timetable.upcoming(now, 1):
        windows = ", ".join(f"'{blackout.text}'" for blackout in timetable.blackouts)
        raise InvalidError(
            f"every slot to come is in a blackout ({windows}), so nothing would run: leave a time free",
            field="blackouts",
        )
    if policy.catch_up is CatchUp.ALL and timetable.schedule.is_once:
        raise InvalidError(
            f"catch_up 'all' is for a schedule of many slots, and {timetable.schedule.expression!r} has one: "
            "choose 'latest' or 'none'",
            field="catch_up",
        )
    if policy.jitter_seconds:
        _check_jitter(timetable, policy.jitter_seconds, now)


def _check_jitter(timetable: Timetable, jitter_seconds: int, now: datetime) -> None:
    slots: list[datetime] = []
    after = now
    while len(slots) < _LOOKED_AT and (slot := timetable.next(after)) is not None:
        slots.append(slot)
        after = slot
    closest = min((int((two - one).total_seconds()) for one, two in pairwise(slots)), default=None)
    if closest is not None and jitter_seconds >= closest:
        raise InvalidError(
            f"jitter_seconds is {jitter_seconds:,}, and the job's slots are {closest:,} seconds apart: a slot would "
            "start after the one that follows it; give less",
            field="jitter_seconds",
        )


def _nothing(timetable: Timetable, now: datetime) -> InvalidError:
    """Return why nothing comes."""
    schedule, starts_at, ends_at = timetable.schedule, timetable.starts_at, timetable.ends_at
    bounds = {"starts_at": starts_at, "ends_at": ends_at}
    told = {
        name: f"{name} ({schedule.local(at).isoformat(sep=' ', timespec='minutes')})"
        for name, at in bounds.items()
        if at is not None
    }
    if ends_at is not None and ends_at <= now:
        return InvalidError(
            f"{told['ends_at']} is past, so nothing would run: choose a later time, or leave it out",
            field="ends_at",
        )
    if schedule.next(now) is None or not told:
        return InvalidError(
            f"{schedule.expression!r} never fires; a schedule must have a day to come", field="cron"
        )
    if len(told) == 2:
        return InvalidError(
            f"{schedule.expression!r} never fires between {told['starts_at']} and {told['ends_at']}",
            field="ends_at",
        )
    (name,) = told
    side = "after" if name == "starts_at" else "before"
    return InvalidError(f"{schedule.expression!r} never fires {side} {told[name]}", field=name)
