"""What sends, put together."""

from typing import NamedTuple

from claude_runner.addresses import Addresses
from claude_runner.config import Clock, Settings
from claude_runner.credentials import Sealing
from claude_runner.db import Database
from claude_runner.delivering._apprising import Apprising
from claude_runner.delivering._couriers import Couriers
from claude_runner.delivering._mail import Mail
from claude_runner.delivering._sender import Sender
from claude_runner.hub import Hub
from claude_runner.invocation import Invocations
from claude_runner.notifications import Channels, Outbox


class Post(NamedTuple):
    """Where notifications go, what was sent and waits to be, and who sends it."""

    channels: Channels
    outbox: Outbox
    sender: Sender


def post_of(
    database: Database,
    hub: Hub,
    clock: Clock,
    settings: Settings,
    invocations: Invocations,
    addresses: Addresses,
) -> Post:
    """Return the post of a home; its sender is at work while somebody lets it serve."""
    couriers = Couriers(Apprising(settings), Mail(invocations))
    channels = Channels(database, hub, Sealing(settings), couriers)
    sender = Sender(database, hub, clock, channels, couriers, addresses)
    return Post(channels, Outbox(database), sender)
