"""Why a job did not run at some time, or that it did, in a sentence or two that a person can read.

What is written of its slots is asked first. Where nothing is written of a time, the job itself tells why there was no
slot, or none yet.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from claude_runner import holds, jobs, runs
from claude_runner.errors import InvalidError, NotFoundError
from claude_runner.jobs import Fate, Job, Slot
from claude_runner.runs import RunRow, State
from claude_runner.waiting import waits_for

AT_ONCE: Final = timedelta(minutes=1)  # a slot so near to a time is the one that was meant
LATE: Final = timedelta(minutes=2)  # a slot that was not looked at for so long is not about to be
# How far back the slot before a time is looked for, step by step.
_BACK: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=367))
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
_RAN: Final = (Fate.RAN, Fate.CAUGHT_UP)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job did or did not run.

    Attributes:
        around: The time that is spoken of.
        answer: A sentence or two.
        slots: What is written of the slots that are nearest to it, in their order.
        next_run_at: The job's next slot, if there is one.
    """

    job_id: str
    around: datetime
    answer: str
    slots: tuple[Slot, ...]
    next_run_at: datetime | None


def explain(c: sqlite3.Connection, job_id: str, around: datetime | None, now: datetime) -> Explanation:
    """Return why the job did not run around a time; of its last slot that did not run where no time is given.

    Raises:
        NotFoundError: There is no such job.
        InvalidError: Its row was spoiled by hand, or the time is one that no schedule reaches.
    """
    job = jobs.find(c, job_id)
    if job is None:
        raise NotFoundError(f"there is no job {job_id[:60]!r}; list_jobs shows them all", field="job_id")
    if around is not None and not _EARLIEST < around < _LATEST:
        raise InvalidError(f"around is in the year {around.year}; give a time of our days", field="around")
    slots = jobs.slots_near(c, job_id, around)
    at = around or (slots[0].scheduled_for if slots else now)
    told = _Case(job, at, now).answer(c, slots)
    return Explanation(job_id, at, told, tuple(slots), job.next_run_at if job.enabled else None)


