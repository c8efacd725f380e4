"""Ends what is left of a run when even its guard was killed: its processes bear the run's mark."""

import contextlib
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

from claude_runner.agent._environment import RUN_MARK


def end_leftovers(run_ids: Collection[str]) -> int:
    """Kill the processes that came of the runs, and return how many there were. Linux only; elsewhere 0."""
    if sys.platform != "linux" or not run_ids:
        return 0
    marks = {f"{RUN_MARK}={run_id}".encode() for run_id in run_ids}
    killed = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if marks.intersection((folder / "environ").read_bytes().split(b"\0")):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
    return killed
