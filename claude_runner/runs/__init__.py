"""Runs: one execution of a prompt, and what happened in it. Owns the tables runs and run_events.

A run goes `pending` → `running` → `finished`, `error` or `cancelled`; a pending one may end too. Every change is
a guarded update, and every write of a running attempt is fenced by its number: an attempt that was given up
can't write any more, however late it wakes.
"""

from claude_runner.runs._collection import Runs
from claude_runner.runs._events import Event, EventKind, EventPage, StoredEvent, append, text_so_far
from claude_runner.runs._records import Ending, NewRun, Run, State, Tokens, Trigger
from claude_runner.runs._search import RunFilter, RunPage
from claude_runner.runs._statements import end, insert, running, unfinished

__all__ = [
    "Ending",
    "Event",
    "EventKind",
    "EventPage",
    "NewRun",
    "Run",
    "RunFilter",
    "RunPage",
    "Runs",
    "State",
    "StoredEvent",
    "Tokens",
    "Trigger",
    "append",
    "end",
    "insert",
    "running",
    "text_so_far",
    "unfinished",
]
