"""Tool servers at work: their processes, and the door through which runs reach them.

Each server is a process of its own, with its own small environment, under a guard, and confined where that can be. It
is started when it is first used, shared by all who use it, closed when nobody has for a while, and ended with its
whole tree when it does not answer.
"""

from claude_runner.pool._access import InProcess, Wanted
from claude_runner.pool._door import Door
from claude_runner.pool._environments import Environments
from claude_runner.pool._pool import Patience, Pool
from claude_runner.pool._session import Json
from claude_runner.pool._tools import infos

__all__ = ["Door", "Environments", "InProcess", "Json", "Patience", "Pool", "Wanted", "infos"]
