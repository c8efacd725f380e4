"""Runs: one execution of a prompt, and what happened in it. Owns the tables runs, run_events and tool_calls.

A run goes `pending` → `running` → `finished`, `error` or `cancelled`; a pending one may end too. Every change is
a guarded update, and every write of a running attempt is fenced by its number: an attempt that was given up
can't write any more, however late it wakes. Triggers keep sums of the runs that have ended, and their words: lists and
totals never count a million runs.
"""

from claude_runner.runs._call_log import CallHits, CallQuery, Origin, abandoned
from claude_runner.runs._calls import CallPage, ClosedCall, NewCall, ToolCall, Verdict, close_calls
from claude_runner.runs._chains import Chain, chain_of, going_on, latest_of, report
from claude_runner.runs._collection import Runs
from claude_runner.runs._events import Event, EventKind, EventPage, StoredEvent, append, text_so_far
from claude_runner.runs._inserts import insert, insert_all, new_ids
from claude_runner.runs._open import Open, in_the_way_of, is_superseded, open_of_job, supersede, unfinished
from claude_runner.runs._places import cursor_of, place_of
from claude_runner.runs._queries import Heard, RunHits, RunQuery, last_heard
from claude_runner.runs._records import (
    Ending,
    Granted,
    NewRun,
    Parking,
    Report,
    ReportStatus,
    Run,
    State,
    Tokens,
    Trigger,
)
from claude_runner.runs._rows import RunRow, rows_of
from claude_runner.runs._search import RunFilter, RunPage
from claude_runner.runs._spending import cost_going_on, cost_so_far, costs_going_on, usual_cost
from claude_runner.runs._statements import (
    end,
    grant,
    has_begun,
    park,
    running,
    usage_before,
)
from claude_runner.runs._streaks import failures_before, first_failed_at
from claude_runner.runs._texts import head, shortened, text_of
from claude_runner.runs._transcripts import Transcripts, forget_transcript
from claude_runner.runs._usage import (
    Dimension,
    Share,
    SlotTotals,
    Totals,
    cost_between,
    cost_of,
    usage_by,
)

__all__ = [
    "CallHits",
    "CallPage",
    "CallQuery",
    "Chain",
    "ClosedCall",
    "Dimension",
    "Ending",
    "Event",
    "EventKind",
    "EventPage",
    "Granted",
    "Heard",
    "NewCall",
    "NewRun",
    "Open",
    "Origin",
    "Parking",
    "Report",
    "ReportStatus",
    "Run",
    "RunFilter",
    "RunHits",
    "RunPage",
    "RunQuery",
    "RunRow",
    "Runs",
    "Share",
    "SlotTotals",
    "State",
    "StoredEvent",
    "Tokens",
    "ToolCall",
    "Totals",
    "Transcripts",
    "Trigger",
    "Verdict",
    "abandoned",
    "append",
    "chain_of",
    "close_calls",
    "cost_between",
    "cost_going_on",
    "cost_of",
    "cost_so_far",
    "costs_going_on",
    "cursor_of",
    "end",
    "failures_before",
    "first_failed_at",
    "forget_transcript",
    "going_on",
    "grant",
    "has_begun",
    "head",
    "in_the_way_of",
    "insert",
    "insert_all",
    "is_superseded",
    "last_heard",
    "latest_of",
    "new_ids",
    "open_of_job",
    "park",
    "place_of",
    "report",
    "rows_of",
    "running",
    "shortened",
    "supersede",
    "text_of",
    "text_so_far",
    "unfinished",
    "usage_before",
    "usage_by",
    "usual_cost",
]
