"""Sends what waits in the outbox: messages to channels, by Apprise or our own mail, and the pings of heartbeats."""

from claude_runner.delivering._post import Post, post_of
from claude_runner.delivering._sender import Sender

__all__ = ["Post", "Sender", "post_of"]
