"""What holds for all jobs: the rules of those that decide nothing themselves, and what models cost."""

from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_runner.errors import ConflictError, InvalidError, RunnerError, UnavailableError
from claude_runner.jobs import STANDARD, Policy
from claude_runner.prices import Price
from claude_runner.settings import Budgets, OwnerSettings, as_text, from_text
from claude_runner.web.dashboard._forms import Form, Notice, go_to, read_form
from claude_runner.web.dashboard._rendering import Pages
from claude_runner.web.dashboard._rule_fields import RULES, RuleFields, read_rules, stored_rules, typed_rules
from claude_runner.web.dashboard._rules import CHOICES, defaults_in_words

PLACE: Final = "/settings/rules"
UTC: Final = "UTC"  # of the instants among the rules, of which a default has none
EMPTY_ROWS: Final = 3
STALE: Final = (
    "Somebody else has changed these since you opened them. What you did not touch is as they have it, and nothing "
    "that you typed is lost: save again to store it."
)


class TypedPrice(NamedTuple):
    """What a model costs, as it was typed: US dollars per million tokens."""

    model: str = ""
    input: str = ""
    output: str = ""

    @property
    def is_empty(self) -> bool:
        """Tell whether the row is to be left out."""
        return not any(self)


class Typed(NamedTuple):
    """The form as it was typed."""

    rules: RuleFields
    prices: tuple[TypedPrice, ...]

    @classmethod
    def of(cls, owned: OwnerSettings) -> "Typed":
        """Return the form of the settings as they are."""
        prices = (TypedPrice(model, f"{it.input:g}", f"{it.output:g}") for model, it in owned.prices.items())
        return cls(RuleFields(**stored_rules(owned.job_defaults, UTC)), tuple(prices))

    @classmethod
    def read(cls, form: Form) -> "Typed":
        """Return what was typed."""
        columns = (form.all(f"price_{name}") for name in TypedPrice._fields)
        rows = (TypedPrice(*(text.strip() for text in row)) for row in zip(*columns, strict=False))
        return cls(RuleFields(**typed_rules(form)), tuple(row for row in rows if not row.is_empty))

    def rebased(self, was: "Typed", now: "Typed") -> "Typed":
        """Return it with what was not typed otherwise as it is now."""
        untouched = [name for name in RULES if getattr(self.rules, name) == getattr(was.rules, name)]
        rules = replace(self.rules, **{name: getattr(now.rules, name) for name in untouched})
        return Typed(rules, now.prices if self.prices == was.prices else self.prices)


class DefaultRules:
    """The page at `/settings/rules`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._app = pages.app

    def routes(self) -> Iterator[Route]:
        """Yield its routes."""
        yield Route(PLACE, self.show)
        yield Route(PLACE, self.save, methods=["POST"])

    async def show(self, request: Request) -> Response:
        """Show it."""
        owned = await self._app.stored.owned()
        return await self._page(request, Typed.of(owned), owned)

    async def save(self, request: Request) -> Response:
        """Change what was typed, unless somebody else has meanwhile."""
        form = await read_form(request)
        typed = Typed.read(form)
        seen = from_text(form.text("was")) or await self._app.stored.owned()
        policy, errors = await read_rules(self._app, typed.rules, UTC, seen.job_defaults)
        prices = _prices(typed.prices, errors)
        if errors:
            return await self._page(request, typed, seen, 422, errors)

        async def do() -> str:
            changes = _changes(seen, policy, prices)
            await self._app.stored.change(changes, seen)
            return PLACE

        try:
            path = await self._pages.once.done(form.text("once"), do)
        except ConflictError:
            now = await self._app.stored.owned()
            typed = typed.rebased(Typed.of(seen), Typed.of(now))
            return await self._page(request, typed, now, 409, {"": STALE})
        except RunnerError as error:
            return await self._page(request, typed, seen, error.status, {_field(error): str(error)})
        return go_to(path, Notice("Saved. What begins from now on goes by it."))

    async def _page(
        self,
        request: Request,
        typed: Typed,
        seen: OwnerSettings,
        status: int = 200,
        errors: Mapping[str, str] = MappingProxyType({}),
    ) -> Response:
        return await self._pages.page(
            request,
            "default_rules.html",
            status,
            fields=typed.rules,
            prices=(*typed.prices, *[TypedPrice()] * EMPTY_ROWS),
            was=as_text(seen),
            errors=errors,
            choices=CHOICES,
            defaults=defaults_in_words(STANDARD, Budgets()),
            channels=await self._channels(typed.rules),
        )

    async def _channels(self, fields: RuleFields) -> list[tuple[str, str]]:
        """Return the names of the channels that there are, and of those that were chosen when there were others."""
        names: list[str] = []
        with suppress(UnavailableError):  # where the key is not there that opens their addresses
            names = [channel.name for channel in await self._app.channels.list()]
        return [(name, name) for name in dict.fromkeys([*names, *(fields.notify_channels or ())])]


def _changes(seen: OwnerSettings, policy: Policy, prices: Mapping[str, Price]) -> dict[str, object]:
    """Return those of the settings that were typed otherwise than they were seen; each is the whole."""
    wished: dict[str, object] = {"job_defaults": policy, "prices": MappingProxyType(dict(prices))}
    return {key: value for key, value in wished.items() if value != getattr(seen, key)}


def _prices(rows: tuple[TypedPrice, ...], errors: dict[str, str]) -> dict[str, Price]:
    """Return the prices; a sentence for each row that is none goes to the errors, by the number of the row."""
    prices: dict[str, Price] = {}
    for place, row in enumerate(rows):
        try:
            prices[_named(row.model, prices)] = Price(_amount(row.input), _amount(row.output))
        except InvalidError as error:
            errors[f"price_{place}"] = str(error)
    return prices


def _named(model: str, others: Container[str]) -> str:
    if not model:
        raise InvalidError("name the model that this is the price of, as its runs show it")
    if model in others:
        raise InvalidError(f"{model[:60]!r} stands here twice")
    return model


def _amount(text: str) -> float:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:  # NaN is neither
        raise InvalidError(
            f"{text[:40]!r} is no price; give US dollars per million tokens, such as 3, and 0 for a model that is free"
        )
    return value


def _field(error: RunnerError) -> str:
    """Return the field of the form that an error is about: the rule, or the prices as a whole."""
    setting, _, entry = (error.field or "").partition(".")
    return entry if setting == "job_defaults" and entry in RULES else "prices" if setting == "prices" else ""
