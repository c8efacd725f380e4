"""What a model costs: tokens in, US dollars out."""

from dataclasses import dataclass
from typing import Final

MILLION: Final = 1_000_000
# What Anthropic asks of tokens that its cache serves or takes in for five minutes, in parts of an input token's price.
CACHE_READ: Final = 0.1
CACHE_WRITE: Final = 1.25


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs in US dollars per million tokens; 0 for one that is free, such as one of the owner's own."""

    input: float
    output: float

    def cost(self, *, input: int, output: int, cache_read: int = 0, cache_write: int = 0) -> float:  # noqa: A002 - as `Tokens` has it
        """Return what so many tokens cost; what the cache served or took in is none of `input`."""
        read_in = input + CACHE_READ * cache_read + CACHE_WRITE * cache_write
        return (read_in * self.input + output * self.output) / MILLION
