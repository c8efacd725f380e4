"""What the table's collection asks of whoever sends: the sending itself is not its business."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """What somebody is told, as plain text; the title is one line."""

    title: str
    body: str


class Parcel(NamedTuple):
    """What goes to one address, in order."""

    url: str
    messages: tuple[Message, ...]


class Delivered(NamedTuple):
    """What came of a parcel.

    Attributes:
        place: Which of the parcels, by its place.
        taken: How many of its messages the service took, from the first on.
        error: Why it did not take the next one; `None` where it took all.
    """

    place: int
    taken: int
    error: str | None


Heard = Callable[[Delivered], Awaitable[None]]


class Courier(Protocol):
    """Brings messages to the addresses of channels."""

    async def shown(self, url: str) -> str:
        """Return what may be shown of an address.

        Raises:
            InvalidError: Nobody knows how to send there.
            UnavailableError: It can't be told at the moment.
        """
        ...

    async def deliver(self, parcels: Sequence[Parcel], heard: Heard) -> None:
        """Send parcels, side by side; `heard` is told what came of each as soon as that is known."""
        ...
