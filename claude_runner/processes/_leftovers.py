"""Ends what is left when even a guard was killed: the processes bear a mark in their environment."""

import contextlib
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path


def end_leftovers(mark: str, values: Collection[str]) -> int:
    """Kill the processes that bear a mark with one of the values, and return how many there were.

    Linux only; elsewhere 0.

    Args:
        mark: The name of a variable in the processes' environment.
        values: Its values.
    """
    if sys.platform != "linux" or not values:
        return 0
    marks = {f"{mark}={value}".encode() for value in values}
    killed = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if marks.intersection((folder / "environ").read_bytes().split(b"\0")):
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
    return killed
