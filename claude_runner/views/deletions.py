"""What is told of a thing that was deleted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    deleted: bool
    id: str


@dataclass(frozen=True, slots=True)
class ServerDeleted:
    """The server that was deleted."""

    deleted: bool
    name: str
