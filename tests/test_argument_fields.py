"""Forms made of a tool's schema, what is typed into them, and how two texts of code differ."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from claude_runner.errors import InvalidError
from claude_runner.web.dashboard._forms import Form
from claude_runner.web.dashboard._server_code import differing
from claude_runner.web.dashboard._server_forms import argument_fields, typed_arguments, typed_in

NOTHING: Mapping[str, Any] = MappingProxyType({})


def field(part: Any, *, required: bool = False, defs: Any = NOTHING) -> Any:
    names = ["it"] if required else []
    [made] = argument_fields({"properties": {"it": part}, "required": names, "$defs": defs}) or ()
    return made


@pytest.mark.parametrize(
    ("part", "typed", "value"),
    [
        ({"type": "string"}, "a\nb", "a\nb"),
        ({"type": "integer"}, " 12 ", 12),
        ({"type": "number"}, "1e-3", 0.001),
        ({"type": "boolean"}, "false", False),
        ({"enum": ["a", 1, None]}, "1", 1),
        ({"const": "only"}, '"only"', "only"),
        ({"type": ["string", "null"]}, "a", "a"),
        ({"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]}, '"C"', "C"),
        ({"allOf": [{"type": "integer"}]}, "4", 4),
        ({"type": "array", "items": {}}, '["a"]', ["a"]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, '"a"', "a"),
        ({"$ref": "#/$defs/Loop"}, "{}", {}),
        ({"$ref": "https://elsewhere.example/"}, "1", 1),
        ({"type": {"odd": 1}, "enum": "odd", "description": 5}, "1", 1),
        (True, "[]", []),
    ],
)
def test_a_field_is_made_of_a_schema_and_read_back(part: Any, typed: str, value: Any) -> None:
    defs = {"Unit": {"enum": ["C", "F"]}, "Loop": {"$ref": "#/$defs/Loop"}}
    made = field(part, defs=defs)
    arguments = typed_arguments(Form([(made.key, typed)]), [made])
    assert arguments == {"it": value}
    again = typed_in(arguments, [made])
    assert typed_arguments(Form(again.items()), [made]) == arguments


@pytest.mark.parametrize(
    ("part", "typed"),
    [
        ({"type": "integer"}, "many"),
        ({"type": "number"}, "inf"),
        ({"type": "number"}, "9" * 5000),
        ({"type": "boolean"}, "yes"),
        ({"enum": ["a"]}, '"b"'),
        ({"type": "object"}, "{"),
        ({"type": "object"}, "[" * 100_000),
        ({"type": "object"}, ""),
    ],
)
def test_what_can_not_be_an_argument_is_refused_at_its_field(part: Any, typed: str) -> None:
    made = field(part, required=True)
    with pytest.raises(InvalidError) as refused:
        typed_arguments(Form([(made.key, typed)]), [made])
    assert refused.value.field == made.key


def test_what_is_left_empty_is_left_out_unless_it_is_required() -> None:
    assert typed_arguments(Form(), [field({"type": "string"})]) == {}
    assert typed_arguments(Form(), [field({"type": "integer"})]) == {}
    assert typed_arguments(Form(), [field({"type": "string"}, required=True)]) == {"it": ""}


def test_so_many_arguments_are_asked_for_as_json() -> None:
    assert argument_fields({"properties": {str(n): {} for n in range(41)}}) is None
    assert argument_fields({"properties": "odd"}) is None
    assert argument_fields({}) == ()


def test_what_differs_is_told_with_the_lines_it_begins_at() -> None:
    one = "\n".join(f"line {n}" for n in range(10_000))
    lines = differing(one, one.replace("line 5000\n", "another\n"))
    assert lines is not None
    assert lines[0] == ("place", "from line 4998")
    assert ("gone", "-line 5000") in lines
    assert ("added", "+another") in lines
    assert differing(one, one) == []
    assert differing(one, one.replace("line", "row")) is None
