"""Filters: whether a delivery is one that a run is wanted for, such as `payload.action == "opened"`.

A small language of its own: fields, texts, numbers, `true`, `false`, `null`, lists of these; `==`, `!=`, `in` and
`not in`; `and`, `or`, `not` and parentheses. A field by itself holds where it is there and neither `null` nor `false`.
A field that is not there is `null`. It is read once and is never code.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from claude_runner.errors import InvalidError
from claude_runner.webhooks._paths import Path, find, path_of

MAX_FILTER: Final = 2_000  # characters
MAX_DEPTH: Final = 50

Holds = Callable[[Any], bool]
Value = Callable[[Any], Any]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?)(?![\w.])
      | (?P<field>payload(?:\.[^\s()\[\],"'=!<>]+)?)(?=[\s()\[\],=!]|$)
      | (?P<word>[A-Za-z_]+)
      | (?P<sign>==|!=|[()\[\],])
    )""",
    re.VERBOSE,
)
_CONSTANTS: Final = {"true": True, "false": False, "null": None}
_FORM: Final = (
    'a filter is like payload.action == "opened", payload.ref in ["main", "dev"], or not payload.draft'
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str

    @property
    def shown(self) -> str:
        return self.text or "its end"


def read_filter(text: str) -> Holds:
    """Read a filter and return what tells whether a payload passes it, which never raises.

    Raises:
        InvalidError: It can't be read; the sentence says where.
    """
    if len(text) > MAX_FILTER:
        raise _refused(f"it has {len(text):,} characters, and at most {MAX_FILTER:,} are kept")
    reader = _Reader(_tokens(text))
    holds = reader.either()
    reader.expect("")
    return holds


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    text = text.strip()
    done = 0
    while done < len(text):
        match = _TOKEN.match(text, done)
        if match is None or match.lastgroup is None:
            raise _refused(f"{text[done : done + 30].strip()!r} is nothing that it can have")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup]))
        done = match.end()
    return [*tokens, _Token("end", "")]


class _Reader:
    """Reads tokens, one method for each rank of the operators."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def either(self) -> Holds:
        """Read conditions with `or` between them."""
        conditions = [self._both()]
        while self._took("or"):
            conditions.append(self._both())
        return lambda payload: any(holds(payload) for holds in conditions)

    def _both(self) -> Holds:
        conditions = [self._negated()]
        while self._took("and"):
            conditions.append(self._negated())
        return lambda payload: all(holds(payload) for holds in conditions)

    def _negated(self) -> Holds:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refused(f"it is nested more than {MAX_DEPTH} deep")
        try:
            if self._took("not"):
                return _not(self._negated())
            if self._took("("):
                holds = self.either()
                self.expect(")")
                return holds
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Holds:
        alone = self._tokens[self._place].kind == "field"
        left = self._value()
        for sign in ("==", "!="):
            if self._took(sign):
                return _equal(left, self._value(), wanted=sign == "==")
        negated = self._took("not")
        if self._took("in"):
            holds = _among(left, self._value())
            return _not(holds) if negated else holds
        if negated or not alone:
            raise _refused(f"after that value it has {self._next.shown!r}, where ==, != or in belongs")
        return lambda payload: not any(left(payload) is nothing for nothing in (None, False))

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "field":
            path = _path(token.text)
            return lambda payload: None if (found := find(payload, path)) is None else found.value
        if token == _Token("sign", "["):
            return _constant(self._items())
        return _constant(_literal(token))

    def _items(self) -> list[Any]:
        items: list[Any] = []
        while not self._took("]"):
            if items:
                self.expect(",")
            items.append(_literal(self._take()))
        return items

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _took(self, text: str) -> bool:
        """Take the next token where it is this word or sign; tells whether it was."""
        if self._next.kind in {"word", "sign"} and self._next.text == text:
            self._place += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Take the next token, which must be this; the empty text is the end."""
        token = self._take()
        if token.text != text or token.kind not in {"word", "sign", "end"}:
            raise _refused(f"it has {token.shown!r} where {text or 'its end'!r} belongs")


def _path(field: str) -> Path:
    try:
        return path_of(field)
    except InvalidError as error:
        raise _refused(str(error)) from error


def _literal(token: _Token) -> Any:
    if token.kind in {"text", "number"}:
        try:
            return json.loads(token.text)
        except ValueError as error:
            raise _refused(f"{token.text[:30]!r} is no text or number as JSON has it") from error
    if token.kind == "word" and token.text in _CONSTANTS:
        return _CONSTANTS[token.text]
    hint = "; texts stand in double quotes" if token.kind == "word" else ""
    raise _refused(f"it has {token.shown!r} where a field or a value belongs{hint}")


def _constant(value: Any) -> Value:
    return lambda _: value


def _not(holds: Holds) -> Holds:
    return lambda payload: not holds(payload)


def _equal(left: Value, right: Value, *, wanted: bool) -> Holds:
    return lambda payload: _same(left(payload), right(payload)) is wanted


def _among(left: Value, right: Value) -> Holds:
    """Return whether a value is an item of a list, part of a text, or a key of an object."""

    def holds(payload: Any) -> bool:
        value, whole = left(payload), right(payload)
        if isinstance(whole, list):
            return any(_same(value, item) for item in whole)
        return isinstance(whole, (str, dict)) and isinstance(value, str) and value in whole

    return holds


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in JSON, where true is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _refused(why: str) -> InvalidError:
    return InvalidError(f"the filter can't be read: {why}; {_FORM}", field="filter")
