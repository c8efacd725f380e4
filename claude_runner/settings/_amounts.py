"""The settings that are numbers: how far chains of runs may go, what runs may cost, and what models do."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from claude_runner.errors import InvalidError
from claude_runner.jobs import check_model
from claude_runner.prices import MOST_USD, Price, is_amount, is_number

MAX_PRICES: Final = 200
SHORT_NAMES: Final = frozenset({"default", "best", "opus", "opusplan", "sonnet", "haiku", "fable"})


class FollowUpCaps(NamedTuple):
    """How far a chain of runs that ask for one another may go.

    Attributes:
        max_depth: Follow-ups one after the other.
        max_runs: Follow-ups of one chain in all.
        max_cost_usd: What a chain may have cost, its first run included, for another follow-up to be made or started.
    """

    max_depth: int = 3
    max_runs: int = 10
    max_cost_usd: float = 5.0


class Budgets(NamedTuple):
    """What runs may cost in US dollars, whoever starts them; `None` for no bound.

    A job or a webhook may have narrower bounds of its own, never wider ones. Days and months are the owner's.

    Attributes:
        day_usd: All runs of a day.
        month_usd: All runs of a month.
        run_usd: Each run, but for one turn.
        job_day_usd: The runs of one job in a day, of each job.
        webhook_day_usd: The runs of one webhook in a day, of each webhook.
    """

    day_usd: float | None = None
    month_usd: float | None = None
    run_usd: float | None = None
    job_day_usd: float | None = None
    webhook_day_usd: float | None = None


# What is said of budgets that nobody can read: until they are set anew nothing may be spent.
NOTHING: Final = Budgets(0.0, 0.0, 0.0, 0.0, 0.0)

# Each bound with those that it must not be above, or it would never be reached.
_WITHIN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "run_usd": ("job_day_usd", "webhook_day_usd", "day_usd", "month_usd"),
        "job_day_usd": ("day_usd", "month_usd"),
        "webhook_day_usd": ("day_usd", "month_usd"),
        "day_usd": ("month_usd",),
    }
)


def read_caps(value: object) -> FollowUpCaps:
    """Return the caps of follow-ups that a value is; raises `InvalidError`."""
    given = value._asdict() if isinstance(value, FollowUpCaps) else value
    if not isinstance(given, Mapping) or not given.keys() <= set(FollowUpCaps._fields):
        raise InvalidError(f"give {', '.join(FollowUpCaps._fields)}", field="followups")
    for name, amount in given.items():
        if not is_amount(amount) or (name != "max_cost_usd" and amount != int(amount)):
            raise InvalidError(f"{name} is a number from 0 on, not {str(amount)[:60]!r}", field="followups")
    return FollowUpCaps(
        **{name: amount if name == "max_cost_usd" else int(amount) for name, amount in given.items()}
    )


def read_budgets(value: object) -> Budgets:
    """Return the budgets that a value is.

    Raises:
        InvalidError: One is no amount above 0, or two contradict each other; `field` is `budgets.` and which.
    """
    given = value._asdict() if isinstance(value, Budgets) else value
    if not isinstance(given, Mapping) or not given.keys() <= set(Budgets._fields):
        raise InvalidError(f"give some of {', '.join(Budgets._fields)}", field="budgets")
    for name, amount in given.items():
        _check_budget(name, amount)
    budgets = Budgets(**given)
    for name, wider in _WITHIN.items():
        for other in wider:
            _check_within(name, getattr(budgets, name), other, getattr(budgets, other))
    return budgets


def read_prices(value: object) -> Mapping[str, Price]:
    """Return the prices of models that a value is, by the model's name; raises `InvalidError`."""
    if not isinstance(value, Mapping):
        raise InvalidError(
            'give prices in US dollars per million tokens, such as {"my-model": {"input": 3, "output": 15}}',
            field="prices",
        )
    if len(value) > MAX_PRICES:
        raise InvalidError(f"prices of {len(value)} models; at most {MAX_PRICES} are kept", field="prices")
    return MappingProxyType({_model(model): _price(model, given) for model, given in value.items()})


def as_json(value: Any) -> Any:
    """Return caps, budgets or prices as JSON can hold them."""
    if isinstance(value, Mapping):
        return {model: {"input": price.input, "output": price.output} for model, price in value.items()}
    return value._asdict()


def _check_budget(name: str, amount: Any) -> None:
    if amount is None:
        return
    field = f"budgets.{name}"
    if not is_number(amount):
        raise InvalidError(f"{name} is a number of US dollars, not {str(amount)[:60]!r}", field=field)
    if amount <= 0:
        raise InvalidError(
            f"{name} is {amount:g}; with that nothing could run: give more than 0, null for no bound, or pause all "
            "jobs by pause_all",
            field=field,
        )
    if amount > MOST_USD:
        raise InvalidError(f"{name} is more than {MOST_USD:,}; give less, or null for no bound", field=field)


def _check_within(name: str, amount: float | None, wider: str, most: float | None) -> None:
    if amount is not None and most is not None and amount > most:
        raise InvalidError(
            f"{name} is {amount:g} and {wider} only {most:g}, so {name} could never be reached: lower it, or raise "
            f"{wider}",
            field=f"budgets.{name}",
        )


def _model(name: object) -> str:
    try:
        check_model(str(name))
    except InvalidError as error:
        raise InvalidError(str(error), field="prices") from error
    if str(name).lower().removesuffix("[1m]") in SHORT_NAMES:
        raise InvalidError(
            f"{str(name)!r} is a short word, by which no price is looked up: Claude Code tells of models by their full "
            "names, such as 'claude-sonnet-5-5'; a run that it answered shows its name",
            field="prices",
        )
    return str(name)


def _price(model: str, given: object) -> Price:
    if isinstance(given, Price):
        given = {"input": given.input, "output": given.output}
    if not isinstance(given, Mapping) or given.keys() != {"input", "output"}:
        raise InvalidError(
            f"the price of {model[:60]!r} is {{'input': …, 'output': …}}, in US dollars per million tokens",
            field=f"prices.{model[:60]}",
        )
    for name, amount in given.items():
        if not is_amount(amount):
            raise InvalidError(
                f"{name} of {model[:60]!r} is a number of US dollars per million tokens from 0 on, not "
                f"{str(amount)[:60]!r}; 0 is for a model that is free",
                field=f"prices.{model[:60]}",
            )
    return Price(float(given["input"]), float(given["output"]))
