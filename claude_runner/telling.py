"""What somebody is to hear of: each event becomes rows of the outbox, in the transaction of what it tells of.

Functions of a connection that insert and do nothing else: whoever calls publishes `Topic.OUTBOX` once it is committed,
and what has been written is sent afterwards, by the process that leads.
"""

import sqlite3
from datetime import datetime
from typing import Protocol

from claude_runner.jobs import Job, Occurrence, Pause
from claude_runner.runs import Ending, Run


class Held(Protocol):
    """What holds all runs back that nobody started by hand."""

    @property
    def kind(self) -> str:
        """Return what it is, as a code for a program."""
        ...

    @property
    def until(self) -> datetime | None:
        """Return when it is over, where that is known."""
        ...

    @property
    def reason(self) -> str:
        """Return why, as a sentence for a person."""
        ...


def on_start(c: sqlite3.Connection, run: Run, job: Job | None, now: datetime) -> None:
    """Tell whom the job's heartbeat is for that an attempt of a run has started."""


def on_end(c: sqlite3.Connection, run: Run, job: Job | None, ending: Ending, now: datetime) -> None:
    """Tell of a run that ended for good, and not of one that is parked.

    Args:
        c: The transaction that ends the run.
        run: The run as it was.
        job: Its job as it was before this end: `job.failures` is how many failed in a row before.
        ending: How it ended.
        now: The present.
    """


def on_missed(c: sqlite3.Connection, job: Job, occurrence: Occurrence, now: datetime) -> None:
    """Tell of slots that nobody was there for."""


def on_pause(c: sqlite3.Connection, job: Job, pause: Pause, now: datetime) -> None:
    """Tell of a job that was paused by its failures or its costs; what its owner did needs no telling."""


def on_budget(c: sqlite3.Connection, sentence: str, job: Job | None, run: Run | None, now: datetime) -> None:
    """Tell of a budget that is used up.

    Args:
        c: The transaction that ends the run or passes over the slot.
        sentence: What was reached, and what follows from it.
        job: Whose budget it is, or whose run met it.
        run: Which run met it.
        now: The present.
    """


def on_hold(c: sqlite3.Connection, hold: Held, now: datetime) -> None:
    """Tell that all runs wait, such as until Claude is signed in again; what the owner did needs no telling."""
