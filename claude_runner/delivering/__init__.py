"""Sends what waits in the outbox: messages to channels, by Apprise or our own mail, and the pings of heartbeats."""

from claude_runner.delivering._apprising import Apprising
from claude_runner.delivering._couriers import Couriers
from claude_runner.delivering._mail import Mail
from claude_runner.delivering._pings import Pings
from claude_runner.delivering._sender import Sender

__all__ = ["Apprising", "Couriers", "Mail", "Pings", "Sender"]
