"""What is to become of a job's slots that have come: pure arithmetic, decided before anything is written."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zlib import crc32

from claude_runner.db import to_text
from claude_runner.jobs import CatchUp, Due, Fate, Occurrence, Pause, Policy
from claude_runner.schedule import Timetable

_INSTANT: Final = timedelta.resolution
LATE: Final = timedelta(seconds=60)  # a slot that runs later than this was caught up
MOST: Final = 100  # slots that are caught up
NOBODY: Final = "no server was at work then, or the machine slept"
APART: Final = timedelta(seconds=2)  # between the starts of jobs that are caught up together
LONGEST_APART: Final = timedelta(seconds=60)


class Plan(NamedTuple):
    """What is to become of a job's slots that have come.

    Attributes:
        paused: Those of a pause that has ended since.
        slots: Those after it that are run, if nothing is in their way, in their order.
        passed_over: The others after it, missed or in a blackout, in their order.
        all_of_them: Every slot after it, for when none of them may run; `None` for no slot.
        following: The next one, to be looked at when it comes.
    """

    paused: Occurrence | None
    slots: tuple[Occurrence, ...]
    passed_over: tuple[Occurrence, ...]
    all_of_them: Occurrence | None
    following: datetime | None


def plan_slots(due: Due, now: datetime, policy: Policy) -> Plan:
    """Decide what becomes of a job's slots that have come.

    A slot on time runs, and the one after it is looked at next, even if that has come as well. Of the slots that came
    while no server was at work those are caught up that the job's rules want, and the others are missed. Those in a
    pause, even if it has ended, or in a blackout are skipped.
    """
    table, slot = due.job.timetable, due.slot
    on_time = now - slot <= LATE
    latest = slot if on_time else table.latest(slot, now) or slot
    following = table.next(slot if on_time else now)
    paused, first = _in_pause(table, slot, latest, due.job.pause, now)
    if first is None:
        return Plan(paused, (), (), None, following)
    wanted = _wanted(table, first, latest, now, policy)
    passed_over = _passed_over(table, first, latest, wanted, _why(policy))
    runs = tuple(_run_at(each, now) for each in wanted)
    return Plan(paused, runs, tuple(passed_over), _together(table, first, latest), following)


def _in_pause(
    table: Timetable, first: datetime, latest: datetime, pause: Pause | None, now: datetime
) -> tuple[Occurrence | None, datetime | None]:
    """Return the slots of a pause that has ended, and the first one after it that has come."""
    if pause is None or pause.until is None or not first < pause.until <= now:
        return None, first
    last = table.latest(first, min(latest, pause.until - _INSTANT)) or first
    skipped = replace(_together(table, first, last), fate=Fate.SKIPPED_PAUSED, reason=pause.sentence)
    following = table.next(last)
    return skipped, following if following is not None and following <= latest else None


def jitter(job_id: str, slot: datetime, seconds: int) -> timedelta:
    """Return how much later a slot's run starts: by chance up to so many seconds, but always the same for one slot."""
    return timedelta(seconds=crc32(f"{job_id} {to_text(slot)}".encode()) % (seconds + 1))


def apart(place: int) -> timedelta:
    """Return how much later a job starts that is caught up, of several the first at once."""
    return min(APART * place, LONGEST_APART)


def _wanted(
    table: Timetable, first: datetime, latest: datetime, now: datetime, policy: Policy
) -> Sequence[datetime]:
    """Return the slots that are run of those from the first to the latest, in their order."""
    if table.blackout_at(latest) is None:
        newest: datetime | None = latest
    else:
        newest = table.latest_open(first - _INSTANT, latest)
    if newest is None:
        return []
    if policy.catch_up is CatchUp.ALL:
        return _all_within(table, first, newest, now - timedelta(minutes=policy.catch_up_minutes or 0))
    return [] if policy.catch_up is CatchUp.NONE and now - newest > LATE else [newest]


def _all_within(table: Timetable, first: datetime, newest: datetime, since: datetime) -> Sequence[datetime]:
    """Return the newest slots from an instant on, as many as are caught up at most."""
    slots: list[datetime] = []
    slot: datetime | None = newest
    while slot is not None and slot >= max(first, since) and len(slots) < MOST:
        slots.append(slot)
        slot = table.latest_open(first - _INSTANT, slot - _INSTANT)
    return slots[::-1]


def _passed_over(
    table: Timetable, first: datetime, latest: datetime, wanted: Sequence[datetime], why: str
) -> Iterator[Occurrence]:
    """Yield what becomes of the slots that are not run; every open one from the first that is wanted on is."""
    for stretch in table.stretches(first, latest + _INSTANT):
        end = stretch.end if stretch.blackout is not None or not wanted else min(stretch.end, wanted[0])
        begin = first if stretch.start == first else table.next(stretch.start - _INSTANT)
        if begin is None or begin >= end:
            continue
        last = table.latest(begin, end - _INSTANT) or begin
        together = _together(table, begin, last)
        if stretch.blackout is None:
            yield replace(together, reason=why)
        else:
            yield replace(
                together, fate=Fate.SKIPPED_BLACKOUT, reason=f"it came in the blackout '{stretch.blackout}'"
            )


def _run_at(slot: datetime, now: datetime) -> Occurrence:
    late = now - slot
    if late <= LATE:
        return Occurrence(slot, Fate.RAN)
    return Occurrence(slot, Fate.CAUGHT_UP, f"{_spoken(late)} late: {NOBODY}")


def _together(table: Timetable, first: datetime, last: datetime) -> Occurrence:
    """Return one occurrence for the slots from the first to the last."""
    count = max(1, table.count(first, last + _INSTANT))
    return Occurrence(first, Fate.MISSED, until=last if last != first else None, count=count)


def _why(policy: Policy) -> str:
    match policy.catch_up:
        case CatchUp.NONE:
            return f"{NOBODY}; the job's rules want nothing caught up"
        case CatchUp.ALL:
            older = f"older than {policy.catch_up_minutes:,} minutes, or more than {MOST}"
            return f"{NOBODY}; what is {older}, is not caught up"
        case _:
            return f"{NOBODY}; of the slots that came meanwhile only the latest is caught up"


def _spoken(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
