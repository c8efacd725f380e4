"""Filters: which deliveries they want, and what is no filter."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_runner.errors import InvalidError
from claude_runner.webhooks import read_filter
from claude_runner.webhooks._filters import MAX_FILTER
from tests.test_webhook_templates import JSON

PULL: dict[str, Any] = {
    "action": "opened",
    "number": 7,
    "half": 0.5,
    "draft": False,
    "merged": True,
    "milestone": None,
    "empty": "",
    "zero": 0,
    "labels": ["bug", "urgent"],
    "user": {"login": "ada", "x-y": 1},
    "fields": {"System.State": "New"},
}


@pytest.mark.parametrize(
    "text",
    [
        'payload.action == "opened"',
        'payload.action != "closed"',
        '"opened" == payload.action',
        "payload.number == 7",
        "payload.number == 7.0",
        "payload.half == 0.5",
        "payload.draft == false",
        "payload.merged == true",
        "payload.milestone == null",
        "payload.nowhere == null",
        'payload.nowhere != "x"',
        'payload.action in ["opened", "reopened"]',
        'payload.action not in ["closed"]',
        '"bug" in payload.labels',
        '"wontfix" not in payload.labels',
        '"open" in payload.action',
        '"login" in payload.user',
        'payload.labels.1 == "urgent"',
        'payload.labels == ["bug", "urgent"]',
        'payload.fields.System.State == "New"',
        "payload.user.x-y == 1",
        "payload.user.login == payload.user.login",
        "payload.merged",
        "payload.zero",
        "payload.empty",
        "payload.user",
        "not payload.draft",
        "not payload.nowhere",
        "not not payload.merged",
        "payload",
        'payload.action == "closed" or payload.number == 7 and payload.merged',
        '(payload.action == "opened" or payload.nowhere) and not (payload.draft or payload.milestone)',
        'payload.action in []  or payload.number in [1, 7, -3, "x", null, true]',
        '  payload.action=="opened"  ',
    ],
)
def test_a_delivery_is_wanted(text: str) -> None:
    assert read_filter(text)(PULL) is True


@pytest.mark.parametrize(
    "text",
    [
        'payload.action == "closed"',
        'payload.number == "7"',
        "payload.merged == 1",
        "payload.zero == false",
        "payload.merged in [1]",
        "payload.nowhere",
        "payload.milestone",
        "payload.draft",
        "payload.number in payload.action",
        '"x" in payload.number',
        '"x" in payload.nowhere',
        "payload.action == payload.user",
        'payload.action == "opened" and payload.draft',
        'not payload.action == "opened"',
        'not payload.action in ["opened"]',
    ],
)
def test_a_delivery_is_not_wanted(text: str) -> None:
    assert read_filter(text)(PULL) is False


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has 'its end' where a field or a value belongs"),
        ("payload.a ==", "has 'its end'"),
        ("payload.a = 1", "'= 1' is nothing that it can have"),
        ("payload.a < 1", "'< 1' is nothing"),
        (
            "payload.a == opened",
            "has 'opened' where a field or a value belongs; texts stand in double quotes",
        ),
        ("payload.a == 'opened'", "is nothing"),
        ("payload.a == 1and payload.b", "is nothing"),
        ("payload.a 1", "has '1' where 'its end' belongs"),
        ("payload.a payload.b", "'payload.b'"),
        ("(payload.a", "has 'its end' where ')' belongs"),
        ("payload.a)", "has ')' where 'its end' belongs"),
        ('payload.a in ["x" "y"]', "where ',' belongs"),
        ('payload.a in ["x",]', "has ']' where a field or a value belongs"),
        ("payload.a in [payload.b]", "has 'payload.b'"),
        ("payload.a not == 1", "where ==, != or in belongs"),
        ('"opened"', "where ==, != or in belongs"),
        ("payload..a", "two dots"),
        ("payloads.a == 1", "is nothing"),
        ('__import__("os")', "has '__import__'"),
        ('payload.a == "\\x"', "is no text or number"),
        ('payload.a == "never closed', "is nothing"),
        ('payload.a == "two\nlines"', r"two\nlines"),
        ("payload.a == " + "9" * 1990, "where"),
        ("(" * 51 + "payload.a" + ")" * 51, "nested more than 50 deep"),
        ("not " * 51 + "payload.a", "nested more than 50 deep"),
        ("payload.a " + " " * MAX_FILTER, "at most 2,000"),
    ],
)
def test_what_is_no_filter_is_refused_in_a_sentence(text: str, why: str) -> None:
    if text.endswith("9" * 1990):  # a number that large is one all the same
        text += "9" * 20
        why = "at most 2,000"
    with pytest.raises(InvalidError, match="the filter can't be read") as error:
        read_filter(text)
    assert error.value.field == "filter"
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_the_deepest_filter_holds() -> None:
    assert read_filter("(" * 49 + "payload.merged" + ")" * 49)(PULL)


WORDS = ["payload", "payload.action", "payload.labels", "payload.a.b", "==", "!=", "in", "not", "and", "or", "(", ")",
         "[", "]", ",", '"opened"', "7", "-1.5", "true", "null"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), JSON)
def test_whatever_is_written_is_a_filter_or_refused(text: str, payload: Any) -> None:
    try:
        holds = read_filter(text)
    except InvalidError:
        return
    assert holds(payload) in {True, False}
    assert holds(PULL) in {True, False}


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    with suppress(InvalidError):
        assert read_filter(text)(PULL) in {True, False}
