"""What the environment decides, read once, and the clock: the two things the outside world passes in."""

from claude_runner.config._clock import Clock, SystemClock
from claude_runner.config._reading import is_host
from claude_runner.config._settings import (
    CHECKOUT,
    Login,
    Settings,
    Transport,
    default_concurrency,
    is_loopback,
)
from claude_runner.config._variables import VARIABLES, Variable

__all__ = [
    "CHECKOUT",
    "VARIABLES",
    "Clock",
    "Login",
    "Settings",
    "SystemClock",
    "Transport",
    "Variable",
    "default_concurrency",
    "is_host",
    "is_loopback",
]
