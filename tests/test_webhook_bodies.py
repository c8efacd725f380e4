"""Bodies: what they become, and what can't be read."""

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_runner.webhooks import MalformedError, read_payload
from claude_runner.webhooks._bodies import MAX_DEPTH
from tests.test_webhook_templates import JSON

FORM = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


@pytest.mark.parametrize(
    "kind",
    [
        JSON_TYPE,
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        "application/ld+json",
        "",
    ],
)
def test_json_is_taken_as_it_is(kind: str) -> None:
    assert read_payload('{"a": [1, "ä"]}'.encode(), kind) == {"a": [1, "ä"]}


@given(JSON)
def test_whatever_is_json_is_read(value: Any) -> None:
    assert read_payload(json.dumps(value).encode(), JSON_TYPE) == value


def test_a_form_is_an_object_of_texts() -> None:
    body = b"name=Ada+L&note=%C3%A4&empty=&tag=a&tag=b&tag=c"
    assert read_payload(body, FORM) == {"name": "Ada L", "note": "ä", "empty": "", "tag": ["a", "b", "c"]}


def test_a_form_with_a_payload_alone_is_what_that_says() -> None:
    body = urlencode({"payload": '{"action": "opened"}'}).encode()
    assert read_payload(body, FORM) == {"action": "opened"}
    assert read_payload(body + b"&more=1", FORM) == {"payload": '{"action": "opened"}', "more": "1"}
    assert read_payload(b"payload=text", FORM) == {"payload": "text"}


def test_json_that_curl_calls_a_form_is_read() -> None:
    assert read_payload(b' {"a": "1 & 2"}', FORM) == {"a": "1 & 2"}


def test_a_plain_text_is_one() -> None:
    assert read_payload(b'{"a": 1}', "text/plain; charset=us-ascii") == '{"a": 1}'


def test_a_body_without_a_type_is_json_or_a_text_or_nothing() -> None:
    assert read_payload(b"disk is full", "") == "disk is full"
    assert read_payload(b"", "") is None


def test_a_mark_of_the_byte_order_is_passed_over() -> None:
    assert read_payload(b'\xef\xbb\xbf{"a": 1}', JSON_TYPE) == {"a": 1}


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    assert read_payload(b'{"a": 1, "a": 2}', JSON_TYPE) == {"a": 2}


DEEP = b"[" * 200_000
NESTED = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("body", "kind", "why"),
    [
        (b"", JSON_TYPE, "not JSON"),
        (b'{"a": 1', JSON_TYPE, "not JSON"),
        (b"{'a': 1}", JSON_TYPE, "not JSON"),
        (b'{"a": NaN}', JSON_TYPE, "NaN is no number of JSON"),
        (b"[-Infinity]", JSON_TYPE, "-Infinity is no number of JSON"),
        (b"[1e999]", JSON_TYPE, "1e999 is too large a number"),
        (b"[" + b"9" * 5000 + b"]", JSON_TYPE, "not JSON"),
        (b'"\xff"', JSON_TYPE, "not UTF-8: byte 1 is 0xff"),
        (DEEP, JSON_TYPE, "nested more than 100 deep"),
        (NESTED, JSON_TYPE, "nested more than 100 deep"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, JSON_TYPE, "nested more than 100 deep"),
        (b"a=%ff", FORM, "no form"),
        (b"&".join(b"a=1" for _ in range(1001)), FORM, "no form"),
        (b"payload=%7B", FORM, "not JSON"),
        (b"{oops", "", "not JSON"),
        (b"\xff", "text/plain", "not UTF-8"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_400(body: bytes, kind: str, why: str) -> None:
    with pytest.raises(MalformedError) as error:
        read_payload(body, kind)
    assert why in str(error.value)
    assert error.value.status == 400
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("application/xml", ""),
        ("multipart/form-data; boundary=x", ""),
        ("application/json; charset=utf-16", ""),
        (JSON_TYPE, "gzip"),
    ],
)
def test_what_is_of_another_type_is_refused_with_415(kind: str, encoding: str) -> None:
    with pytest.raises(MalformedError) as error:
        read_payload(b"{}", kind, encoding)
    assert error.value.status == 415


def test_what_is_nested_as_deep_as_may_be_is_read() -> None:
    assert read_payload(NESTED[1:-1], JSON_TYPE)
    assert len(read_payload(b"[" + b"[]," * 500 + b"[]]", JSON_TYPE)) == 501


@given(st.binary(max_size=60), st.sampled_from([JSON_TYPE, FORM, "text/plain", "", "x/y", ";;charset"]))
@example(b"\x00", "")
def test_no_body_does_harm(body: bytes, kind: str) -> None:
    with suppress(MalformedError):
        json.dumps(read_payload(body, kind))
