"""Rehearsals: what a run would be, found out without a model and without a run.

The real Claude Code CLI is started with just what a run would get, its tool servers included, against a stand-in that
only listens. What is wrong is an answer here, not an error, and all of it is told, not only what comes first. No run
is written down, no tool is called, and nothing that was started for it is left running, other than tool servers that
the pool shares and keeps warm.
"""

from claude_runner.rehearsing._records import (
    MissingCredentials,
    NotGranted,
    Part,
    PartKind,
    Problem,
    Rehearsal,
    RequestSize,
    ServerState,
    Verdict,
)
from claude_runner.rehearsing._rehearsals import Rehearsals
from claude_runner.rehearsing._sizes import tool_tokens

__all__ = [
    "MissingCredentials",
    "NotGranted",
    "Part",
    "PartKind",
    "Problem",
    "Rehearsal",
    "Rehearsals",
    "RequestSize",
    "ServerState",
    "Verdict",
    "tool_tokens",
]
