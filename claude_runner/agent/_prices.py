"""What models cost while they answer: Anthropic's list prices, and those that the owner gave, which come first.

The list is that of the Claude Code CLI 2.1.330, read on 2026-11-28 from the catalog in it (what it says of them in
words is `get_server_info()["models"]`). It is only for the count while a run goes on, and to tell whether Claude
Code's own bound can be trusted: what a run has cost in the end is what the CLI says, which knows models that are newer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.prices import CACHE_READ, CACHE_WRITE, MILLION, Price
from claude_runner.runs import Tokens

HOUR_WRITE: Final = 2  # what the cache takes in for an hour, in parts of an input token's price
OWNERS: Final = "owner"  # the `costBasis` of what the owner's price says


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens; from so many tokens in one request on, all of it costs `factor` times as much."""

    input: float
    output: float
    cache_read: float
    long_from: int | None = None
    factor: float = 1

    def cost(self, tokens: Tokens, kept_an_hour: int = 0) -> float:
        """Return what tokens cost, of whose cache writes so many are kept for an hour."""
        whole = tokens.input + tokens.cache_read + tokens.cache_write
        written = CACHE_WRITE * (tokens.cache_write - kept_an_hour) + HOUR_WRITE * kept_an_hour
        dollars = (
            (tokens.input + written) * self.input
            + tokens.cache_read * self.cache_read
            + tokens.output * self.output
        )
        return dollars * (self.factor if self.long_from and whole > self.long_from else 1) / MILLION


FREE: Final = Rates(0, 0, 0)
_OPUS: Final = Rates(5, 25, 0.5)
_SONNET: Final = Rates(3, 15, 0.3)
_FIRST_OPUS: Final = Rates(15, 75, 1.5)
_LIST: Final[Mapping[str, Rates]] = {
    "fable-5": Rates(10, 50, 1),
    "fable-5-1": Rates(10, 50, 0.25),
    "fable-5-2": Rates(8, 40, 0.2),
    "haiku-4-5": Rates(1, 5, 0.1),
    "haiku-5-5": Rates(0.1, 0.5, 0.01, long_from=100_000, factor=5),
    **dict.fromkeys(("opus-4", "opus-4-0", "opus-4-1"), _FIRST_OPUS),
    **dict.fromkeys(("opus-4-5", "opus-4-6", "opus-4-7", "opus-4-8", "opus-5"), _OPUS),
    "opus-5-5": Rates(4, 20, 0.2),
    **dict.fromkeys(("sonnet-4", "sonnet-4-0", "sonnet-4-5", "sonnet-4-6"), _SONNET),
    "sonnet-5": Rates(2, 10, 0.2),
    "sonnet-5-5": Rates(2, 10, 0.1),
}
# The CLI's short words, for before it has told what it makes of them.
_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("default", "best", "opus"), "opus-5-5"),
    **dict.fromkeys(("sonnet", "opusplan"), "sonnet-5-5"),
    "haiku": "haiku-5-5",
    "fable": "fable-5-2",
}
# As Anthropic, Bedrock, Vertex and gateways write it: with where it comes from before it, and a date after it.
_NAME: Final = re.compile(
    r"(?:.*[./])?claude-([a-z]+-\d(?:[-.]\d{1,2})?)(?:[-@]\d{8})?(?:-v\d+(?::\d+)?)?", re.ASCII
)


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return what a model costs, by the owner's prices or else by the list; `None` where neither knows it."""
    rates = rates_of(model, prices)
    return None if rates is None else Price(rates.input, rates.output)


def rates_of(model: str, prices: Mapping[str, Price]) -> Rates | None:
    """Return what a model costs with all that the list tells of its cache; see `price_of`."""
    owners = _owners(model, prices)
    if owners is not None:
        return Rates(owners.input, owners.output, CACHE_READ * owners.input)
    plain = _plain(model).lower()
    name = _NAME.fullmatch(plain)
    return _LIST.get(_WORDS.get(plain, "") if name is None else name[1].replace(".", "-"))


def is_listed(model: str, prices: Mapping[str, Price]) -> bool:
    """Tell whether what the CLI itself counts for a model is what it costs."""
    return _owners(model, prices) is None and rates_of(model, {}) is not None


def priced(usage: Mapping[str, Mapping[str, Any]], prices: Mapping[str, Price]) -> dict[str, dict[str, Any]]:
    """Return the SDK's `model_usage` with the cost of those models that the owner gave a price by that price.

    What a model costs that has none is told by its `costBasis`: anything but "list" and "owner" is a guess.
    """
    return {model: _by_owners_price(model, use, prices) for model, use in usage.items()}


def _by_owners_price(model: str, use: Mapping[str, Any], prices: Mapping[str, Price]) -> dict[str, Any]:
    if _owners(model, prices) is None or (rates := rates_of(model, prices)) is None:
        return dict(use)
    tokens = Tokens(
        use["inputTokens"], use["outputTokens"], use["cacheReadInputTokens"], use["cacheCreationInputTokens"]
    )
    cost = rates.cost(tokens, use.get("cacheCreationEphemeral1hInputTokens", 0))
    return dict(use) | {"costUSD": cost, "costBasis": OWNERS}


def _owners(model: str, prices: Mapping[str, Price]) -> Price | None:
    return prices.get(model) or prices.get(_plain(model))


def _plain(model: str) -> str:
    """Return a model's name without the CLI's mark for a larger context."""
    return model.removesuffix("[1m]")
