"""Takes in what is posted to webhooks.

What is accepted is written in one transaction with the run that it starts, on the condition that the webhook still is
as it was read; the sender is told once that is on the disk.
"""

from claude_runner.reception._entrances import Entrance
from claude_runner.reception._ledger import Receipt
from claude_runner.reception._reception import DisabledError, Reception, TooManyError, Trial

__all__ = ["DisabledError", "Entrance", "Receipt", "Reception", "TooManyError", "Trial"]
