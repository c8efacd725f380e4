"""How often strangers may ask for what costs something: so often from one network, and so often in all."""

from collections import OrderedDict
from math import ceil
from typing import Final

from starlette.requests import Request

from claude_runner.auth import OAuthError, Refusal
from claude_runner.config import Clock
from claude_runner.web._login import network_of

REMEMBERED: Final = 10_000  # networks
ROUNDING: Final = 1e-6  # seconds

_EVERYBODY: Final = "everybody"


class ThrottledError(OAuthError):
    """Asked too often.

    Attributes:
        seconds: How long to wait.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(Refusal.TEMPORARILY_UNAVAILABLE, f"this was asked too often; wait {seconds} seconds")
        self.seconds = seconds


class Throttle:
    """Lets so many requests through in a time: leaky buckets (ITU-T I.371), one for each network and one for all."""

    def __init__(self, clock: Clock, *, each: int, overall: int, seconds: float) -> None:
        """Make the buckets, empty.

        Args:
            clock: Tells how time passes.
            each: How many requests of one network fill its bucket.
            overall: How many fill that of all.
            seconds: How long a full bucket takes to run empty.
        """
        self._clock = clock
        self._each = each
        self._overall = overall
        self._seconds = seconds
        self._empty_at: OrderedDict[str, float] = OrderedDict()

    def admit(self, request: Request) -> None:
        """Count a request.

        Raises:
            ThrottledError: There were too many.
        """
        now = self._clock.elapsed()
        network = network_of(request)
        levels = {
            name: max(self._empty_at.get(name, now), now) + self._seconds / most
            for name, most in ((_EVERYBODY, self._overall), (network, self._each))
        }
        if (over := max(levels.values()) - now - self._seconds) > ROUNDING:
            raise ThrottledError(ceil(over))
        self._empty_at.update(levels)
        self._empty_at.move_to_end(network)
        self._empty_at.move_to_end(_EVERYBODY)
        while len(self._empty_at) > REMEMBERED:
            self._empty_at.popitem(last=False)
