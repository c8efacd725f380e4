"""Who changed what: wakes whoever waits for a change, inside the process and in the others of the home.

A change is a pointer, never the thing: a topic and the id of the row. Whoever is woken reads the database.
"""

from claude_runner.hub._hub import Change, Hub, Subscription, Topic
from claude_runner.hub._wire import join, listen

__all__ = ["Change", "Hub", "Subscription", "Topic", "join", "listen"]
