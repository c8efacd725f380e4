"""Filters: which deliveries a run is wanted for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.webhooks import read_filter

PAYLOAD = {
    "action": "opened",
    "n": 7,
    "half": 0.5,
    "yes": True,
    "no": False,
    "nothing": None,
    "empty": "",
    "zero": 0,
    "none": [],
    "labels": ["bug", 3, None],
    "user": {"login": "ada", "id": 1},
    "quoted": 'say "hi" \\ ü',
    "System.Title": "dotted",
    "items": [{"name": "x"}, {"name": "y"}],
}

TRUE, FALSE = "payload.yes", "payload.no"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('payload.action == "opened"', True),
        ('payload.action=="opened"', True),
        ('"opened" == payload.action', True),
        ('payload.action == "Opened"', False),
        ('payload.action != "closed"', True),
        ('payload.action != "opened"', False),
        ("payload.n == 7", True),
        ("payload.n == 7.0", True),
        ("payload.half == 0.5", True),
        ("payload.n == -7", False),
        ("payload.yes == true", True),
        ("payload.no == false", True),
        ("payload.nothing == null", True),
        (r'payload.quoted == "say \"hi\" \\ \u00fc"', True),
        ("payload.System.Title == \"dotted\"", True),
        ('payload.items.1.name == "y"', True),
        ("payload.user.id == payload.user.id", True),
        ("payload.user.id == payload.n", False),
        # no type passes for another
        ('payload.n == "7"', False),
        ("payload.yes == 1", False),
        ("payload.zero == false", False),
        ("payload.empty == null", False),
        ("payload.none == null", False),
        ("payload.zero == null", False),
        # what is not there is null
        ("payload.missing == null", True),
        ("payload.missing != null", False),
        ("payload.missing == payload.nothing", True),
        ('payload.missing == ""', False),
        ("payload.items.7.name == null", True),
        # whether it is there
        ("payload.action", True),
        ("payload.missing", False),
        ("payload.nothing", False),
        ("payload.no", False),
        ("payload.zero", True),
        ("payload.empty", True),
        ("payload.none", True),
        ("payload", True),
        # in
        ('payload.action in ["opened", "reopened"]', True),
        ('payload.action in ["closed"]', False),
        ("payload.action in []", False),
        ("payload.n in [1, 7]", True),
        ("payload.yes in [1]", False),
        ("payload.missing in [null]", True),
        ('"bug" in payload.labels', True),
        ("3 in payload.labels", True),
        ("null in payload.labels", True),
        ('"feature" in payload.labels', False),
        ('"pen" in payload.action', True),
        ('"login" in payload.user', True),
        ('"ada" in payload.user', False),
        ('"x" in payload.missing', False),
        ("7 in payload.n", False),
        ("3 in payload.action", False),
        ('payload.action not in ["closed"]', True),
        ('payload.action not in ["opened"]', False),
        ('"x" not in payload.missing', True),
        # what binds how
        (f"{TRUE} or {FALSE} and {FALSE}", True),
        (f"({TRUE} or {FALSE}) and {FALSE}", False),
        (f"{FALSE} and {FALSE} or {TRUE}", True),
        (f"not {TRUE} or {TRUE}", True),
        (f"not ({TRUE} or {TRUE})", False),
        (f"not {FALSE} and {FALSE}", False),
        (f"not not {TRUE}", True),
        ('not payload.action == "closed"', True),
        ('not payload.action in ["closed"]', True),
        (f"{TRUE} and {TRUE} and {FALSE}", False),
        (f"{FALSE} or {FALSE} or {TRUE}", True),
        (f"\n( {TRUE}\n\tand\n not(payload.no) )\n", True),
    ],
)  # fmt: skip
def test_a_filter_holds_or_it_does_not(text: str, holds: bool) -> None:
    assert read_filter(text)(PAYLOAD) is holds


@pytest.mark.parametrize(
    ("text", "payload", "holds"),
    [
        ('payload == "ping"', "ping", True),
        ('"fire" in payload', "the printer is on fire", True),
        ("payload.0 == 1", [1, 2], True),
        ("2 in payload", [1, 2], True),
        ("payload", None, False),
        ("payload == null", None, True),
        ("payload.a.b", "text", False),
        ("payload.a.b", 7, False),
    ],
)
def test_a_payload_may_be_anything(text: str, payload: Any, holds: bool) -> None:
    assert read_filter(text)(payload) is holds


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "its end"),
        ("   ", "its end"),
        ("payload.a ==", "its end"),
        ("payload.a = 1", "'= 1'"),
        ("payload.a === 1", "'= 1'"),
        ("payload.a == opened", "'opened'"),
        ("payload.a == 'opened'", '"\'opened\'"'),
        ('payload.a == "opened', "opened"),
        ("action == 1", "'action'"),
        ("payloads.a == 1", "'.a == 1'"),
        ("payload. == 1", "'. == 1'"),
        ("payload..a == 1", "dots"),
        ("payload.a > 1", "'> 1'"),
        ("payload.a && payload.b", "'&&"),
        ("payload.a and", "its end"),
        ("payload.a or or payload.b", "'or'"),
        ("and payload.a", "'and'"),
        ("not", "its end"),
        ("(payload.a", "its end"),
        ("payload.a)", "')'"),
        ("()", "')'"),
        ("payload.a payload.b", "'payload.b'"),
        ("payload.a == 1 == 1", "'=='"),
        ("payload.a not == 1", "'=='"),
        ("payload.a in [1 2]", "'2'"),
        ("payload.a in [1,", "its end"),
        ("payload.a in [,]", "','"),
        ("payload.a in [payload.b]", "'payload.b'"),
        ("payload.a in [[1]]", "'['"),
        ("true", "its end"),
        ('"text"', "its end"),
        ("7 and payload.a", "'and'"),
        ("payload.a == 007", "007"),
        ("payload.a == 1.", "1."),
        ("payload.a == 1x", "1x"),
        ('payload.a == "\\x"', "x"),
        ('payload.a == "two\nlines"', "two"),
        ("payload.a == None", "'None'"),
        ("__import__('os')", "'os'"),
        ("payload.a().b", "'.b'"),
        ("(" * 51 + "payload" + ")" * 51, "50 deep"),
        ("not " * 60 + "payload", "50 deep"),
        ("payload" + ".a" * 51, "no field"),
        ("payload.a or " * 200, "at most 2,000"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_in_a_sentence(text: str, shown: str) -> None:
    with pytest.raises(InvalidError) as error:
        read_filter(text)
    assert error.value.field == "filter"
    assert str(error.value).startswith("the filter can't be read: ")
    assert shown in str(error.value)
    assert "\n" not in str(error.value)


def test_as_many_alternatives_as_fit_are_no_nesting() -> None:
    text = " or ".join(f"payload.n=={number}" for number in range(100))
    assert read_filter(text)({"n": 99}) is True
    assert read_filter(text)({"n": 100}) is False


SIGNS = ("==", "!=", "in", "not", "and", "or", "(", ")", "[", "]", ",", "=")
VALUES = (
    "payload",
    "payload.a",
    "payload.a.0",
    "true",
    "null",
    "7",
    "-1",
    "0.5",
    '"a"',
    '"\\u0000"',
    "' '",
    "\x00",
)
WORDS = st.sampled_from((*SIGNS, *VALUES))
PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab0"), inner, max_size=3),
    max_leaves=8,
)
OPERANDS = st.sampled_from(
    ["payload", "payload.a", "payload.b", "payload.a.0", "null", "7", '"a"', '[1, "a", null]']
)
COMPARISONS = st.builds(
    lambda left, sign, right: f"{left} {sign} {right}",
    OPERANDS, st.sampled_from(["==", "!=", "in", "not in"]), OPERANDS,
)  # fmt: skip
CONDITIONS = st.recursive(
    COMPARISONS | st.just("payload.a"),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner) | inner.map("not {}".format)
    ),
    max_leaves=10,
)  # fmt: skip


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(), PAYLOADS)
def test_any_text_is_a_filter_that_answers_or_a_sentence(text: str, payload: Any) -> None:
    try:
        holds = read_filter(text)
    except InvalidError:
        return
    assert isinstance(holds(payload), bool)


@given(CONDITIONS, CONDITIONS, PAYLOADS)
def test_conditions_combine_as_in_logic(one: str, other: str, payload: Any) -> None:
    first, second = read_filter(one)(payload), read_filter(other)(payload)
    assert read_filter(f"{one} and {other}")(payload) is (first and second)
    assert read_filter(f"{one} or {other}")(payload) is (first or second)
    assert read_filter(f"not ({one}) or {other}")(payload) is ((not first) or second)
