"""What a job's list of tools means: which tools its runs get, and what there is to say about the list.

An empty list is the owner's `allowed_tools`; a list grants just what it names. A tool that can't be granted
is refused where the job asks for it by name, and left out with a warning where it only comes by default; a server that
is needed and can't be had is a warning on the job and the end of its runs: an unattended run must never find out by
itself what it lacks.
"""

from claude_runner.grants._grants import Grant, resolve
from claude_runner.grants._names import BUILT_INS, MAX_TOOLS, plain, read_tools, split_name, tool_name
from claude_runner.grants._servers import KnownServer, ServerGrant, Unavailable

__all__ = [
    "BUILT_INS",
    "MAX_TOOLS",
    "Grant",
    "KnownServer",
    "ServerGrant",
    "Unavailable",
    "plain",
    "read_tools",
    "resolve",
    "split_name",
    "tool_name",
]
