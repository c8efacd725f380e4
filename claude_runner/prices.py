"""What a model costs: tokens in, US dollars out."""

import math
from dataclasses import dataclass
from typing import Final

MILLION: Final = 1_000_000
MOST_USD: Final = 1_000_000_000  # more is meant by nobody
# What Anthropic asks of tokens that its cache serves or takes in for five minutes, in parts of an input token's price.
CACHE_READ: Final = 0.1
CACHE_WRITE: Final = 1.25


def is_number(value: object) -> bool:
    """Tell whether a value is a number, neither endless nor far below 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -MOST_USD <= value < math.inf


def is_amount(value: object) -> bool:
    """Tell whether a value is an amount of US dollars from 0 on."""
    return isinstance(value, (int, float)) and is_number(value) and 0 <= value <= MOST_USD


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs in US dollars per million tokens; 0 for one that is free, such as one of the owner's own."""

    input: float
    output: float

    def cost(self, *, input: int, output: int, cache_read: int = 0, cache_write: int = 0) -> float:  # noqa: A002 - as `Tokens` has it
        """Return what so many tokens cost; what the cache served or took in is none of `input`."""
        read_in = input + CACHE_READ * cache_read + CACHE_WRITE * cache_write
        return (read_in * self.input + output * self.output) / MILLION