@dataclass(frozen=True, slots=True)
class _Case:
    """A question about a job and a time."""

    job: Job
    around: datetime
    now: datetime

    def answer(self, c: sqlite3.Connection, slots: list[Slot]) -> str:
        planned = min(self._planned(), key=self._distance, default=None)
        written = min(slots, key=self._distance_of, default=None)
        if written is not None and (
            planned is None or self._distance_of(written) <= self._distance(planned) + AT_ONCE
        ):
            return _joined(self._preface(written), self._fate(c, written), self._present(c))
        if planned is None or self._distance(planned) > AT_ONCE:
            return _joined(self._no_slot(), self._why_nothing(planned), self._present(c))
        return _joined(self._unwritten(planned), self._present(c))

    # Which slot

    def _planned(self) -> Iterator[datetime]:
        """Yield the slots by the job's schedule that are next to the time: the one up to it, the one after it."""
        try:
            schedule = self.job.schedule
        except InvalidError:
            return
        for back in _BACK:
            if (before := schedule.latest(self.around - back, self.around)) is not None:
                yield before
                break
        if (after := schedule.next(self.around)) is not None:
            yield after

    def _distance(self, slot: datetime) -> timedelta:
        return abs(slot - self.around)

    def _distance_of(self, slot: Slot) -> timedelta:
        last = slot.until or slot.scheduled_for
        if slot.scheduled_for <= self.around <= last:
            return timedelta()
        return min(self._distance(slot.scheduled_for), self._distance(last))

    # What became of it

    def _preface(self, slot: Slot) -> str:
        if self._distance_of(slot) <= AT_ONCE:
            return ""
        return f"No slot was planned at {self._local(self.around)}; the nearest one tells this."

    def _fate(self, c: sqlite3.Connection, slot: Slot) -> str:
        if slot.fate not in _RAN:
            return f"{self._which(slot)} did not run: {_sentence(slot.reason or slot.fate.value)}"
        late = f" ({slot.reason})" if slot.reason else ""
        found = [] if slot.run_id is None else runs.rows_of(c, [slot.run_id])
        if not found:
            return f"{self._which(slot)} ran{late}, but its run is not kept any more."
        return f"{self._which(slot)} {self._outcome(c, found[0], late)}"

    def _outcome(self, c: sqlite3.Connection, run: RunRow, late: str) -> str:
        match run.state:
            case State.PENDING:
                return f"became run {run.id}{late}, which waits for {self._wait(c, run)}"
            case State.RUNNING:
                return f"became run {run.id}{late}, which is going on since {self._local(run.started_at)}."
            case State.FINISHED:
                return f"did run{late}: run {run.id} finished at {self._local(run.finished_at)}."
            case State.CANCELLED:
                return (
                    f"became run {run.id}{late}, which was cancelled: {_sentence(run.error or 'by request')}"
                )
            case State.ERROR:
                return (
                    f"did run{late}, but run {run.id} failed: {_sentence(run.error or 'it did not finish')}"
                )

    def _wait(self, c: sqlite3.Connection, run: RunRow) -> str:
        starts = run.not_before
        later = "" if starts is None or starts <= self.now else f"; it starts at {self._local(starts)}"
        return _sentence(f"{waits_for(c, run, self.now)}{later}")

    # Why there was none

    def _no_slot(self) -> str:
        return f"No slot of {self.job.name!r} was planned at {self._local(self.around)}."

    def _why_nothing(self, nearest: datetime | None) -> str:
        if nearest is None:
            return _sentence(self._unreadable() or "Its schedule brings nothing near that time")
        planned = " and ".join(self._local(each) for each in self._planned())
        return f"By its schedule ({self.job.cron}) the nearest are {planned}."

    def _unwritten(self, slot: datetime) -> str:
        """Return why nothing is written of a slot of its schedule."""
        which = f"The slot of {self._local(slot)}"
        if why := self._outside(slot):
            return f"{which} was none of this job: {why}"
        if slot > self.now:
            return f"{which} has not come yet."
        if not self.job.enabled:
            return f"{which} was not planned: the job is disabled."
        if self.job.next_run_at is not None and self.job.next_run_at <= slot:
            return f"{which} {self._untaken(slot)}"
        return f"Nothing is written of it: the slot of {self._local(slot)} {self._unplanned(slot)}"

    def _untaken(self, slot: datetime) -> str:
        if self.now - slot < LATE:
            return "has only just come; it is about to be looked at."
        return "has not been looked at: no scheduler is at work, or the server has stood still."

    def _unplanned(self, slot: datetime) -> str:
        if slot < self.job.updated_at:
            return (
                "is one by the rules that the job has now, which were last changed at "
                f"{self._local(self.job.updated_at)}; before that it was disabled or had other ones."
            )
        return "was not planned, as the job was shelved or in the trash then."

    def _outside(self, slot: datetime) -> str:
        policy = self.job.policy
        if slot < self.job.created_at:
            return f"it was made at {self._local(self.job.created_at)}."
        if policy.starts_at is not None and slot < policy.starts_at:
            return f"it begins at {self._local(policy.starts_at)} (starts_at)."
        if policy.ends_at is not None and slot > policy.ends_at:
            return f"it ended at {self._local(policy.ends_at)} (ends_at)."
        return ""

    # How it is now

    def _present(self, c: sqlite3.Connection) -> str:
        """Return what keeps the job from running now, or when it runs next."""
        job = self.job
        if not job.enabled:
            return f"The job is disabled, last changed at {self._local(job.updated_at)}; nothing of it is planned."
        if job.next_run_at is None:
            return _sentence(self._unreadable() or "Nothing more of it is planned: its schedule is over")
        if job.pause is not None and job.is_paused(self.now):
            return (
                f"The job is paused since {self._local(job.pause.since)}{self._until(job.pause.until)}: "
                f"{_sentence(job.pause.reason)}"
            )
        if held := holds.current(c, self.now):
            return f"All runs are held back now: {_sentence(held[0].reason + self._until(held[0].until))}"
        return f"Its next slot is {self._local(job.next_run_at)}."

    def _unreadable(self) -> str:
        """Return what is wrong with a job that can't be planned."""
        try:
            self.job.timetable  # noqa: B018 - raises where it can't be read
        except InvalidError as error:
            return f"The job can't be planned: {error}"
        last = self.job.last_error or ""
        return f"The job is {last}" if self.job.enabled and last.startswith("not scheduled any more") else ""

    # In words

    def _which(self, slot: Slot) -> str:
        if slot.until is None:
            return f"The slot of {self._local(slot.scheduled_for)}"
        count = "More slots than were counted" if slot.count is None else f"The {slot.count:,} slots"
        return f"{count} from {self._local(slot.scheduled_for)} to {self._local(slot.until)}"

    def _until(self, instant: datetime | None) -> str:
        return "" if instant is None else f", until {self._local(instant)}"

    def _local(self, instant: datetime | None) -> str:
        """Return an instant on the job's own clock."""
        if instant is None:
            return "an unknown time"
        try:
            wall = instant.astimezone(ZoneInfo(self.job.timezone))
        except (KeyError, ValueError):  # a zone that was spoiled by hand
            wall = instant.astimezone(UTC)
        form = "%Y-%m-%d %H:%M:%S" if wall.second else "%Y-%m-%d %H:%M"
        return f"{wall:{form}} ({wall.tzname() if wall.tzinfo is UTC else self.job.timezone})"


def _sentence(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _joined(*sentences: str) -> str:
    return " ".join(each for each in sentences if each)
