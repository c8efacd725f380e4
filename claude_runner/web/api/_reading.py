"""Reads what a caller sends: parameters of an address, and bodies of JSON alone, without anything twice or unknown."""

import json
import math
from collections import deque
from collections.abc import Mapping
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, NoReturn, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from claude_runner.errors import InvalidError, RunnerError
from claude_runner.views.fitting import SHOWN, fitting, joined, shown

MAX_DEPTH: Final = 100
MAX_PARAMETERS: Final = 100


class MalformedError(RunnerError):
    """A body is no JSON."""

    code: ClassVar[str] = "malformed"
    status: ClassVar[int] = 400


class MediaTypeError(RunnerError):
    """A body is of a type that is not read here."""

    code: ClassVar[str] = "media_type"
    status: ClassVar[int] = 415


class Form:
    """What an endpoint takes in its address or in its body."""

    def __init__(self, kind: Any) -> None:
        self.kind: Final = kind

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Return what checks it."""
        return TypeAdapter(self.kind)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Return its JSON schema."""
        return self.adapter.json_schema()

    @cached_property
    def fields(self) -> Mapping[str, Any]:
        """Return the types of its fields."""
        return get_type_hints(self.kind, include_extras=True)

    def is_list(self, name: str) -> bool:
        """Tell whether a field may be there several times in an address."""
        return _is_list(self.fields[name])

    def read(self, given: dict[str, Any], whose: str) -> Any:
        """Return what was given, checked.

        Raises:
            InvalidError: Something is missing, unknown, or does not fit; its `field` says what.
        """
        unknown = next((name for name in given if name not in self.fields), None)
        if unknown is not None:
            takes = f"it takes {', '.join(self.fields)}" if self.fields else "it takes nothing"
            raise InvalidError(f"{whose} takes no {shown(unknown)}; {takes}", field=unknown[:SHOWN])
        try:
            return self.adapter.validate_python(given)
        except ValidationError as error:
            self._refuse(error, given, whose)

    def _refuse(self, error: ValidationError, given: Mapping[str, Any], whose: str) -> NoReturn:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        missing = [
            str(detail["loc"][0])
            for detail in details
            if detail["type"] == "missing" and not detail["loc"][1:]
        ]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise InvalidError(
                f"{whose} needs {joined(missing, 'and')}, which {verb} missing", field=missing[0]
            ) from error
        name = str(details[0]["loc"][0])
        part = self.schema["properties"][name]
        fits = joined(fitting(part, self.schema), "or")
        if part.get("writeOnly"):  # a secret
            raise InvalidError(f"{name} must be {fits}", field=name) from None
        raise InvalidError(f"{name} is {shown(given[name])}; it must be {fits}", field=name) from error


async def read_body(request: Request, form: Form, whose: str) -> Any:
    """Return the body, checked; none at all counts as one without fields.

    Raises:
        MediaTypeError: It is not sent as JSON.
        MalformedError: It is none.
        InvalidError: It does not fit.
    """
    raw = await request.body()
    if (
        raw
        and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json"
    ):
        raise MediaTypeError("send the body as JSON: Content-Type application/json")
    content = _decoded(raw) if raw else {}
    if not isinstance(content, dict):
        raise InvalidError(f"the body of {whose} is an object, such as {{}}")
    return form.read(content, whose)


def read_query(request: Request, form: Form, whose: str) -> Any:
    """Return the parameters of the address, checked; an empty one counts as left out.

    Raises:
        InvalidError: They do not fit.
    """
    given: dict[str, Any] = {}
    for name, value in _pairs(request):
        if name in form.fields and form.is_list(name):
            given.setdefault(name, []).extend([value] if value else [])
        elif name in given:
            raise InvalidError(f"{shown(name)} is there twice", field=name[:SHOWN])
        elif value or name not in form.fields:
            given[name] = value
    return form.read(given, whose)


def read_nothing(request: Request, whose: str) -> None:
    """Refuse an address with parameters; raises `InvalidError`."""
    for name, _ in _pairs(request):
        raise InvalidError(f"{whose} takes no parameters, so not {shown(name)}", field=name[:SHOWN])


def _pairs(request: Request) -> list[tuple[str, str]]:
    query: bytes = request.scope["query_string"]
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict"
        )
    except ValueError as error:
        raise InvalidError(
            "the parameters of the address can't be read: they are UTF-8, percent-encoded"
        ) from error


def _decoded(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
        content = _DECODER.decode(text)
        if "\\u" in text:  # half of a pair is no character, and can be kept nowhere
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise _too_deep() from None
    except UnicodeError as error:
        raise MalformedError("the body is not UTF-8, or has half of a surrogate pair") from error
    except ValueError as error:
        raise MalformedError(f"the body is not JSON: {str(error)[:200]}") from error
    _refuse_deep(content)
    return content


def _refuse_deep(content: Any) -> None:
    """Raise `MalformedError` where lists and objects are nested too deep; without recursion, which has an end."""
    waiting = deque([(content, 1)])
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(part, (dict, list)):
            inside = part.values() if isinstance(part, dict) else part
            waiting.extend((it, depth + 1) for it in inside if isinstance(it, (dict, list)))


def _too_deep() -> MalformedError:
    return MalformedError(f"the body is nested more than {MAX_DEPTH} deep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} is there twice")
    return content


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _is_list(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Annotated:
        return _is_list(get_args(kind)[0])
    if origin in {Union, UnionType}:
        return any(_is_list(it) for it in get_args(kind))
    return origin in {list, tuple}


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_constant, parse_float=_decimal)
