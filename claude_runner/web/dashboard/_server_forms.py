"""Fields made of a tool's JSON schema, and what was typed into forms about servers.

A schema is somebody else's and may say anything: what of it makes no simple field is asked for as JSON, and nothing in
it is taken for more than a label.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any, Final

from claude_runner.errors import InvalidError, RunnerError
from claude_runner.servers import PLACEHOLDER, ExternalDraft
from claude_runner.web.dashboard._forms import Form

MOST_FIELDS: Final = 40  # of a tool with more arguments JSON is asked for
MOST_CHOICES: Final = 200
LONGEST_CHOICES: Final = 8_000  # characters of all of them
MOST_STEPS: Final = 8  # from a schema to the one that it stands for
SHOWN: Final = 600  # characters of what a schema says of a field

_NAME: Final = re.compile(r"[A-Za-z_][\w-]{0,99}", re.ASCII)  # of a variable or a header
_LEFT_OUT: Final = object()


class Control(StrEnum):
    """What an argument is typed into."""

    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ArgumentField:
    """An argument of a tool as a form asks for it.

    Attributes:
        name: What the tool calls it.
        key: What the form calls it: nothing that a schema says is a name in our markup.
        hint: What the schema says of it.
        choices: The values there are, each as JSON and as it is shown.
    """

    name: str
    key: str
    control: Control
    required: bool
    hint: str
    choices: tuple[tuple[str, str], ...] = ()


def argument_fields(schema: Mapping[str, Any]) -> tuple[ArgumentField, ...] | None:
    """Return a field for each argument; `None` where they are so many, or so told, that JSON is asked for instead."""
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, Mapping) or len(properties) > MOST_FIELDS:
        return None
    needed = required if isinstance(required, list) else []
    return tuple(
        _field(place, str(name), part, schema, is_required=name in needed)
        for place, (name, part) in enumerate(properties.items())
    )


def typed_arguments(form: Form, fields: Sequence[ArgumentField]) -> dict[str, Any]:
    """Return the arguments that were typed; what is empty is left out, unless the tool can't do without it.

    Raises:
        InvalidError: Something typed can't be what it is to be; its field is the form's.
    """
    typed = {field.name: _value(form.text(field.key), field) for field in fields}
    return {name: value for name, value in typed.items() if value is not _LEFT_OUT}


def json_object(text: str, field: str) -> dict[str, Any]:
    """Return the object that was typed, an empty one where nothing was.

    Raises:
        InvalidError: It is no JSON object.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"this is no JSON: {error}", field=field) from None
    if not isinstance(value, dict):
        raise InvalidError('this is no JSON object, such as {"city": "Bern"}', field=field)
    return value


def typed_in(arguments: Mapping[str, Any], fields: Sequence[ArgumentField]) -> dict[str, str]:
    """Return what would have been typed to give these arguments, by the form's fields."""
    return {field.key: _typed(arguments[field.name], field) for field in fields if field.name in arguments}


def as_json(value: object) -> str:
    """Return a value as people read JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def external_draft(form: Form) -> ExternalDraft:
    """Return the external server that a form describes.

    Raises:
        InvalidError: A line of the form can't be read.
    """
    is_command = form.text("how") != "url"
    return ExternalDraft(
        name=form.text("name").strip(),
        description=form.text("description").strip(),
        command=form.text("command").strip() if is_command else None,
        args=tuple(_lines(form.text("args"))) if is_command else (),
        env_vars=_pairs(form.text("env_vars"), "=", "env_vars", is_whole=False) if is_command else {},
        url=None if is_command else form.text("url").strip(),
        headers={} if is_command else _pairs(form.text("headers"), ":", "headers", is_whole=True),
    )


def without_secrets(form: Form) -> Form:
    """Return the form of an external server as it may be shown again: with no value that would be sealed."""
    plain = ("name", "description", "code", "how", "command", "args", "url")
    kept = [(name, form.text(name)) for name in plain if name in form]
    kept.append(("env_vars", "\n".join(_without_value(line, "=") for line in _lines(form.text("env_vars")))))
    kept.append(("headers", "\n".join(_without_value(line, ":") for line in _lines(form.text("headers")))))
    return Form(kept)


def _without_value(line: str, between: str) -> str:
    """Return a line with its name alone, unless its value only names a credential; what has no name is all secret."""
    name, separator, value = line.partition(between)
    if PLACEHOLDER.search(value):
        return line
    return name + separator if _NAME.fullmatch(name.strip()) and (separator or between == "=") else ""


def refusal(error: RunnerError | None, fields: Collection[str]) -> dict[str, Any]:
    """Return what a form with these fields shows of a refusal: a sentence at the field at fault, else one on top."""
    if error is None:
        return {"errors": {}, "problem": None}
    if error.field in fields:
        return {"errors": {error.field: str(error)}, "problem": None}
    return {"errors": {}, "problem": str(error)}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def _pairs(text: str, between: str, field: str, *, is_whole: bool) -> dict[str, str]:
    """Return the lines `name=value` of a text, or `name: value`; with `is_whole` none goes without a value."""
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(text), 1):
        name, separator, value = (part.strip() for part in line.partition(between))
        if is_whole and not separator:  # the line is not repeated: it may be all secret
            raise InvalidError(f"line {number} has no '{between}' after the name", field=field)
        if name in found:
            raise InvalidError(f"line {number} names {name[:60]!r} again", field=field)
        found[name] = value
    return found


def _field(
    place: int, name: str, part: object, schema: Mapping[str, Any], *, is_required: bool
) -> ArgumentField:
    told = _resolved(part, schema)
    control, choices = _control(told)
    return ArgumentField(name, f"arg-{place}", control, is_required, _hint(told), choices)


def _resolved(part: object, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a part of a schema says where it refers to another, or is one that may be null."""
    told: dict[str, Any] = {}
    for _ in range(MOST_STEPS):
        if not isinstance(part, Mapping):
            return told
        told = {**part, **{key: told[key] for key in ("description", "default") if key in told}}
        following = _only(part) if "$ref" not in part else _referred(part["$ref"], schema)
        if following is None:
            return told
        part = following
    return {}


