"""When jobs are due, as pure arithmetic: what a schedule means, when it fires, and how to say it in words.

A schedule is a cron expression (`_cron`), an interval (`_every`) or a single time (`_once`), on the wall clock of a
zone (`_clocks`). A timetable bounds one by dates and has windows in which its slots are skipped.
"""

from claude_runner.schedule._blackouts import Blackout, parse_blackout
from claude_runner.schedule._clocks import Change, clock_changes, local_timezone, zone_of
from claude_runner.schedule._schedules import Schedule, parse
from claude_runner.schedule._timetable import Stretch, Timetable

__all__ = [
    "Blackout",
    "Change",
    "Schedule",
    "Stretch",
    "Timetable",
    "clock_changes",
    "local_timezone",
    "parse",
    "parse_blackout",
    "zone_of",
]
