"""Jobs: a prompt and when to run it. Owns the tables jobs and occurrences.

An occurrence is the fate of one planned slot of a job, or of several in a row; `UNIQUE (job_id, scheduled_for)`
decides who runs it.
"""

from claude_runner.jobs._calendar import Coming, Slot
from claude_runner.jobs._calendar import near as slots_near
from claude_runner.jobs._choices import CatchUp, NotifyOn, OnCrash, Overlap, PausedBy
from claude_runner.jobs._collection import Jobs, find, remember
from claude_runner.jobs._ends import count_failures, record_execution
from claude_runner.jobs._overview import (
    JobPage,
    JobQuery,
    JobRow,
    JobSort,
    JobState,
    Outcome,
    day_budgets,
    title,
)
from claude_runner.jobs._pauses import pause, resume
from claude_runner.jobs._policies import (
    STANDARD,
    Policy,
    check_amount,
    check_costs,
    check_ping_url,
    decided_in,
    read_policy,
)
from claude_runner.jobs._records import (
    DEFAULT_TIMEOUT_MINUTES,
    MAX_NAME,
    MAX_PROMPT,
    Job,
    JobDraft,
    Pause,
    check_model,
    check_prompt,
    checked_name,
    clean_text,
)
from claude_runner.jobs._slots import (
    Broken,
    Due,
    Fate,
    Occurrence,
    ahead,
    due,
    link_run,
    next_due_at,
    record,
    record_skip,
    shelve,
    take_slot,
)

__all__ = [
    "DEFAULT_TIMEOUT_MINUTES",
    "MAX_NAME",
    "MAX_PROMPT",
    "STANDARD",
    "Broken",
    "CatchUp",
    "Coming",
    "Due",
    "Fate",
    "Job",
    "JobDraft",
    "JobPage",
    "JobQuery",
    "JobRow",
    "JobSort",
    "JobState",
    "Jobs",
    "NotifyOn",
    "Occurrence",
    "OnCrash",
    "Outcome",
    "Overlap",
    "Pause",
    "PausedBy",
    "Policy",
    "Slot",
    "ahead",
    "check_amount",
    "check_costs",
    "check_model",
    "check_ping_url",
    "check_prompt",
    "checked_name",
    "clean_text",
    "count_failures",
    "day_budgets",
    "decided_in",
    "due",
    "find",
    "link_run",
    "next_due_at",
    "pause",
    "read_policy",
    "record",
    "record_execution",
    "record_skip",
    "remember",
    "resume",
    "shelve",
    "slots_near",
    "take_slot",
    "title",
]
