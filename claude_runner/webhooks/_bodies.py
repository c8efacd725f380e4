"""Bodies of deliveries: how JSON, forms and plain texts become a payload.

What can't be read starts nothing. Whatever is read can be written as JSON again and is not nested without end, so that
nothing after this has to be afraid of it. Of a key that an object has twice, the last counts, as in JavaScript.
"""

import json
import math
from collections import deque
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

from claude_runner.errors import RunnerError

MAX_DEPTH: Final = 100
MAX_FORM_FIELDS: Final = 1_000

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_UTF_8: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})


class MalformedError(RunnerError):
    """A body is not what its type says."""

    code: ClassVar[str] = "malformed"
    status: ClassVar[int] = 400


class UnreadableTypeError(MalformedError):
    """A body is of a type that is not read here (RFC 9110, section 15.5.16)."""

    code: ClassVar[str] = "unreadable_type"
    status: ClassVar[int] = 415


def read_payload(body: bytes, content_type: str, encoding: str = "") -> Any:
    """Return the payload of a body: JSON as it is, a form as an object of texts, anything else as a text.

    A form with nothing but `payload` is what the JSON in that says, as GitHub and Slack send it. A body without a type,
    or with that which curl gives it by itself, is JSON where it looks like that; none at all is null.

    Raises:
        MalformedError: It is not what its type says.
        UnreadableTypeError: Its type or its encoding is not read here.
    """
    if encoding.strip().lower() not in {"", "identity"}:
        raise UnreadableTypeError(f"bodies encoded as {encoding[:60]!r} are not read; send them as they are")
    if content_type == _JSON:
        return _json(_text(body))
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    _refuse_charset(parameters)
    if kind == _JSON or kind.endswith("+json"):
        return _json(_text(body))
    if kind == _FORM:
        return _form(_text(body))
    if kind == "" or kind.startswith("text/"):
        text = _text(body)
        return (_guessed(text) if text else None) if kind == "" else text
    raise UnreadableTypeError(
        f"bodies of the type {kind[:60]!r} are not read; send application/json, a form or text/plain"
    )


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise MalformedError(
            f"the body is not UTF-8: byte {error.start} is {body[error.start]:#04x}"
        ) from error


def _json(text: str) -> Any:
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise MalformedError(f"the body is not JSON: {str(error)[:200]}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _refuse_deep(value)
    return value


def _form(text: str) -> Any:
    if text.lstrip()[:1] in {"{", "["}:
        return _json(text)
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise MalformedError(f"the body is no form: {str(error)[:200]}") from error
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key not in fields:
            fields[key] = value
        elif isinstance(fields[key], list):
            fields[key].append(value)
        else:
            fields[key] = [fields[key], value]
    if len(pairs) == 1 and "payload" in fields and fields["payload"].lstrip()[:1] in {"{", "["}:
        return _json(fields["payload"])
    return fields


def _guessed(text: str) -> Any:
    return _json(text) if text.lstrip()[:1] in {"{", "["} else text


def _refuse_charset(parameters: str) -> None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF_8:
            raise UnreadableTypeError(f"the charset {value.strip()[:40]!r} is not read; send UTF-8")


def _refuse_deep(value: Any) -> None:
    """Raise `MalformedError` where lists and objects are nested too deep; without recursion, which has an end."""
    waiting = deque([(value, 1)])
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _too_deep()
        inside = part.values() if isinstance(part, dict) else part
        waiting.extend((it, depth + 1) for it in inside if isinstance(it, (dict, list)))


def _too_deep() -> MalformedError:
    return MalformedError(f"the body is nested more than {MAX_DEPTH} deep")


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


_DECODER: Final = json.JSONDecoder(parse_constant=_constant, parse_float=_decimal)
