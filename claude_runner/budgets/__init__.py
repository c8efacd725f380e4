"""What runs may cost: each, those of a job or a webhook in a day, and all of a day and of a month.

A day and a month are the owner's. What was spent is what runs that have ended in it have cost, and what those that wait
or go on have cost up to now. A run whose price is not known costs nothing that could be told. Rehearsals cost nothing.
"""

from claude_runner.budgets._bounds import Bounds, bounds_of
from claude_runner.budgets._purse import Purse, Watch, open_purse
from claude_runner.budgets._reached import reached
from claude_runner.budgets._records import Reached, Scope
from claude_runner.budgets._settling import pass_over, settle
from claude_runner.budgets._standing import Standing, standings

__all__ = [
    "Bounds",
    "Purse",
    "Reached",
    "Scope",
    "Standing",
    "Watch",
    "bounds_of",
    "open_purse",
    "pass_over",
    "reached",
    "settle",
    "standings",
]