def _only(part: Mapping[str, Any]) -> object | None:
    """Return the one schema that another stands for, besides null."""
    for key in ("anyOf", "oneOf", "allOf"):
        choices = part.get(key)
        if isinstance(choices, list):
            real = [it for it in choices if it != {"type": "null"}]
            return real[0] if len(real) == 1 else None
    return None


def _referred(where: object, schema: Mapping[str, Any]) -> object:
    """Return the definition that a reference names; of what is not in the same schema nothing is known."""
    match str(where).split("/"):
        case ["#", ("$defs" | "definitions") as place, name] if isinstance(schema.get(place), Mapping):
            return schema[place].get(name, {})
        case _:
            return {}


def _control(told: Mapping[str, Any]) -> tuple[Control, tuple[tuple[str, str], ...]]:
    values = [told["const"]] if "const" in told else told.get("enum")
    kind = told.get("type")
    if isinstance(kind, list):
        real = [it for it in kind if it != "null"]
        kind = real[0] if len(real) == 1 else None
    if kind == "boolean" and values is None:
        values = [True, False]
    if (
        isinstance(values, list)
        and 0 < len(values) <= MOST_CHOICES
        and len(json.dumps(values)) <= LONGEST_CHOICES
    ):
        return Control.CHOICE, tuple(
            (json.dumps(it), it if isinstance(it, str) else json.dumps(it)) for it in values if it is not None
        )
    kinds = {"string": Control.TEXT, "integer": Control.NUMBER, "number": Control.NUMBER}
    return (kinds.get(kind, Control.JSON) if isinstance(kind, str) else Control.JSON), ()


def _hint(told: Mapping[str, Any]) -> str:
    """Return what a schema says of an argument: its description, its bounds, its default."""
    parts = [told["description"].strip()] if isinstance(told.get("description"), str) else []
    low, high = told.get("minimum"), told.get("maximum")
    if isinstance(low, int | float) and isinstance(high, int | float):
        parts.append(f"From {_shown(low)} to {_shown(high)}.")
    if told.get("default") is not None:
        parts.append(f"Default: {json.dumps(told['default'], ensure_ascii=False)}")
    return " ".join(part for part in parts if part)[:SHOWN]


def _shown(number: float) -> str:
    return (
        f"{number:g}" if abs(number) < 1e15 else str(number)
    )  # of which a schema may have one beyond all floats


def _value(typed: str, field: ArgumentField) -> object:
    if field.control is Control.TEXT:
        return typed if typed or field.required else _LEFT_OUT
    if not typed.strip():
        if field.required:
            raise InvalidError("the tool can't do without this", field=field.key)
        return _LEFT_OUT
    if field.control is Control.NUMBER:
        return _number(typed.strip(), field.key)
    if field.control is Control.CHOICE and typed not in {value for value, _ in field.choices}:
        raise InvalidError("choose one of the list", field=field.key)
    try:
        return json.loads(typed)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"this is no JSON: {error}", field=field.key) from None


def _number(typed: str, key: str) -> int | float:
    try:
        return int(typed)
    except ValueError:
        pass
    try:
        value = float(typed)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise InvalidError(f"{typed[:40]!r} is no number", field=key)
    return value


def _typed(value: object, field: ArgumentField) -> str:
    if field.control is Control.TEXT and isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=field.control is Control.CHOICE)
