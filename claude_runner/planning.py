"""What is to become of a job's slots that have come: pure arithmetic, decided before anything is written."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zlib import crc32

from claude_runner.db import to_text
from claude_runner.jobs import CatchUp, Due, Fate, Occurrence, Policy
from claude_runner.schedule import Schedule

LATE: Final = timedelta(seconds=60)  # a slot that runs later than this was caught up
COUNTED: Final = (
    100  # slots that are counted, or caught up, one by one; of more it is only said that there were more
)
NOBODY: Final = "no server was at work when it came, or the machine slept"
APART: Final = timedelta(seconds=2)  # between the starts of jobs that are caught up together
LONGEST_APART: Final = timedelta(seconds=60)


class Plan(NamedTuple):
    """What is to become of a job's slots that have come.

    Attributes:
        slots: Those that are run, if nothing is in their way, in their order.
        missed: Those before them that are not run any more.
        following: The next one, to be looked at when it comes.
        all_of_them: Every slot that has come, for when none of them may run.
    """

    slots: tuple[Occurrence, ...]
    missed: Occurrence | None
    following: datetime | None
    all_of_them: Occurrence


def plan_slots(due: Due, now: datetime, policy: Policy) -> Plan:
    """Decide what becomes of a job's slots that have come.

    A slot on time runs, and the one after it is looked at next, even if that has come as well. Of the slots that came
    while no server was at work those are caught up that the job's rules want, and the others are missed.
    """
    slot, schedule = due.slot, due.job.schedule
    if now - slot <= LATE:
        run = Occurrence(slot, Fate.RAN)
        return Plan((run,), None, schedule.next(slot), run)
    latest = schedule.latest(slot, now) or slot
    wanted = _wanted(schedule, slot, latest, now, policy)
    missed = None
    if not wanted or wanted[0] != slot:
        last = (
            schedule.latest(slot - timedelta(seconds=1), wanted[0] - timedelta(seconds=1))
            if wanted
            else latest
        )
        missed = replace(_together(schedule, slot, last or slot), reason=_why(policy))
    return Plan(
        tuple(_run_at(each, now) for each in wanted),
        missed,
        schedule.next(now),
        _together(schedule, slot, latest),
    )


def jitter(job_id: str, slot: datetime, seconds: int) -> timedelta:
    """Return how much later a slot's run starts: by chance up to so many seconds, but always the same for one slot."""
    return timedelta(seconds=crc32(f"{job_id} {to_text(slot)}".encode()) % (seconds + 1))


def apart(place: int) -> timedelta:
    """Return how much later a job starts that is caught up, of several the first at once."""
    return min(APART * place, LONGEST_APART)


def _wanted(
    schedule: Schedule, first: datetime, latest: datetime, now: datetime, policy: Policy
) -> Sequence[datetime]:
    """Return the slots that are run of those from the first to the latest, in their order."""
    if now - latest <= LATE and policy.catch_up is not CatchUp.ALL:
        return [latest]
    match policy.catch_up:
        case CatchUp.NONE:
            return []
        case CatchUp.ALL:
            return _all_within(schedule, first, latest, now - timedelta(minutes=policy.catch_up_minutes or 0))
        case _:
            return [latest]


def _all_within(schedule: Schedule, first: datetime, latest: datetime, since: datetime) -> Sequence[datetime]:
    """Return the newest slots from an instant on, as many as are counted at most."""
    slots: list[datetime] = []
    slot: datetime | None = latest
    while slot is not None and slot >= max(first, since) and len(slots) < COUNTED:
        slots.append(slot)
        slot = schedule.latest(first - timedelta(seconds=1), slot - timedelta(seconds=1))
    return slots[::-1]


def _run_at(slot: datetime, now: datetime) -> Occurrence:
    late = now - slot
    if late <= LATE:
        return Occurrence(slot, Fate.RAN)
    return Occurrence(slot, Fate.CAUGHT_UP, f"{_spoken(late)} late: {NOBODY}")


def _together(schedule: Schedule, first: datetime, last: datetime) -> Occurrence:
    """Return one occurrence for the slots from the first to the last."""
    slots = [first]
    while len(slots) <= COUNTED and (following := schedule.next(slots[-1])) is not None and following <= last:
        slots.append(following)
    count = len(slots) if len(slots) <= COUNTED else None
    return Occurrence(first, Fate.MISSED, until=last if last != first else None, count=count)


def _why(policy: Policy) -> str:
    match policy.catch_up:
        case CatchUp.NONE:
            return f"{NOBODY}; the job's rules want nothing caught up"
        case CatchUp.ALL:
            older = f"older than {policy.catch_up_minutes:,} minutes, or more than {COUNTED}"
            return f"{NOBODY}; what is {older}, is not caught up"
        case _:
            return f"{NOBODY}; of the slots that came meanwhile only the latest is caught up"


def _spoken(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
