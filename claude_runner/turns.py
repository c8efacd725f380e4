"""A job's turn: its slot is taken, and becomes a run or a sentence about why it did not, in one transaction."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from claude_runner import budgets, holds, jobs, runs, telling
from claude_runner.dispatcher import SUPERSEDED
from claude_runner.holds import HoldKind
from claude_runner.jobs import Due, Fate, Job, Occurrence, Overlap, Policy
from claude_runner.planning import Plan, jitter
from claude_runner.runs import NewRun, Trigger

NOW: Final = timedelta()


@dataclass(slots=True)
class Done:
    """What came of a turn.

    Attributes:
        made: The runs that were made.
        superseded: The runs whose place others take: those that waited are over, those that go on are to be stopped.
        told: Whether somebody is to hear of it.
    """

    made: list[str] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    told: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A job whose slot has come.

    Attributes:
        policy: The rules that hold for it, complete.
        wait: How much later it starts because others are caught up with it.
        rehearsal: Whether its runs are marked so.
    """

    job: Job
    policy: Policy
    now: datetime
    wait: timedelta = NOW
    rehearsal: bool = False

    def carry_out(self, c: sqlite3.Connection, due: Due, plan: Plan) -> Done:
        """Take the job's slot, if it is still to be had, write down its fate, and make its run where it gets one."""
        done = Done()
        if not jobs.take_slot(c, due, plan.following):
            return done
        if self.job.pause is not None and not self.job.is_paused(self.now):
            jobs.resume(c, self.job.id)
        if plan.paused is not None:
            jobs.record_skip(c, self.job.id, plan.paused)
        if plan.all_of_them is None:
            return done
        if (why := self._not_now(c, plan)) is not None:
            fate, reason = why
            jobs.record_skip(c, self.job.id, replace(plan.all_of_them, fate=fate, reason=reason))
            done.told = fate is Fate.SKIPPED_BUDGET
            return done
        self._take(c, plan, done)
        return done

    def _take(self, c: sqlite3.Connection, plan: Plan, done: Done) -> None:
        """Write down what becomes of the slots, in their order."""
        missed = [slot for slot in plan.passed_over if slot.fate is Fate.MISSED]
        for slot in sorted((*plan.passed_over, *plan.slots), key=lambda slot: slot.scheduled_for):
            if slot in plan.slots:
                self._run(c, slot, done, plan.slots.index(slot) if len(plan.slots) > 1 else None)
            elif slot.fate is Fate.MISSED:
                jobs.record(c, self.job.id, slot)
            else:
                jobs.record_skip(c, self.job.id, slot)
        if missed:
            telling.on_missed(c, replace(self.job, next_run_at=plan.following), _in_all(missed), self.now)
            done.told = True

    def _not_now(self, c: sqlite3.Connection, plan: Plan) -> tuple[Fate, str] | None:
        """Return what becomes of the slots where nothing of the job may run now, and why."""
        if self.job.is_paused(self.now) and self.job.pause is not None:
            return Fate.SKIPPED_PAUSED, self.job.pause.sentence
        for hold in holds.current(c, self.now):
            if hold.kind is HoldKind.PAUSED:
                return Fate.SKIPPED_PAUSED, f"everything was paused: {hold.reason}"
        if not plan.slots:
            return None
        if (reached := budgets.reached(c, self.now, job_id=self.job.id)) is not None:
            budgets.pass_over(c, self.job, reached, self.now)
            return Fate.SKIPPED_BUDGET, reached.sentence
        return None

    def _run(self, c: sqlite3.Connection, slot: Occurrence, done: Done, place: int | None) -> None:
        """Make the run of a slot; `place` is its place among several, of which each waits for the one before."""
        overlap = self.policy.overlap or Overlap.SKIP
        if place is not None and overlap is not Overlap.ALLOW:
            overlap = Overlap.QUEUE_ALL  # one after the other, which is what catching up all of them is
        others = runs.open_of_job(c, self.job.id, self.now)
        if (reason := _in_the_way(overlap, others)) is not None:
            jobs.record(c, self.job.id, Occurrence(slot.scheduled_for, Fate.SKIPPED_OVERLAP, reason))
            return
        if not jobs.record(c, self.job.id, slot):
            return
        if overlap is Overlap.CANCEL_RUNNING and others:
            done.superseded += runs.supersede(c, self.job.id, SUPERSEDED.error, self.now)
        # It may come to meet another later: one by hand, or one that is tried again.
        alone = overlap is not Overlap.ALLOW
        # Runs are begun in the order in which they were made.
        made_at = self.now + timedelta(milliseconds=place or 0)
        run_id = runs.insert(c, self._new_run(slot, alone=alone), made_at)
        jobs.link_run(c, self.job.id, slot.scheduled_for, run_id)
        done.made.append(run_id)

    def _new_run(self, slot: Occurrence, *, alone: bool) -> NewRun:
        caught_up = slot.fate is Fate.CAUGHT_UP
        trigger = Trigger.CATCH_UP if caught_up else Trigger.SCHEDULE
        run = self.job.new_run(trigger, scheduled_for=slot.scheduled_for, rehearsal=self.rehearsal)
        apart = self.now + self.wait
        if caught_up:
            starts = self.job.timetable.open_from(apart)
            reason = "spread" if starts == apart else "blackout"
        else:
            late = jitter(self.job.id, slot.scheduled_for, self._jitter_seconds(slot))
            starts, reason = max(apart, slot.scheduled_for + late), "jitter"
        waits = starts > self.now
        return replace(
            run,
            alone=alone,
            not_before=starts if waits else None,
            reason=reason if waits else None,
            max_cost_usd=self.policy.max_cost_usd,
        )

    def _jitter_seconds(self, slot: Occurrence) -> int:
        """Return how much later a slot may start, and still before the next, whatever the owner's default is."""
        seconds, following = self.policy.jitter_seconds or 0, self.job.timetable.next(slot.scheduled_for)
        if not seconds or following is None:
            return seconds
        return min(seconds, max(0, int((following - slot.scheduled_for).total_seconds()) - 1))


def _in_the_way(overlap: Overlap, others: runs.Open) -> str | None:
    """Return why a slot gets no run, for the runs of its job that have not ended; `None` where it gets one."""
    if overlap is Overlap.SKIP and others:
        return f"run {others.first} of this job had not ended"
    if overlap is Overlap.QUEUE_ONE and others.pending is not None:
        return f"run {others.pending} of this job waited already, and one may"
    return None


def _in_all(missed: Sequence[Occurrence]) -> Occurrence:
    """Return one occurrence for several rows of slots."""
    counts = [slot.count for slot in missed]
    last = missed[-1].until or missed[-1].scheduled_for
    return replace(
        missed[0],
        until=None if last == missed[0].scheduled_for else last,
        count=None if None in counts else sum(count or 0 for count in counts),
    )
