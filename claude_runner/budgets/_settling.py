"""What follows from a budget that is used up: its job is paused where it is the job's, and the owner told once."""

# ruff: noqa: ARG001, ARG002

import sqlite3
from datetime import datetime

from claude_runner.budgets._records import Reached
from claude_runner.jobs import Job
from claude_runner.runs import Run


def settle(c: sqlite3.Connection, run: Run, reached: Reached, now: datetime) -> None:
    """Do what follows for a run that was stopped or not started, in the transaction that ends it."""


def pass_over(c: sqlite3.Connection, job: Job, reached: Reached, now: datetime) -> None:
    """Do what follows for a job whose slot is skipped, in the transaction that writes so down."""
