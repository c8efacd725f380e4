"""What a run can do about itself: the tools of the server `runner`, which every run sees.

It can have itself gone on with later, look at what was done before, keep a note for the job's later runs, and report.
A follow-up has the rights of the run that asked for it and never more; how long a chain of them may get is the
owner's to say (the setting `followups`), and no text gets into the database before it was redacted.
"""

from claude_runner.inside._followups import refused
from claude_runner.inside._inside import Inside
from claude_runner.inside._tools import InsideTool

__all__ = ["Inside", "InsideTool", "refused"]
