"""Ends what is left of a run when even its guard was killed: its processes bear the run's mark."""

import contextlib
import os
import signal
import sys
from pathlib import Path

from claude_runner.agent._environment import RUN_MARK


def end_leftovers(run_id: str) -> int:
    """Kill the processes that came of the run, and return how many there were. Linux only; elsewhere 0."""
    if sys.platform != "linux":
        return 0
    mark = f"{RUN_MARK}={run_id}".encode()
    killed = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
    return killed
