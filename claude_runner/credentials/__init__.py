"""Credentials: what a server needs to be let in elsewhere. Owns the table credentials.

A value is sealed with its server and its name under a key that is not in the database: in the environment, or in a
file beside it that its owner alone may read. Nothing here shows a value to a person.
"""

from claude_runner.credentials._collection import Credentials, Stored
from claude_runner.credentials._rules import MAX_VALUE_BYTES
from claude_runner.credentials._sealing import Anew, Open, Reseal, Sealing

__all__ = ["MAX_VALUE_BYTES", "Anew", "Credentials", "Open", "Reseal", "Sealing", "Stored"]
