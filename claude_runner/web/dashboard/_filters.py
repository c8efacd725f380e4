"""What the address of a list asks for: filters, as people type them in a form and as links have them."""

from contextlib import suppress
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from claude_runner.web.dashboard._rendering import with_query

LONGEST: Final = 500  # characters of a filter

Word = TypeVar("Word", bound=StrEnum)


class Tab(NamedTuple):
    """A value of a filter that is chosen with one click."""

    words: str
    link: str
    is_chosen: bool


class Asked:
    """The filters of an address.

    Attributes:
        errors: A sentence for each that can't be read, by its name; it counts as not given.
    """

    def __init__(self, query: QueryParams, zone: ZoneInfo) -> None:
        """Take the filters of an address.

        Args:
            query: They.
            zone: Whose days are meant.
        """
        self._query = query
        self._zone = zone
        self.errors: dict[str, str] = {}

    def text(self, name: str) -> str | None:
        """Return what was given, `None` for nothing."""
        given = self._query.get(name, "").strip()
        if len(given) > LONGEST:
            self.errors[name] = f"this has {len(given):,} characters; {LONGEST} are looked for at the most"
            return None
        return given or None

    def one_of(self, name: str, words: type[Word]) -> Word | None:
        """Return a word of a closed set."""
        found = self.several(name, words)
        return found[-1] if found else None

    def several(self, name: str, words: type[Word]) -> tuple[Word, ...]:
        """Return the words of a closed set that were given, each once."""
        found: dict[Word, None] = {}
        for given in filter(None, self._query.getlist(name)):
            try:
                found[words(given)] = None
            except ValueError:
                self.errors[name] = f"{given[:60]!r} is none of {', '.join(words)}"
        return tuple(found)

    def amount(self, name: str) -> float | None:
        """Return an amount from 0 on."""
        given = self.text(name)
        if given is None:
            return None
        with suppress(ValueError):
            value = float(given.removeprefix("$").strip())
            if 0 <= value < 1e12:  # NaN is neither
                return value
        self.errors[name] = f"{given[:40]!r} is no amount; give one such as 0.50"
        return None

    def yes_or_no(self, name: str) -> bool | None:
        """Return what was chosen, `None` for either."""
        given = self.text(name)
        if given is None or given in {"yes", "no"}:
            return None if given is None else given == "yes"
        self.errors[name] = f"{given[:40]!r} is neither yes nor no"
        return None

    def instant(self, name: str) -> datetime | None:
        """Return an instant; a day is its beginning on the owner's clock."""
        given = self.text(name)
        if given is None:
            return None
        with suppress(ValueError, OverflowError):  # no instant, or none that UTC has
            at = datetime.fromisoformat(given)
            return (at if at.tzinfo is not None else at.replace(tzinfo=self._zone)).astimezone(UTC)
        self.errors[name] = (
            f"{given[:40]!r} is neither a day, such as 2026-11-27, nor an instant, such as 2026-11-27T09:00:00+01:00"
        )
        return None


def whole(text: str, digits: int = 9) -> int | None:
    """Return a number of an address or a field; `None` where it is no whole one from 0 on, or has more digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def is_day(text: str | None) -> bool:
    """Tell whether a filter is a day, or not given, so that a browser's calendar can show it."""
    with suppress(ValueError):
        return not text or date.fromisoformat(text).isoformat() == text
    return False


def given(request: Request, *left_out: str) -> dict[str, tuple[str, ...]]:
    """Return what an address asks for, by name, without what is empty or left out."""
    query = request.query_params
    found = {name: tuple(filter(None, query.getlist(name))) for name in query if name not in left_out}
    return {name: values for name, values in found.items() if values}


def tidy(request: Request) -> Response | None:
    """Return where a form's address is without its empty fields, so that what is kept of it is what it asks for."""
    if all(value for _, value in request.query_params.multi_items()):
        return None
    return RedirectResponse(with_query(request.url.path, **given(request)), 303)
