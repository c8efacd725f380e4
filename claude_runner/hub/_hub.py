"""Publish and subscribe inside the process."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple


class Topic(StrEnum):
    """The kinds of things that change."""

    JOBS = "jobs"
    RUNS = "runs"
    EVENTS = "events"
    CANCEL = "cancel"  # somebody wants the run of this id ended
    SERVERS = "servers"  # the server of this name was made, changed, enabled, disabled or removed
    CREDENTIALS = "credentials"  # a credential of the server of this name was set or deleted
    TOOL_CALLS = "tool_calls"  # a call of the run of this id, or of none, was written
    DELIVERIES = "deliveries"  # something came to the webhook of this id, and was written down
    WEBHOOKS = "webhooks"  # what was decided about the webhook of this id changed, or it was made or removed
    SETTINGS = "settings"  # the setting of this key was changed
    AUTH = "auth"  # what the client of this id was given was taken back
    OUTBOX = "outbox"  # somebody is to hear of something, or what became of that


class Change(NamedTuple):
    """Something changed: read it again."""

    topic: Topic
    key: str


class Subscription:
    """The changes of some topics since they were last taken; the same change twice is one.

    Attributes:
        changed: Set while there are changes to take.
    """

    def __init__(self, topics: frozenset[Topic], changed: asyncio.Event) -> None:
        self.changed = changed
        self._topics = topics
        self._changes: dict[Change, None] = {}

    def take(self) -> list[Change]:
        """Return the changes since the last call, oldest first."""
        changes = list(self._changes)
        self._changes.clear()
        self.changed.clear()
        return changes

    def note(self, change: Change) -> None:
        """Keep the change, if it is of a topic subscribed to."""
        if change.topic in self._topics:
            self._changes[change] = None
            self.changed.set()


class Hub:
    """Publish and subscribe, on the event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: dict[Topic, set[Subscription]] = {topic: set() for topic in Topic}
        self._published = Counter[Topic]()

    def publish(self, topic: Topic, key: str, *, origin: Subscription | None = None) -> None:
        """Tell every subscriber of the topic that the thing of this key changed.

        Args:
            topic: What kind of thing.
            key: Its id.
            origin: Who passes it on from another process, and need not hear it again.
        """
        change = Change(topic, key)
        self._published[topic] += 1
        for subscription in self._subscriptions[topic]:
            if subscription is not origin:
                subscription.note(change)

    def turn(self, *topics: Topic) -> int:
        """Return how many changes of topics there were, so that who reads it twice knows whether any came between."""
        return sum(self._published[topic] for topic in topics)

    @contextmanager
    def subscribe(self, *topics: Topic, wake: asyncio.Event | None = None) -> Iterator[Subscription]:
        """Listen to topics while the context is open; a change published from then on is not lost.

        Args:
            topics: What to hear of.
            wake: What to set at a change, where the listener waits for other things as well.
        """
        subscription = Subscription(frozenset(topics), wake or asyncio.Event())
        for topic in topics:
            self._subscriptions[topic].add(subscription)
        try:
            yield subscription
        finally:
            for topic in topics:
                self._subscriptions[topic].discard(subscription)
