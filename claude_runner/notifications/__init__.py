"""Notifications: what somebody is to hear of, and where that goes. Owns the tables channels and outbox.

A notification is written in the transaction of what it tells of, and sent afterwards, at least once: a sender that dies
between the sending and the note of it sends again. The pings of heartbeats are rows of the same outbox.
"""

from claude_runner.notifications._channels import Channels, enabled, reseal
from claude_runner.notifications._couriers import Courier, Delivered, Heard, Message, Parcel
from claude_runner.notifications._lists import NotificationPage, Outbox, Trouble
from claude_runner.notifications._outbox import About, ping, tell, was_told
from claude_runner.notifications._records import EXAMPLES, Channel, Delivery, Event, Notification, Where
from claude_runner.notifications._sending import LEASE, Claim, Lane, claim, due, hurry, put_off, sent, tidy

__all__ = [
    "EXAMPLES",
    "LEASE",
    "About",
    "Channel",
    "Channels",
    "Claim",
    "Courier",
    "Delivered",
    "Delivery",
    "Event",
    "Heard",
    "Lane",
    "Message",
    "Notification",
    "NotificationPage",
    "Outbox",
    "Parcel",
    "Trouble",
    "Where",
    "claim",
    "due",
    "enabled",
    "hurry",
    "ping",
    "put_off",
    "reseal",
    "sent",
    "tell",
    "tidy",
    "was_told",
]
