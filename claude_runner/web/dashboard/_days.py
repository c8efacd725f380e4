"""What was planned on days and hours and what comes in them: counts by fate, and the slots one by one.

Nothing here counts runs or walks through all fires: what was is read from sums, and what comes is worked out from the
schedules, once for all who look at the same days.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner.app import App
from claude_runner.jobs import Coming, Fate, Slot
from claude_runner.runs import SlotTotals, State, Totals
from claude_runner.web.dashboard._fires import counts, each

OFTEN: Final = 24  # fires in a day; a job that has more is one entry
ALIKE: Final = 6  # slots of a job in an hour with the same fate; more are one entry


@dataclass(frozen=True, slots=True)
class Stretch:
    """A day or an hour.

    Attributes:
        totals: Of the runs that ended in it, whatever started them.
        slots: What became of its planned slots.
        coming: How many are still to come.
    """

    start: datetime
    end: datetime
    totals: Totals
    slots: SlotTotals
    coming: int

    @property
    def words(self) -> str:
        """Return what happened and what comes."""
        parts = [
            (self.totals.finished, "succeeded"),
            (self.totals.failed, "failed"),
            (self.totals.cancelled, "cancelled"),
            (self.slots.skipped, "skipped"),
            (self.slots.missed, "missed"),
            (self.coming, "to come"),
        ]
        return ", ".join(f"{count:,} {word}" for count, word in parts if count) or "nothing"


@dataclass(frozen=True, slots=True)
class Entry:
    """A slot, or several that are alike.

    Attributes:
        at: When, the first of several.
        until: The last of several, or `None`.
        count: How many; `None` for more than were counted.
        word: What became of it; empty where it is to come.
        colour: That of the word.
        run_id: Its run; of several, none.
        cost_usd: Of all of them.
    """

    at: datetime
    until: datetime | None
    count: int | None
    job_id: str
    job_name: str
    word: str = ""
    colour: str = ""
    reason: str | None = None
    run_id: str | None = None
    cost_usd: float | None = None


async def stretches(app: App, edges: Sequence[datetime], coming: Sequence[int]) -> list[Stretch]:
    """Return what is known between each edge and the next; `coming` is how many fires come in each."""
    totals = await app.runs.usage(edges, rehearsal=app.settings.rehearsal)
    slots = await app.runs.slots(edges)
    ends = edges[1:]
    return [Stretch(*each) for each in zip(edges[:-1], ends, totals, slots, coming, strict=True)]


def coming_counts(jobs: Iterable[Coming], edges: Sequence[datetime], now: datetime) -> list[int]:
    """Return how often jobs fire between each edge and the next, from the next full minute on.

    So it is worked out once a minute, whoever looks; other than by the second, nothing fires before that.
    """
    found = [0] * (len(edges) - 1)
    present = next((place for place, edge in enumerate(edges[1:]) if edge > now), None)
    if present is None:
        return found
    rest = tuple(edges[present + 1 :])
    first = (min(max(_next_minute(now), edges[present]), rest[0]), rest[0])
    for timetable, many in Counter(job.timetable for job in jobs).items():
        of_timetable = (*counts(timetable, first), *counts(timetable, rest))
        for place, count in enumerate(of_timetable, present):
            found[place] += count * many
    return found


def _next_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins on a clock; where that shows no midnight, right after the gap."""
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def hour_edges(start: datetime, end: datetime) -> list[datetime]:
    """Return the full hours from the beginning of a day to its end, of which there may be 23 or 25."""
    edges = []
    while start < end:
        edges.append(start)
        start += timedelta(hours=1)
    return [*edges, end]


def entries(slots: Sequence[Slot]) -> list[Entry]:
    """Return what became of slots, those of an hour that are alike as one."""
    single = [_entry(slot) for slot in slots]
    alike: dict[tuple[object, ...], list[Entry]] = {}
    for entry in single:
        alike.setdefault(_likeness(entry), []).append(entry)
    kept = (group if len(group) <= ALIKE else [_together(group)] for group in alike.values())
    return sorted((entry for group in kept for entry in group), key=lambda entry: (entry.at, entry.job_name))


def often(jobs: Sequence[Coming], after: datetime, end: datetime) -> tuple[list[Coming], list[Entry]]:
    """Return the jobs that do not come often before the end of a day, and the others as an entry each."""
    seldom, found = [], []
    for job in jobs:
        (count,) = counts(job.timetable, (_next_minute(after), end))
        if count <= OFTEN:
            seldom.append(job)
        elif (first := next(each(job.timetable, after, end), None)) is not None:
            found.append(Entry(first, None, count, job.id, job.name))
    return seldom, found


def ahead(
    jobs: Sequence[Coming], after: datetime, end: datetime, most: int
) -> tuple[list[Entry], datetime | None]:
    """Return the next fires of jobs in the order of time, and the instant that the rest begins with.

    There are about so many: those of one instant stand together, however many they are.
    """

    def of_job(job: Coming) -> Iterator[Entry]:
        for at in each(job.timetable, after, end):
            yield Entry(at, None, 1, job.id, job.name)

    merged = heapq.merge(*map(of_job, jobs), key=lambda entry: (entry.at, entry.job_name))
    found: list[Entry] = []
    for at, together in groupby(merged, key=lambda entry: entry.at):
        if len(found) >= most:
            return found, at
        found += together
    return found, None


_STATES: Final = {
    State.FINISHED: ("succeeded", "ok"),
    State.ERROR: ("failed", "bad"),
    State.CANCELLED: ("cancelled", "skip"),
    State.RUNNING: ("running", "run"),
    State.PENDING: ("waiting", "wait"),
}


def _entry(slot: Slot) -> Entry:
    match slot.fate:
        case Fate.MISSED:
            word, colour = "missed", "warn"
        case Fate.RAN | Fate.CAUGHT_UP:
            word, colour = _STATES[slot.state] if slot.state is not None else ("ran", "skip")
        case _:
            word, colour = "skipped", "skip"
    return Entry(
        slot.scheduled_for, slot.until, slot.count, slot.job_id, slot.job_name, word, colour,
        slot.reason, slot.run_id, slot.cost_usd,
    )  # fmt: skip


def _likeness(entry: Entry) -> tuple[object, ...]:
    if entry.until is not None or entry.count != 1:
        return (entry,)
    return (entry.job_id, entry.at.replace(minute=0, second=0, microsecond=0), entry.word, entry.reason)


def _together(group: Sequence[Entry]) -> Entry:
    costs = [entry.cost_usd for entry in group if entry.cost_usd is not None]
    return replace(
        group[0], until=group[-1].at, count=len(group), run_id=None, cost_usd=sum(costs) if costs else None
    )
